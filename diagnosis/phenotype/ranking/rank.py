"""From a photo (or several of one patient) to first hits per syndrome, gene and patient.

A row's distance is that of its nearest gallery image (Hustinx et al., WACV 2023, section 3.4). Rows are
ordered by (distance, key), the images behind a row likewise. Distances are float32 products, right to
about 1e-7; images with bit-identical embeddings get the same distance, so their ties are true ties on any
machine, however many queries share a product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
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
    distances = gallery_distances(vector, gallery.flat, gallery.rows)[None, :]
    masks = [_mask(gallery, allowed, exclude_patient)]
    return _rankings(distances, gallery, masks, [len(photos)], limit)[0]


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
    start = 0
    for block in batch_distances(vectors, gallery.flat, gallery.rows):
        inside = slice(start, start + len(block))
        masks = [_mask(gallery, allowed, patient) for patient in excluded[inside]]
        yield from _rankings(block, gallery, masks, [len(each) for each in photos[inside]], limit)
        start += len(block)


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


def _rankings(
    distances: Float32,
    gallery: Gallery,
    masks: Sequence[Mask | None],
    photos: Sequence[int],
    limit: int | None,
) -> list[Ranking]:
    """distances (Q, N) of a block of queries, one mask and number of photos each."""
    settled = distances if gallery.first_identical is None else distances[:, gallery.first_identical]
    for query, mask in enumerate(masks):
        if mask is not None:
            settled[query, ~mask] = FAR
    lists = [
        _rows(settled, grouping, gallery, limit)
        for grouping in (gallery.by_syndrome, gallery.by_gene, gallery.by_patient)
    ]
    return [
        Ranking(syndromes, genes, patients, _provenance(gallery, mask, count))
        for syndromes, genes, patients, mask, count in zip(*lists, masks, photos, strict=True)
    ]


def _rows(
    distances: Float32, grouping: Grouping, gallery: Gallery, limit: int | None
) -> list[tuple[RankedItem, ...]]:
    """First hits of each of Q queries. All queries go through each step together: a step costs little more
    for 64 than for one."""
    nearest = grouping.minimum(distances)  # (Q, K)
    query, place, group = _first_hits(nearest, limit)
    images, row, near = _usable_members(distances, grouping, query, group)
    # Rounding may leave two photos of one face at a distance of −1e-8.
    columns = zip(
        (place + 1).tolist(),
        [grouping.keys[index] for index in group.tolist()],
        np.clip(nearest[query, group], 0.0, 2.0).tolist(),
        _lookalikes(images, row, near, len(group), gallery),
        _count_patients(images, row, len(group), gallery),
        strict=True,
    )
    items = [RankedItem(*column) for column in columns]
    ends = np.cumsum(np.bincount(query, minlength=len(distances))).tolist()
    return [tuple(items[start:end]) for start, end in pairwise([0, *ends])]


def _first_hits(nearest: Float32, limit: int | None) -> tuple[Indices, Indices, Indices]:
    """nearest (Q, K) → query, place from 0 and group of each row, (R,) intp each, by query and then place."""
    candidate = nearest < FAR
    if limit is not None and 0 < limit < nearest.shape[1]:
        # Sort only what can be shown: groups up to the distance of the last place, its ties included.
        candidate &= nearest <= np.partition(nearest, limit - 1, axis=1)[:, limit - 1 : limit]
    query, group = np.nonzero(candidate)
    order = np.lexsort((nearest[query, group], query))  # stable, and keys ascend: ties go by key
    query, group = query[order], group[order]
    sizes = np.bincount(query, minlength=len(nearest))
    place = np.arange(len(query)) - (np.cumsum(sizes) - sizes)[query]
    shown = place < (len(query) if limit is None else limit)
    return query[shown], place[shown], group[shown]


def _usable_members(
    distances: Float32, grouping: Grouping, query: Indices, group: Indices
) -> tuple[Indices, Indices, Float32]:
    """Usable images of R rows (query and group of each), row after row: image, row, distance, (E,) each."""
    members, row = grouping.members_of_many(group)
    near = distances[query[row], members]
    usable = near < FAR
    return members[usable], row[usable], near[usable]


def _nearest_five(
    images: Indices, row: Indices, near: Float32, key_place: Indices
) -> tuple[Indices, Indices]:
    """The five nearest images of each row by (distance, key), with their rows. Every row has an image.

    Five rounds of "least of each row, then strike it" find the fifth distance without sorting everything.
    """
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    bound = np.full(len(starts), FAR)
    left = near.copy()
    for _ in range(LOOKALIKES if len(starts) else 0):
        bound = np.minimum.reduceat(left, starts)
        left[left == bound[row]] = FAR
    close = np.flatnonzero(near <= bound[row])  # with ties of the fifth, hence the cut below
    order = close[np.lexsort((key_place[images[close]], near[close], row[close]))]
    sizes = np.bincount(row[order], minlength=len(starts))
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[row[order]]
    first = order[place < LOOKALIKES]
    return images[first], row[first]


def _lookalikes(
    images: Indices, row: Indices, near: Float32, rows: int, gallery: Gallery
) -> list[tuple[str, ...]]:
    """Keys of the five nearest images of each row."""
    nearest, row_of = _nearest_five(images, row, near, gallery.key_place)
    names = [gallery.image_keys[image] for image in nearest.tolist()]
    ends = np.cumsum(np.bincount(row_of, minlength=rows)).tolist()
    return [tuple(names[start:end]) for start, end in pairwise([0, *ends])]


def _count_patients(images: Indices, row: Indices, rows: int, gallery: Gallery) -> list[int]:
    """Distinct patients among the images of each row."""
    people = max(len(gallery.by_patient), 1)
    pairs = np.sort(row * people + gallery.patient_index[images])  # faster than np.unique by far
    distinct = pairs[np.diff(pairs, prepend=-1) != 0]
    counts: list[int] = np.bincount(distinct // people, minlength=rows).tolist()
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
