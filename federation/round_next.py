"""What happens next in a round, in sentences: who is waited for, until when, and what happens without them.

The rules are those of `services.advancing`, said in words; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from federation.models import Peer, Round, SecureSum
from federation.moments import at, sum_due, when
from federation.peer_selectors import health_words, is_silent
from federation.plans import RoundPlan
from federation.secagg import rules

Sentences = tuple[str, ...]
GONE: Final = ("invited", "declined", "dropped")  # takes no part, or no further part
_ANSWERS: Final = {"keys": "advert", "shares": "share", "inputs": "masked", "survivors": "unmask"}
_THINGS: Final = {
    "keys": "keys", "shares": "sealed shares", "inputs": "masked input",
    "survivors": "confirmation of the sum",
}  # fmt: skip


def next_words(round_: Round, plan: RoundPlan) -> Sentences:
    """Sentences for the state that a round is in now."""
    return _WORDS[round_.state](round_, plan)


def _proposed(round_: Round, plan: RoundPlan) -> Sentences:
    return ("The coordinator opens the round for answers next.",)


def _approving(round_: Round, plan: RoundPlan) -> Sentences:
    rows = list(round_.participations.select_related("peer"))
    waited = [row.peer for row in rows if row.state == "invited"]
    yes = sum(row.state not in GONE for row in rows)
    until = when(at(plan.schedule.answer_by))
    found = [f"{yes} of {len(rows)} hospitals have approved; {plan.minimum_participants} are needed."]
    if not waited:
        return (*found, "All have answered. Counting begins next.")
    found.append(f"Waiting for {titles(waited)} until {until}.")
    found += [
        f"{peer.title}: {health_words(peer)} {_without(yes, plan.minimum_participants, yes, until)}"
        for peer in waited
        if is_silent(peer)
    ]
    if yes < plan.minimum_participants:
        found.append("If too few have approved by then, the round ends and nothing is opened.")
    return tuple(found)


def _running(round_: Round, plan: RoundPlan) -> Sentences:
    total = round_.sums.order_by("-pk").first()
    if total is None or total.state in ("opened", "failed"):
        return ("The coordinator begins the next secure sum.",)
    return _sum(round_, plan, total)


def _sum(round_: Round, plan: RoundPlan, total: SecureSum) -> Sentences:
    """Who owes a message of the step in hand, and whether the sum can do without."""
    sent = set(total.messages.filter(kind=_ANSWERS[total.state]).values_list("site", flat=True))
    expected = {"survivors": total.survivors}.get(total.state) or total.keyed or total.sites
    gone = set(round_.participations.filter(state__in=GONE).values_list("peer__name", flat=True))
    owing = sorted(set(expected) - sent - gone)
    if not owing:
        return ("All have sent what this step needs. The coordinator goes on.",)
    peers = list(Peer.objects.filter(name__in=owing))
    until = _until(total)
    found = [f"Waiting for {_THINGS[total.state]} from {titles(peers)}, until {until}."]
    silent = [peer for peer in peers if is_silent(peer)]
    rest = len(set(expected) - gone) - len(silent)
    found += [f"{peer.title}: {health_words(peer)}" for peer in silent]
    if silent:
        found.append(_without(rest, _needed(plan, total), rest, until))
    return tuple(found)


def _needed(plan: RoundPlan, total: SecureSum) -> int:
    """How many the step in hand needs. Missing shares begin a new attempt, as small as the plan allows."""
    if total.state == "shares":
        return max(plan.minimum_participants, rules.MINIMUM_REMAINING)
    return max(rules.threshold(len(total.sites)), rules.MINIMUM_REMAINING)


def _without(rest: int, needed: int, going_on: int, until: str) -> str:
    if rest >= needed:
        return f"Without it the round goes on with {going_on} hospitals at {until}."
    return f"Without it the round ends at {until}, with nothing more opened: {needed} hospitals are needed."


def _until(total: SecureSum) -> str:
    until = sum_due(total)
    return when(until) if until else "the end of this step"


def _validating(round_: Round, plan: RoundPlan) -> Sentences:
    total = round_.sums.order_by("-pk").first()
    if total is not None and total.purpose == "centroids":
        accepted = "The candidate is accepted; sums of embeddings for comparing cases follow."
        ended = total.state in ("opened", "failed")
        return (accepted, *(() if ended else _sum(round_, plan, total)))
    rows = round_.participations.exclude(state__in=GONE).select_related("peer")
    waited = [row.peer for row in rows if not row.ballot]
    until = when(at(round_.moments["validating"] + 1000 * plan.schedule.vote_seconds))
    if not waited:
        return ("All have voted. The coordinator counts the votes.",)
    found = [
        f"Each hospital tries the result on its own patients and votes, until {until}. {plan.vote.quorum} "
        f"must accept. Waiting for {titles(waited)}."
    ]
    found += [f"{peer.title}: {health_words(peer)}" for peer in waited if is_silent(peer)]
    return tuple(found)


def _published(round_: Round, plan: RoundPlan) -> Sentences:
    done = round_.participations.filter(state="done").count()
    rows = round_.participations.exclude(state__in=GONE).count()
    return (f"The model is published; {done} of {rows} hospitals use it.",)


def _aborted(round_: Round, plan: RoundPlan) -> Sentences:
    opened = sorted(set(round_.sums.filter(state="opened").values_list("purpose", flat=True)))
    what = f"Opened by then: {', '.join(opened)}." if opened else "Nothing was opened."
    return (f"The round ended: {round_.reason or 'no reason was given.'}", what)


def titles(peers: Iterable[Peer]) -> str:
    """Names as people read them, in one line."""
    found = [peer.title for peer in peers]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


_WORDS: Final[dict[str, Callable[[Round, RoundPlan], Sentences]]] = {
    "proposed": _proposed, "approving": _approving, "counting": _running, "keying": _running,
    "training": _running, "collecting": _running, "unmasking": _running, "validating": _validating,
    "published": _published, "aborted": _aborted,
}  # fmt: skip
