"""Whether this site takes part in a sum that the coordinator has begun: everything is computed again here.

A sum is refused unless this site's own admin signed the plan, every participant's key was confirmed by this
site, and length and ring are those that this site finds for itself. So a changed plan, roster or model, or a
site that nobody here knows, ends in a refusal and never in a message.
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.learning.config import encode_plan
from federation.models import Approval, OwnSum, Round, SecureSum
from federation.peer_selectors import keys_confirmed
from federation.plans import RoundPlan, parse_plan, update_words, vocabulary_of
from federation.secagg import rules, wire
from federation.services import results
from federation.services.own import membership_now

EMBEDDING_SIZE = 512


class SumRefused(Exception):
    """This site takes no part in the sum; the sentence says why and may be shown to admins."""


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise SumRefused(sentence)


def sum_check(total: SecureSum) -> None:
    """SumRefused unless this site may and wants to take part in exactly this sum."""
    plan = parse_plan(total.round.plan)
    _approved(total.round)
    _participants(total, plan)
    _earlier_checked(total)
    _require(total.words == expected_words(total, plan), "The sum has another length than this site finds.")


def _approved(round_: Round) -> None:
    approval = Approval.objects.filter(round=round_, answer="approve").first()
    signed = approval is not None and approval.plan_sha256 == round_.sha256
    _require(signed, "This hospital's admin has not signed the plan of this round.")


def _participants(total: SecureSum, plan: RoundPlan) -> None:
    """Counted from the keys that this site has confirmed: an unconfirmed one counts nowhere."""
    keys, own = plan.keys, membership_now().name
    for site in total.sites:
        _require(site in keys, f"{site} was not invited to this round.")
        _require(
            site == own or is_confirmed(site, keys[site]),
            f"The key of {site} is not confirmed here. Compare its fingerprint under Federation first.",
        )
    least = max(plan.minimum_participants, rules.MINIMUM_REMAINING)
    _require(len(total.sites) >= least, f"{len(total.sites)} hospitals take part and {least} are needed.")
    _require(own in total.sites, "This site is not among the participants.")


def is_confirmed(site: str, public_key: str) -> bool:
    """Whether this site's admin has compared this key's fingerprint and still trusts it."""
    return keys_confirmed().get(site) == public_key


def _earlier_checked(total: SecureSum) -> None:
    """Everything this sum builds on was added up here too, or was too large for that."""
    before = total.round.sums.filter(state="opened", pk__lt=total.pk)
    wrong = OwnSum.objects.filter(sum__in=before).exclude(checked__in=("agrees", "too large"))
    _require(not wrong.exists(), "An earlier sum of this round has not been checked here.")


def expected_words(total: SecureSum, plan: RoundPlan) -> int:
    """How long this sum's input is, from this site's own catalogue and the sums it has checked."""
    names = results.vocabulary()
    if total.purpose == "presence":
        _require(vocabulary_of(names) == plan.vocabulary_sha256, "This site has another syndrome catalogue.")
        return len(names)
    if total.purpose == "counts":
        return len(results.open_identifiers(total.round))
    counted = len(results.open_counts(total.round))
    if total.purpose == "centroids":
        return counted * (1 + results.ensemble_rows(plan) * EMBEDDING_SIZE)
    return update_words(plan.member(total.member), counted)


def training_plan_note(total: SecureSum) -> None:
    """Keep the training plan of this attempt with the round, as this site computed it."""
    text = encode_plan(results.training_plan_of(total.round, total.sites)).decode()
    Round.objects.filter(pk=total.round_id).update(training=text)
    total.round.training = text


def enough(signatures: Sequence[wire.SurvivorSet], own: wire.SurvivorSet | None, total: SecureSum) -> bool:
    """Whether t sites have signed what this site signed, so that waiting is over."""
    if own is None:
        return False
    same = {m.site for m in signatures if (m.survivors, m.keys, m.commitments) ==
            (own.survivors, own.keys, own.commitments)}  # fmt: skip
    return len(same | {own.site}) >= max(rules.threshold(len(total.sites)), rules.MINIMUM_REMAINING)
