"""What the coordinator says next in a round: one rule per state, from the transcript and the clock alone.

A rule returns (body, key) or None while there is something to wait for. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from federation import kinds
from federation.clock import milliseconds
from federation.errors import FederationError
from federation.learning.errors import LearningError
from federation.models import Round, SecureSum, TranscriptLink
from federation.moments import sum_due
from federation.plans import RoundPlan, parse_plan, update_words, vocabulary_of
from federation.secagg import rules
from federation.services import results
from federation.services.projection_rounds import accepted, live_sites
from federation.services.projection_sums import sum_name

Following = tuple[Any, str] | None
#: Once enough sites have answered to open a sum, the others have so long to answer too.
GRACE_MS: Final = 5_000
EMBEDDING_SIZE: Final = 512


def following(round_: Round, now: int) -> Following:
    """The next thing to say in this round, or None. What cannot go on is aborted with the reason."""
    try:
        return _stopped(round_) or RULES[round_.state](round_, parse_plan(round_.plan), now)
    except (FederationError, LearningError) as error:
        return _aborted(round_, str(error))


def due(total: SecureSum) -> int:
    """When the step in hand must be over, milliseconds since 1970."""
    moment = sum_due(total)
    assert moment is not None  # only asked while a step is in hand
    return milliseconds(moment)


def _aborted(round_: Round, reason: str) -> Following:
    return kinds.Aborted(round_.sha256, reason[:300]), f"aborted/{round_.sha256}"


def _stopped(round_: Round) -> Following:
    asked = TranscriptLink.objects.filter(kind="StopRound", key=f"stop/{round_.sha256}").first()
    if asked is None or asked.author != round_.proposer.name:
        return None
    return _aborted(round_, f"{round_.proposer.title} stopped its round.")


def _proposed(round_: Round, plan: RoundPlan, now: int) -> Following:
    if plan.vocabulary_sha256 != vocabulary_of(results.vocabulary()):
        return _aborted(round_, "The coordinator has another syndrome catalogue than the plan. Update it.")
    return kinds.Asked(round_.sha256), f"asked/{round_.sha256}"


def _approving(round_: Round, plan: RoundPlan, now: int) -> Following:
    waiting = round_.participations.filter(state="invited").exists()
    if waiting and now < plan.schedule.answer_by:
        return None
    live = live_sites(round_)
    if len(live) < plan.minimum_participants:
        return _aborted(
            round_, f"{len(live)} hospitals take part; the plan needs {plan.minimum_participants}."
        )
    return kinds.Answered(round_.sha256, tuple(live)), f"answered/{round_.sha256}"


# --- sums ---


def _latest(round_: Round) -> SecureSum | None:
    return round_.sums.order_by("-pk").first()


def _begin(round_: Round, plan: RoundPlan, purpose: Any, member: str = "") -> Following:
    """The next attempt of a sum, or the end of the round when too few sites are left."""
    live = live_sites(round_)
    if len(live) < plan.minimum_participants:
        return _aborted(
            round_,
            f"{len(live)} hospitals remain; the plan needs {plan.minimum_participants}. Nothing was opened.",
        )
    attempt = 1 + round_.sums.filter(purpose=purpose, member=member).count()
    name = sum_name(round_.sha256, purpose, member, attempt)
    words = _words(round_, plan, purpose, member)
    body = kinds.SumBegun(
        sum=name, round=round_.sha256, purpose=purpose, member=member, attempt=attempt, sites=tuple(live),
        words=words, bits=32 if purpose == "update" else 64,
    )  # fmt: skip
    return body, f"begun/{name}"


def _words(round_: Round, plan: RoundPlan, purpose: str, member: str) -> int:
    if purpose == "presence":
        return plan.vocabulary_size
    classes = len(results.open_identifiers(round_))
    if purpose == "counts":
        return classes
    counted = len(results.open_counts(round_))
    if purpose == "centroids":
        return counted * (1 + results.ensemble_rows(plan) * EMBEDDING_SIZE)
    return update_words(plan.member(member), counted)


def _running(round_: Round, plan: RoundPlan, now: int) -> Following:
    """Counting, and everything between keys and the opened sum of the last member."""
    total = _latest(round_)
    if total is None:
        return _begin(round_, plan, "presence")
    if total.state == "failed":
        return _begin(round_, plan, total.purpose, total.member)
    if total.state == "opened":
        return _after(round_, plan, total)
    return STEPS[total.state](round_, total, now)


def _after(round_: Round, plan: RoundPlan, total: SecureSum) -> Following:
    if total.purpose == "presence":
        if len(results.open_identifiers(round_)) < 2:
            return _aborted(round_, f"Fewer than two syndromes have {plan.k} patients at one hospital.")
        return _begin(round_, plan, "counts")
    names = [member.name for member in plan.members]
    if total.purpose == "counts":
        if len(results.open_counts(round_)) < 2:
            return _aborted(round_, "Fewer than two syndromes are open after hospitals dropped out.")
        return _begin(round_, plan, "update", names[0])
    place = names.index(total.member) + 1
    if place < len(names):
        return _begin(round_, plan, "update", names[place])
    return kinds.CandidateAsked(round_.sha256), f"candidate/{round_.sha256}"


def _fail(total: SecureSum, reason: str, blamed: list[str]) -> Following:
    return kinds.Failed(total.name, reason, tuple(sorted(blamed))), f"ended/{total.name}"


def _enough(sites: list[str], total: SecureSum) -> bool:
    needed = max(rules.threshold(len(total.sites)), rules.MINIMUM_REMAINING)
    return len(sites) >= needed


def _keys(round_: Round, total: SecureSum, now: int) -> Following:
    live = set(live_sites(round_))
    sent = sorted(live & set(total.messages.filter(kind="advert").values_list("site", flat=True)))
    missing = sorted(live & set(total.sites) - set(sent))
    if missing and now < due(total):
        return None
    if not _enough(sent, total):
        return _fail(total, "Too few hospitals sent keys in time.", missing)
    return kinds.KeysClosed(total.name, tuple(sent)), f"keys/{total.name}"


def _shares(round_: Round, total: SecureSum, now: int) -> Following:
    dealt = set(total.messages.filter(kind="share").values_list("site", flat=True))
    late = sorted(set(total.keyed) - dealt)
    if not late:
        return kinds.SharesClosed(total.name), f"shares/{total.name}"
    gone = set(late) - set(live_sites(round_))
    if now < due(total) and not gone:
        return None
    return _fail(total, "A hospital sent keys and no shares, without which nobody can mask.", late)


def _inputs(round_: Round, total: SecureSum, now: int) -> Following:
    sent = sorted(total.messages.filter(kind="masked").values_list("site", flat=True))
    missing = set(total.keyed) - set(sent)
    if missing & set(live_sites(round_)) and now < due(total):
        return None
    if not _enough(sent, total):
        return _aborted(
            round_,
            f"{len(sent)} hospitals sent their masked input; too few to open a sum. Nothing was opened.",
        )
    return kinds.InputsClosed(total.name, tuple(sent)), f"inputs/{total.name}"


def _survivors(round_: Round, total: SecureSum, now: int) -> Following:
    """Opening itself is summing_up's: here only the end of waiting for signatures and answers."""
    answers = set(total.messages.filter(kind="unmask").values_list("site", flat=True))
    may_still = answers | set(total.survivors) & set(live_sites(round_))
    if _enough(list(answers), total) or (_enough(list(may_still), total) and now < due(total)):
        return None
    return _aborted(
        round_, "Too few hospitals confirmed the sum in time. It was not opened; a next attempt for this "
        "base model can only be over the same hospitals."
    )  # fmt: skip


