"""One centroid per syndrome: the other way to rank, and the only one that published sums allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking.distance import Float32, batch_distances, unit_rows
from diagnosis.phenotype.ranking.gallery import Gallery, Mask
from diagnosis.phenotype.ranking.grouping import Indices
from diagnosis.phenotype.types import RankedItem


@dataclass(frozen=True)
class Centroids:
    """keys: S syndromes, ascending; rows (S, m, 512) float32 unit rows; patients (S,) behind each."""

    keys: tuple[str, ...]
    rows: Float32
    patients: Indices
    model_sha256: str


def gallery_centroids(gallery: Gallery, *, allowed: Mask | None = None) -> Centroids:
    """Unit mean per syndrome and row. Each patient counts once, however many photos they gave."""
    usable = np.ones(len(gallery), dtype=np.bool_) if allowed is None else gallery.checked(allowed)
    keys, rows, patients = [], [], []
    for position, key in enumerate(gallery.by_syndrome.keys):
        members = gallery.by_syndrome.members_of(position)
        members = members[usable[members]]
        if not len(members):
            continue
        people = gallery.patient_index[members]
        _, person, photos = np.unique(people, return_inverse=True, return_counts=True)
        weights = 1.0 / (photos[person] * len(photos))
        keys.append(key)
        rows.append(np.tensordot(weights, gallery.embeddings[members].astype(np.float64), axes=1))
        patients.append(len(photos))
    empty = np.empty((0, gallery.rows, gallery.embeddings.shape[2]), dtype=np.float32)
    unit = unit_rows(np.stack(rows)) if rows else empty
    return Centroids(tuple(keys), unit, np.asarray(patients, dtype=np.intp), gallery.model_sha256)


def centroid_distances(queries: Float32, centroids: Centroids) -> Float32:
    """Queries (Q, m·512), as `rank.fuse_photos` gives them → mean cosine distances (Q, S) float32."""
    count, rows, size = centroids.rows.shape
    if queries.ndim != 2 or queries.shape[1] != rows * size:
        raise GalleryError(f"Queries {queries.shape} do not fit centroids of {rows} rows. Embed them again.")
    blocks = list(batch_distances(queries, centroids.rows.reshape(count, rows * size), rows))
    return np.concatenate(blocks) if blocks else np.empty((0, count), dtype=np.float32)


def rank_centroids(
    query: Float32, centroids: Centroids, *, limit: int | None = None
) -> tuple[RankedItem, ...]:
    """One query (m·512,) → syndromes by (distance, key). images is empty: a centroid is nobody's photo."""
    distances = centroid_distances(query[None, :], centroids)[0]
    order = np.argsort(distances, kind="stable")[:limit]  # keys ascend, so a stable sort settles ties
    return tuple(
        RankedItem(
            rank=place,
            key=centroids.keys[index],
            distance=min(max(float(distances[index]), 0.0), 2.0),
            images=(),
            patients=int(centroids.patients[index]),
        )
        for place, index in enumerate(order.tolist(), start=1)
    )
