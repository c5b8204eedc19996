"""What the next round starts from here: the last published model, before any the adopted extractor."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from diagnosis import selectors as clinic
from diagnosis.errors import NotReady
from diagnosis.phenotype.errors import PhenotypeError
from federation.models import GlobalModel
from federation.plans import TrainedTensor, parse_plan


@dataclass(frozen=True)
class BaseMember:
    """One network: its name, architecture, and the sha256 of its weights."""

    name: str
    architecture: str
    sha256: str


@dataclass(frozen=True)
class BaseModel:
    """previous_round: hash of the last published round, "" before any. rows_per_member: views per photo."""

    previous_round: str
    members: tuple[BaseMember, ...]
    rows_per_member: int


def base_now() -> BaseModel:
    """What a plan has to start from. NotReady on a site without an extractor."""
    last = GlobalModel.objects.select_related("round").order_by("-number").first()
    return _published(last) if last is not None else _adopted()


def _published(last: GlobalModel) -> BaseModel:
    plan = parse_plan(last.round.plan)
    weights = {member["name"]: member["weights"] for member in last.members}
    members = tuple(
        BaseMember(member.name, member.architecture, weights[member.name]) for member in plan.members
    )
    return BaseModel(last.round.sha256, members, plan.rows_per_member)


def _adopted() -> BaseModel:
    extractor = clinic.extractor_adopted()
    if extractor is None:
        raise NotReady("This site has no model to start from. A site admin adopts one under Models.")
    members = tuple(BaseMember(m.name, m.architecture, m.sha256) for m in extractor.members.all())
    return BaseModel("", members, (1 + extractor.flip) * (1 + extractor.grey))


def neck_of(architecture: str) -> tuple[TrainedTensor, ...]:
    """The tensors that are trained and sent, by name, with how many numbers each has.

    They follow from the architecture alone. NotReady for one that this version does not know.
    """
    try:
        return _neck_of(architecture)
    except PhenotypeError:
        raise NotReady(
            f"This version knows no network “{architecture[:40]}”. Use the same version on every site."
        ) from None


@functools.cache
def _neck_of(architecture: str) -> tuple[TrainedTensor, ...]:
    from diagnosis.phenotype.embed.weights import build_quietly  # torch, on first use only
    from federation.learning import heads

    tensors = heads.trained_tensors(heads.build_head(build_quietly(architecture), 1))
    return tuple(
        TrainedTensor(name, tensor.numel()) for name, tensor in tensors.items() if name.startswith("neck.")
    )