# --- the vote ---


def _validating(round_: Round, plan: RoundPlan, now: int) -> Following:
    total = _latest(round_)
    if total is not None and total.purpose == "centroids":
        return _centroids(round_, plan, total, now)
    rows = round_.participations.filter(peer__name__in=live_sites(round_))
    deadline = round_.moments["validating"] + 1000 * plan.schedule.vote_seconds
    if rows.filter(ballot="").exists() and now < deadline:
        return None
    members, why_not = accepted(round_)
    if members is None:
        return _aborted(round_, f"The candidate was not accepted: {why_not}")
    begun = _begin(round_, plan, "centroids")
    return begun if begun and isinstance(begun[0], kinds.SumBegun) else _published(round_, "")


def _centroids(round_: Round, plan: RoundPlan, total: SecureSum, now: int) -> Following:
    """The model is accepted already: if its centroids cannot be summed, it is published without."""
    if total.state in ("opened", "failed"):
        return _published(round_, total.name if total.state == "opened" else "")
    found = STEPS[total.state](round_, total, now)
    if found is not None and isinstance(found[0], kinds.Aborted):
        return _fail(total, found[0].reason, [])
    return found


def _published(round_: Round, centroids: str) -> Following:
    members, _ = accepted(round_)
    made = tuple(kinds.MadeMember(**member) for member in members or [])
    return kinds.Published(round_.sha256, made, centroids), f"published/{round_.sha256}"


STEPS: Final[dict[str, Callable[[Round, SecureSum, int], Following]]] = {
    "keys": _keys, "shares": _shares, "inputs": _inputs, "survivors": _survivors,
}  # fmt: skip
RULES: Final[dict[str, Callable[[Round, RoundPlan, int], Following]]] = {
    "proposed": _proposed, "approving": _approving, "counting": _running, "keying": _running,
    "training": _running, "collecting": _running, "unmasking": _running, "validating": _validating,
}  # fmt: skip

__all__ = ["GRACE_MS", "following"]
