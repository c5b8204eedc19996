"""Words for states, answers and entries, for the console's pages."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from federation.round_selectors import STATE_WORDS

PEER_WORDS = {"joined": _("member"), "left": _("has left"), "removed": _("was removed")}
STANDING_WORDS = {
    "member": _("member"), "joining": _("has asked to be admitted; the coordinator has not answered yet"),
    "refused": _("not admitted"), "left": _("has left"), "removed": _("was removed by the coordinator"),
}  # fmt: skip
BALLOT_WORDS = {"accept": _("accepts"), "reject": _("rejects"), "abstain": _("abstains")}
CHECKED_WORDS = {
    "agrees": _("added up here too: the same"), "differs": _("added up here: another sum"),
    "too large": _("too large to be added up here"), "": _("not added up here yet"),
}  # fmt: skip
ANSWER_WORDS = {
    "approve": _("approved"), "decline": _("declined"), "dropped": _("takes no further part"),
    "withdrawn": _("taken back"), "": _("not answered yet"),
}  # fmt: skip
KIND_WORDS = {
    "Join": _("asks to join"),
    "Confirm": _("confirms a key"),
    "Unconfirm": _("trusts a key no longer"),
    "Rotate": _("changes its key"),
    "Leave": _("leaves"),
    "Removed": _("removes a site"),
    "Propose": _("proposes a round"),
    "Asked": _("opens a round for answers"),
    "Answer": _("answers a round"),
    "Answered": _("closes the answers"),
    "Drop": _("takes no further part"),
    "StopRound": _("stops its round"),
    "SumBegun": _("begins a secure sum"),
    "Advert": _("sends its keys for a sum"),
    "KeysClosed": _("closes the keys"),
    "Shares": _("sends sealed shares"),
    "SharesClosed": _("closes the shares"),
    "Trained": _("has its input ready"),
    "Masked": _("hands over its masked input"),
    "InputsClosed": _("names whose input is in"),
    "Signed": _("signs whose input is in"),
    "Unmask": _("gives shares of masks"),
    "Opened": _("publishes an opened sum"),
    "Failed": _("ends a sum unopened"),
    "Checked": _("has added a sum up itself"),
    "CandidateAsked": _("asks for votes"),
    "Vote": _("votes"),
    "Published": _("publishes a model"),
    "Adopted": _("uses a model"),
    "Aborted": _("ends a round"),
}

#: What the template filter `words` may ask.
TABLES: Final[dict[str, dict[str, Any]]] = {
    "peer": PEER_WORDS, "standing": STANDING_WORDS, "ballot": BALLOT_WORDS, "checked": CHECKED_WORDS,
    "answer": ANSWER_WORDS, "kind": KIND_WORDS, "round": STATE_WORDS,
}  # fmt: skip
