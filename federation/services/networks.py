"""The networks that a round starts from, as they lie on this site. torch is loaded on first use only."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from diagnosis import engine
from diagnosis.errors import NotReady
from diagnosis.phenotype.errors import PhenotypeError
from federation.models import GlobalModel
from federation.plans import MemberAsked, RoundPlan

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.backbone import Backbone


def base_network(member: MemberAsked) -> Backbone:
    """The network that the plan names by sha256, checked, in evaluation mode. NotReady with what to do."""
    from diagnosis.phenotype.embed.weights import load_weights

    path = engine.weights_path(member.base_sha256)
    if not path.exists():
        raise NotReady(
            f"The base model of {member.name} ({member.base_sha256[:12]}…) is not on this site. Adopt the "
            "federation's last model, or install the weights that the plan names."
        )
    try:
        return load_weights(path, sha256=member.base_sha256, architecture=member.architecture)
    except PhenotypeError as refused:
        raise NotReady(str(refused)) from None


def base_trunk(member: MemberAsked) -> str:
    """Identity of the base's trunk, which names the feature cache. Computed once per process."""
    return _trunk_of(member.base_sha256, member)


@functools.lru_cache(maxsize=16)
def _trunk_of(base_sha256: str, member: MemberAsked) -> str:
    from diagnosis.phenotype.embed.weights import trunk_sha256

    return trunk_sha256(base_network(member))


def model_before(plan: RoundPlan) -> GlobalModel | None:
    """The published model that a plan goes on from, or None for a first round or another base."""
    if not plan.previous_round:
        return None
    found = GlobalModel.objects.filter(round__sha256=plan.previous_round).first()
    if found is None:
        return None
    weights = {member["name"]: member["weights"] for member in found.members}
    same = all(weights.get(member.name) == member.base_sha256 for member in plan.members)
    return found if same else None
