"""From an opened sum to the next model: the same bytes at every site and at the coordinator."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from safetensors import SafetensorError

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.weights import serialize_weights
from diagnosis.phenotype.types import EMBEDDING_SIZE
from federation.learning import heads
from federation.learning.config import MemberPlan, TrainingPlan
from federation.learning.errors import AggregateRefused
from federation.learning.heads import Float32, Rows, TrainableHead
from federation.learning.strategies import ServerState, aggregate
from federation.learning.words import decode_sum


@dataclass(frozen=True, eq=False)
class Candidate:
    """vector (k,) float32 after the step, the whole network and the classifier as safetensors, next state."""

    vector: Float32
    weights: bytes
    sha256: str
    classifier: bytes
    state: ServerState


def make_candidate(
    plan: TrainingPlan, member: MemberPlan, base: Backbone, start: Float32,
    total: npt.NDArray[np.uint32], *, survivors: Iterable[str], state: ServerState,
) -> Candidate:  # fmt: skip
    """Opened words (k,) uint32 of the survivors → the candidate, bit for bit the same wherever computed.

    base: the network that the plan names by sha256; start (k,): what every site trained from.
    AggregateRefused for another base or a sum that does not fit the plan.
    """
    require_base(member, base)
    head = heads.build_head(base, len(plan.classes))
    mean = decode_sum(plan, member, heads.layout_of(head), total, survivors=survivors)
    vector, after = aggregate(state, start, mean, strategy=plan.strategy, options=plan.server)
    heads.unflatten(head, vector)
    weights = serialize_weights(with_neck(base, head))
    rows = heads.take_rows(vector, heads.layout_of(head), plan.identifiers)
    return Candidate(vector, weights, hashlib.sha256(weights).hexdigest(), save_rows(rows), after)


def require_base(member: MemberPlan, base: Backbone) -> None:
    """AggregateRefused unless these are the weights that the plan names."""
    if hashlib.sha256(serialize_weights(base)).hexdigest() != member.base_sha256:
        raise AggregateRefused("The base model is not the one the plan names. Fetch it again.")


def with_neck(base: Backbone, head: TrainableHead) -> Backbone:
    """The base's trunk with the head's neck: a new network that shares no tensor with either."""
    made = copy.deepcopy(base).eval()
    with torch.no_grad():
        made.neck.load_state_dict(head.neck.state_dict())
    return made


def save_rows(rows: Rows) -> bytes:
    """Class identifier → (513,) float32 row and bias, as safetensors: published ones, or a site's own."""
    return safetensors.numpy.save({name: rows[name] for name in sorted(rows)})


def load_rows(data: bytes) -> Rows:
    """The rows that `save_rows` wrote; AggregateRefused if damaged, misshapen or not finite."""
    try:
        rows = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise AggregateRefused("Classifier rows are damaged. Fetch them again.") from error
    for row in rows.values():
        if row.shape != (EMBEDDING_SIZE + 1,) or row.dtype != np.float32 or not np.isfinite(row).all():
            raise AggregateRefused("A classifier row is not 513 finite float32 numbers. Fetch it again.")
    return rows
