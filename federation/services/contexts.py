"""What every key and signature of a secure sum is bound to, computed alike by coordinator and sites."""

from __future__ import annotations

from federation.models import Membership, SecureSum
from federation.plans import parse_plan
from federation.secagg import wire
from federation.services import results
from federation.transcript import digest


def roster_of(total: SecureSum) -> dict[str, bytes]:
    """Participant → its Ed25519 key (32 bytes), as the plan that the admins signed names it."""
    keys = parse_plan(total.round.plan).keys
    return {site: bytes.fromhex(keys[site]) for site in total.sites}


def purpose_of(total: SecureSum) -> str:
    """Purpose and member: "update/compact". Openings are remembered by it."""
    return f"{total.purpose}/{total.member}" if total.member else total.purpose


def context_of(total: SecureSum, membership: Membership) -> wire.Context:
    """The context of one attempt. Its plan hash covers everything that this sum was computed from.

    Presence: the round's plan. Counts: also the opened presence sum. Updates and centroids: the training
    plan, which follows from plan, counts and participants. Centroids also name the accepted candidate.
    """
    plan = parse_plan(total.round.plan)
    return wire.Context(
        federation=membership.federation, round=total.round.sha256, attempt=total.attempt,
        purpose=purpose_of(total), roster=wire.roster_digest(roster_of(total)),
        base_model=plan.base_sha256, plan=_plan_hash(total), quantiser=QUANTISERS[total.purpose],
        words=total.words, bits=total.bits,
    )  # fmt: skip


#: How numbers become words. Ranges of updates stand in the training plan.
QUANTISERS = {
    "presence": "uniform words", "counts": "whole numbers",
    "update": "round(p x (2^31 - 1 - n) / r)", "centroids": "2^-40",
}  # fmt: skip


def _plan_hash(total: SecureSum) -> str:
    round_ = total.round
    if total.purpose == "presence":
        return round_.sha256
    presence = results.opened_sum(round_, "presence")
    if total.purpose == "counts":
        return digest("counts", [round_.sha256, presence.result if presence else ""])
    training = results.training_plan_of(round_, total.sites).sha256
    if total.purpose == "update":
        return digest("update", [round_.sha256, training])
    from federation.services.projection_rounds import accepted

    members, _ = accepted(round_)
    return digest("centroids", [round_.sha256, training, members])
