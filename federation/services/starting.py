"""What every site starts a round's training from: the same numbers everywhere, from plan and transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from federation.models import GlobalModel
from federation.plans import RoundPlan, parse_plan
from federation.services.networks import model_before
from federation.storage import blob_bytes

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.backbone import Backbone
    from federation.learning.config import TrainingPlan
    from federation.learning.heads import Float32, Rows, TensorSlice
    from federation.learning.strategies import ServerState

    Layout = tuple[TensorSlice, ...]


def _published(model: GlobalModel | None, member: str, part: str) -> bytes:
    """A member's file of the model before, b"" where there is none."""
    named = {made["name"]: made[part] for made in model.members} if model else {}
    return blob_bytes(named[member]) if named.get(member) else b""


def start_rows(plan: RoundPlan, member: str) -> Rows:
    """The published classifier rows of the model before, by class; {} in a first round."""
    from federation.learning.aggregate import load_rows

    data = _published(model_before(plan), member, "classifier")
    return load_rows(data) if data else {}


def start_vector(plan: RoundPlan, training: TrainingPlan, member: str, base: Backbone) -> Float32:
    """(k,) float32: the base's neck, published rows where there are some, fresh ones elsewhere."""
    from federation.learning.heads import initial_vector

    return initial_vector(base, training.identifiers, training.seed, start_rows(plan, member))


def start_state(plan: RoundPlan, training: TrainingPlan, member: str, base: Backbone) -> ServerState:
    """The strategy's state after the round before, in this round's layout; fresh with another strategy.

    Classes that were not open before start fresh, classes that are not open now are forgotten.
    """
    from federation.learning import heads
    from federation.learning.strategies import ServerState, initial_state, load_state

    layout = heads.layout_of(heads.build_head(base, len(training.classes)))
    fresh = initial_state(layout[-1].stop, plan.strategy, plan.server)
    before = model_before(plan)
    data = _published(before, member, "state")
    if before is None or not data or parse_plan(before.round.plan).strategy != plan.strategy:
        return fresh
    classes = tuple(sorted(start_rows(plan, member)))
    old_layout = heads.layout_of(heads.build_head(base, len(classes)))
    old = load_state(data, size=old_layout[-1].stop)
    places = (old_layout, classes, layout, training.identifiers)
    return ServerState(_carried(old.first, fresh.first, *places), _carried(old.second, fresh.second, *places))


def _carried(
    old: Any, fresh: Any, old_layout: Layout, old_classes: tuple[str, ...], layout: Layout,
    classes: tuple[str, ...],
) -> Any:  # fmt: skip
    """The old (k,) float64 in the new layout: the neck as it was, each class's row where it stands now."""
    from federation.learning import heads

    made = fresh.copy()
    for part in layout:
        if part.name not in (heads.WEIGHT, heads.BIAS):
            made[part.start : part.stop] = old[heads.slice_of(old_layout, part.name)]
    heads.put_rows(made, layout, classes, heads.take_rows(old, old_layout, old_classes))
    return made
