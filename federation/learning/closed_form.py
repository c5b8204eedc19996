"""The analytic strategy from end to end: a site's words, and the candidate that follows from their sum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.weights import serialize_weights
from diagnosis.phenotype.types import EMBEDDING_SIZE
from federation.learning.aggregate import Candidate, require_base, save_rows
from federation.learning.analytic import (
    AnalyticHead,
    decode_moments,
    encode_moments,
    site_moments,
    solve_head,
)
from federation.learning.config import MemberPlan, TrainingPlan
from federation.learning.features import RANKING_VIEWS, FeatureSet
from federation.learning.folding import fold_head
from federation.learning.heads import Rows, initial_vector, neck_outputs
from federation.learning.moments import choose_moments, require_openable
from federation.learning.strategies import ServerState

Words64 = npt.NDArray[np.uint64]


def site_words(plan: TrainingPlan, base: Backbone, training: FeatureSet) -> Words64:
    """This site's statistics over the base model's embeddings, (w,) uint64, ready to be masked.

    StatisticsRefused where the plan's public numbers forbid second moments; secagg's OutOfRange for values
    that the ring cannot carry. Base and features must be checked against the plan before.
    """
    views = [neck_outputs(base.neck, training, view) for view in RANKING_VIEWS]
    rows = np.stack(views, axis=1)  # (n, v, 512)
    kind = choose_moments(plan)
    moments = site_moments(rows, training.labels, training.patients, plan.identifiers, k=plan.k, kind=kind)
    return encode_moments(moments, sites=len(plan.participants))


def solve_candidate(
    plan: TrainingPlan, member: MemberPlan, base: Backbone, total: Words64, *, survivors: Iterable[str]
) -> Candidate:
    """Opened words → the candidate: the base with whitening folded into its neck, rows of the classifier.

    Unlike the elementwise strategies it solves a symmetric eigenproblem, so hashes agree only between sites
    with the same LAPACK: the coordinator's candidate is checked by its distance from the site's own.
    """
    require_base(member, base)
    kind = choose_moments(plan)
    require_openable(plan, survivors, kind)
    found = decode_moments(
        total,
        sites=len(plan.participants),
        classes=len(plan.classes),
        size=EMBEDDING_SIZE,
        kind=kind,
        k=plan.k,
    )
    head = solve_head(found, plan.analytic)
    made = fold_head(base, head)
    weights = serialize_weights(made)
    rows = classifier_of(plan, head)
    vector = initial_vector(made, plan.identifiers, plan.seed, rows)
    empty = ServerState(np.zeros(0), np.zeros(0))
    return Candidate(vector, weights, hashlib.sha256(weights).hexdigest(), save_rows(rows), empty)


def classifier_of(plan: TrainingPlan, head: AnalyticHead) -> Rows:
    """Class identifier → (513,) float32 row and bias, for the classes that had patients."""
    rows: Rows = {}
    for place, index in enumerate(head.classes):
        row = np.append(head.weight[place], head.bias[place])
        rows[plan.identifiers[index]] = row.astype(np.float32)
    return rows
