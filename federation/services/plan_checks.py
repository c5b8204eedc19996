"""Why this site cannot take part in a plan, in a sentence; "" when it can.

Read when a round is proposed and again before this site's answer: keys, base model and catalogue are those
of this site at that moment, never what the coordinator says they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from diagnosis.errors import ClinicError
from federation.identity import identity_now, public_hex
from federation.learning.config import MINIMUM_K
from federation.learning.errors import PlanRefused
from federation.models import Peer
from federation.peer_selectors import keys_confirmed
from federation.plans import RoundPlan, training_plan, vocabulary_of
from federation.services.base_model import base_now, neck_of
from federation.services.own import membership_now
from federation.services.results import vocabulary

LENGTH: Final = 300


def plan_refusal(plan: RoundPlan) -> str:
    """ "" when this site could take part, or the sentence (at most 300 characters) that says why not."""
    try:
        found = next(_refusals(plan), "")
    except (ClinicError, PlanRefused) as error:
        found = str(error)
    return found[:LENGTH]


def _refusals(plan: RoundPlan) -> Iterator[str]:
    for check in CHECKS:
        sentence = check(plan)
        if sentence:
            yield sentence


def _federation(plan: RoundPlan) -> str:
    membership = membership_now()
    if membership.role != "hospital":
        return "A coordinator takes no part in rounds."
    if plan.federation != membership.federation:
        return "The plan belongs to another federation."
    return ""


def _strategy(plan: RoundPlan) -> str:
    if plan.strategy != "analytic":
        return ""
    return (
        "Closed-form heads open second moments, which tell who took part unless about "
        f"{plan.analytic.minimum_patients:,} patients (N0) remain behind them. Live rounds refuse them for "
        "now; use the experiments."
    )


def _k(plan: RoundPlan) -> str:
    return "" if plan.k >= MINIMUM_K else f"k is at least {MINIMUM_K}: fewer patients would show in a sum."


def _own_key(plan: RoundPlan) -> str:
    invited = plan.keys.get(membership_now().name)
    if invited is None:
        return "This hospital is not invited to this round."
    if invited != public_hex(identity_now()):
        return "The plan invites this hospital with a key that it does not use. Ask for a new proposal."
    return ""


def _others_keys(plan: RoundPlan) -> str:
    """Every invited key was compared here: an unconfirmed one may be the coordinator's own invention."""
    confirmed = keys_confirmed()
    titles = dict(Peer.objects.values_list("name", "title"))
    own = membership_now().name
    for site, key in plan.keys.items():
        if site == own or confirmed.get(site) == key:
            continue
        title = titles.get(site, site)
        if site in confirmed:
            return f"The plan invites {title} with another key than the one confirmed here. Ask {title} why."
        return (
            f"The key of {title} is not confirmed here. Telephone its admin, compare the fingerprint and "
            "confirm it under Members; then answer."
        )
    return ""


def _base(plan: RoundPlan) -> str:
    base = base_now()
    if plan.previous_round != base.previous_round:
        known = "the last one published" if base.previous_round else "a first one, as none was published here"
        return f"The plan follows on another round than {known}. Wait for this site to catch up, or decline."
    asked = {(member.name, member.architecture, member.base_sha256) for member in plan.members}
    if asked != {(member.name, member.architecture, member.sha256) for member in base.members}:
        known = "the federation's last model" if base.previous_round else "the model in use here"
        return f"The plan starts from other networks than {known}. Decline, and ask its proposer."
    if plan.rows_per_member != base.rows_per_member:
        return "The plan counts other views of a photo than the model in use here has."
    return ""


def _neck(plan: RoundPlan) -> str:
    for member in plan.members:
        if member.neck != neck_of(member.architecture):
            return (
                f"The plan trains other tensors of {member.name} than this version does. "
                "Update the older site."
            )
    return ""


def _catalogue(plan: RoundPlan) -> str:
    own = vocabulary()
    if (plan.vocabulary_sha256, plan.vocabulary_size) != (vocabulary_of(own), len(own)):
        return "The plan has another syndrome catalogue than this site. Use the same version on every site."
    return ""


def _ranges(plan: RoundPlan) -> str:
    """The training plan that would follow is made once with the fewest sites and classes it may have."""
    sites = list(plan.keys)[: plan.minimum_participants]
    training_plan(plan, samples=dict.fromkeys(sites, 10), counts={"A": plan.k, "B": plan.k})
    return ""


CHECKS: Final[tuple[Callable[[RoundPlan], str], ...]] = (
    _federation, _strategy, _k, _own_key, _others_keys, _base, _neck, _catalogue, _ranges,
)  # fmt: skip
