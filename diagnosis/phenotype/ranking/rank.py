"""From a photo (or several of one patient) to first hits per syndrome, gene and patient.

A row's distance is that of its nearest gallery image (Hustinx et al., WACV 2023, section 3.4). Rows are
ordered by (distance, key), the images behind a row likewise. Distances are float32 products, right to
about 1e-7; images with bit-identical embeddings get the same distance, so their ties are true ties on any
machine, however many queries share a product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking.distance import Float32, batch_distances, gallery_distances, unit_rows
from diagnosis.phenotype.ranking.gallery import Gallery, Mask
from diagnosis.phenotype.ranking.grouping import Grouping, Indices
from diagnosis.phenotype.types import EmbeddingSet, RankedItem, Ranking

Query = EmbeddingSet | Sequence[EmbeddingSet]
Fusion = Literal["mean_distance", "mean_embedding"]

#: Rows per list. The clinic shows at least 30; the rest is room for filters. Ask for more where needed.
DEFAULT_LIMIT = 50
#: Look-alikes named per row, nearest first.
LOOKALIKES = 5
#: The distance of an image that may not be used.
FAR = np.float32(np.inf)


def rank(
    query: Query,
    gallery: Gallery,
    *,
    exclude_patient: str | None = None,
    allowed: Mask | None = None,
    limit: int | None = DEFAULT_LIMIT,
    fusion: Fusion = "mean_distance",
) -> Ranking:
    """First hits of one photo, or of several photos of one patient fused by `fuse_photos`.

    allowed (N,) bool: images that consent allows now. exclude_patient: the query's own patient, so that
    nobody is found in their own photos. limit: rows per list, None for all. An empty gallery ranks nothing.
    Raises GalleryError if the query's model or row count is not the gallery's.
    """
    photos = _photos(query)
    vector = fuse_photos(photos, gallery, fusion=fusion)
    distances = gallery_distances(vector, gallery.flat, gallery.rows)
    mask = _mask(gallery, allowed, exclude_patient)
    return _ranking(distances, gallery, mask, limit, len(photos))


def rank_batch(
    queries: Sequence[Query],
    gallery: Gallery,
    *,
    exclude_patients: Sequence[str | None] | None = None,
    allowed: Mask | None = None,
    limit: int | None = DEFAULT_LIMIT,
    fusion: Fusion = "mean_distance",
) -> Iterator[Ranking]:
    """What `rank` gives for each query, in order; one matrix product per 64 queries."""
    excluded = exclude_patients if exclude_patients is not None else [None] * len(queries)
    if len(excluded) != len(queries):
        raise GalleryError("Give one patient to exclude (or None) for each query.")
    if not queries:
        return
    photos = [_photos(query) for query in queries]
    vectors = np.stack([fuse_photos(each, gallery, fusion=fusion) for each in photos])
    index = 0
    for block in batch_distances(vectors, gallery.flat, gallery.rows):
        for distances in block:
            mask = _mask(gallery, allowed, excluded[index])
            yield _ranking(distances, gallery, mask, limit, len(photos[index]))
            index += 1


def fuse_photos(
    photos: Sequence[EmbeddingSet], gallery: Gallery, *, fusion: Fusion = "mean_distance"
) -> Float32:
    """Photos of one patient → one query vector (m·512,) float32 on the gallery's rows.

    "mean_distance" (default): the distance of a patient to an image is the mean of the distances of the
    photos. By linearity that is one product with the mean of the photos' rows, *not* brought back to unit
    length. It stays on the scale of single photos, on which bands are calibrated, and one odd photo cannot
    decide alone. "mean_embedding": rows are brought back to unit length after averaging, as in the
    several-photos figures published for GestaltMatcher v1.1.0; all distances become smaller, so bands
    that were measured on single photos do not apply.
    """
    for photo in photos:
        if photo.model_sha256 != gallery.model_sha256:
            raise GalleryError("The photo and the gallery come from different models. Embed the photo again.")
        if len(photo.rows) != gallery.rows:
            found = f"The photo has {len(photo.rows)} rows, the gallery {gallery.rows}"
            raise GalleryError(f"{found}. Embed the photo again.")
    stacked = np.stack([photo.rows for photo in photos]).astype(np.float64)  # (photos, m, 512)
    if not np.all(np.abs(np.sum(stacked * stacked, axis=2) - 1.0) <= 1e-4):
        raise GalleryError("A row of the photo is not of unit length. Embed the photo again.")
    mean = stacked.mean(axis=0)  # (m, 512)
    fused = unit_rows(mean) if fusion == "mean_embedding" else mean.astype(np.float32)
    return fused.reshape(-1)


def fuse_gallery(gallery: Gallery, *, allowed: Mask | None = None) -> Gallery:
    """A gallery with one entry per (patient, syndrome): the unit mean of that patient's photos, row by row.

    The entry carries the first of its image keys. Gallery patients need the unit length: without it a
    patient with many unlike photos would stand farther from everyone than a patient with one photo.
    """
    usable = gallery if allowed is None else gallery.subset(allowed)
    people = zip(usable.patients, usable.syndromes, strict=True)
    entries = Grouping.from_keys([(f"{patient}\0{syndrome}",) for patient, syndrome in people])
    members = [entries.members_of(entry) for entry in range(len(entries))]
    firsts = [min(group.tolist(), key=usable.image_keys.__getitem__) for group in members]
    means = [usable.embeddings[group].mean(axis=0, dtype=np.float64) for group in members]
    empty = np.empty((0, *usable.embeddings.shape[1:]), dtype=np.float32)
    return Gallery(
        embeddings=unit_rows(np.stack(means)) if means else empty,
        image_keys=tuple(usable.image_keys[first] for first in firsts),
        patients=tuple(usable.patients[first] for first in firsts),
        syndromes=tuple(usable.syndromes[first] for first in firsts),
        model_sha256=usable.model_sha256,
        image_genes=tuple(usable.genes[first] for first in firsts),
        syndrome_genes=usable.syndrome_genes,
    )


def _photos(query: Query) -> Sequence[EmbeddingSet]:
    photos = [query] if isinstance(query, EmbeddingSet) else list(query)
    if not photos:
        raise GalleryError("A query needs at least one photo. Give one, or several of the same patient.")
    return photos


def _mask(gallery: Gallery, allowed: Mask | None, patient: str | None) -> Mask | None:
    if allowed is not None:
        gallery.checked(allowed)
    if patient is None or patient not in gallery.by_patient.index:
        return allowed
    others: Mask = gallery.patient_index != gallery.by_patient.index[patient]
    return others if allowed is None else others & allowed


def _ranking(
    distances: Float32, gallery: Gallery, mask: Mask | None, limit: int | None, photos: int
) -> Ranking:
    settled = distances if gallery.first_identical is None else distances[gallery.first_identical]
    if mask is not None:
        settled = np.where(mask, settled, FAR)
    return Ranking(
        syndromes=_rows(settled, gallery.by_syndrome, gallery, limit),
        genes=_rows(settled, gallery.by_gene, gallery, limit),
        patients=_rows(settled, gallery.by_patient, gallery, limit),
        extra=_provenance(gallery, mask, photos),
    )


def _rows(
    distances: Float32, grouping: Grouping, gallery: Gallery, limit: int | None
) -> tuple[RankedItem, ...]:
    nearest = grouping.minimum(distances)  # (K,)
    # Groups stand in ascending order of key, so a stable sort breaks ties by key.
    reachable = int(np.count_nonzero(nearest < FAR))
    shown = np.argsort(nearest, kind="stable")[:reachable][:limit]
    images, stops = _members_by_nearness(distances, grouping, gallery, shown)
    # Rounding may leave two photos of one face at a distance of −1e-8.
    columns = zip(
        shown.tolist(),
        np.clip(nearest[shown], 0.0, 2.0).tolist(),
        _lookalikes(images, stops, gallery),
        _count_patients(images, stops, gallery),
        strict=True,
    )
    return tuple(
        [
            RankedItem(place, grouping.keys[group], distance, names, patients)
            for place, (group, distance, names, patients) in enumerate(columns, start=1)
        ]
    )


def _members_by_nearness(
    distances: Float32, grouping: Grouping, gallery: Gallery, shown: Indices
) -> tuple[Indices, Indices]:
    """Usable images of the shown groups, group after group by (distance, key), and where each group stops."""
    members, row = grouping.members_of_many(shown)
    usable = distances[members] < FAR
    members, row = members[usable], row[usable]
    stops = np.cumsum(np.bincount(row, minlength=len(shown)))
    # Sort by distance, then stably by group: numpy's radix sort for narrow integers makes the latter cheap.
    order = np.argsort(distances[members])
    narrow = row[order].astype(np.min_scalar_type(max(len(shown), 1)))
    order = order[np.argsort(narrow, kind="stable")]
    near, group = distances[members[order]], row[order]
    if np.any((near[1:] == near[:-1]) & (group[1:] == group[:-1])):
        order = np.lexsort((gallery.key_place[members], distances[members], row))
    return members[order], stops


def _lookalikes(images: Indices, stops: Indices, gallery: Gallery) -> list[tuple[str, ...]]:
    """Keys of the first five images of each run."""
    starts = stops - np.diff(stops, prepend=0)
    ends = np.minimum(stops, starts + LOOKALIKES)
    keys = gallery.image_keys
    return [
        tuple([keys[image] for image in images[start:end].tolist()])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _count_patients(images: Indices, stops: Indices, gallery: Gallery) -> list[int]:
    """Distinct patients in each run of images."""
    row = np.repeat(np.arange(len(stops)), np.diff(stops, prepend=0))
    people = max(len(gallery.by_patient), 1)
    pairs = np.sort(row * people + gallery.patient_index[images])  # faster than np.unique by far
    distinct = pairs[np.diff(pairs, prepend=-1) != 0]
    counts: list[int] = np.bincount(distinct // people, minlength=len(stops)).tolist()
    return counts


def _provenance(gallery: Gallery, mask: Mask | None, photos: int) -> dict[str, Any]:
    """What a stored ranking must name: model, gallery version under the mask, and how much was searched."""
    used = slice(None) if mask is None else mask
    return {
        "model_sha256": gallery.model_sha256,
        "gallery_version": gallery.version if mask is None else gallery.version_of(mask),
        "gallery_images": len(gallery) if mask is None else int(np.count_nonzero(mask)),
        "gallery_patients": int(np.count_nonzero(np.bincount(gallery.patient_index[used]))),
        "gallery_syndromes": int(np.count_nonzero(np.bincount(gallery.syndrome_index[used] + 1)[1:])),
        "photos": photos,
    }
