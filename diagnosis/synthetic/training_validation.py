"""What is measured after each epoch: syndromes that are neither trained on nor in any evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.types import FloatArray
from diagnosis.synthetic.evaluation import (
    Photos,
    macro_top_k,
    nearest_centroid,
    nearest_image,
    whitened,
)
from diagnosis.synthetic.training_data import FaceSet
from diagnosis.synthetic.training_loop import EpochReport, embed_faces
from diagnosis.synthetic.training_losses import NO_SYNDROME

METHODS = {"nearest": nearest_image, "whitened_centroids": whitened(nearest_centroid)}


def validator(faces: FaceSet) -> Callable[[Backbone], EpochReport]:
    """A function that embeds `faces` and reports macro top-k of one half of the patients in the other."""

    def validate(network: Backbone) -> EpochReport:
        gallery, queries = split_patients(faces, embed_faces(network, faces.pixels))
        report: EpochReport = {}
        for name, method in METHODS.items():
            for key, value in macro_top_k(method(gallery, queries), gallery, queries).items():
                report[f"{name}_{key}"] = value
        return report

    return validate


def split_patients(faces: FaceSet, embeddings: FloatArray) -> tuple[Photos, Photos]:
    """Affected photos as gallery and queries, (n, 1, 512) each: every second patient of a syndrome asks."""
    turn = np.zeros(len(faces), dtype=np.int64)
    for syndrome in np.unique(faces.syndromes):
        own = faces.syndromes == syndrome
        turn[own] = np.unique(faces.patients[own], return_inverse=True)[1] % 2
    affected = faces.syndromes != NO_SYNDROME
    return tuple(  # type: ignore[return-value]
        Photos(embeddings[part][:, None], faces.syndromes[part], faces.patients[part])
        for part in (affected & (turn == 0), affected & (turn == 1))
    )
