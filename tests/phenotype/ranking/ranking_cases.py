"""Small galleries for the ranking tests, and the slow twins written from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.ranking.gallery import Gallery, GalleryImage
from diagnosis.phenotype.types import EmbeddingSet

MODEL = "a" * 64
GENES = {"SYN:0": ("GA1",), "SYN:1": ("GA1", "GB2"), "SYN:2": (), "SYN:3": ("GC3",)}


def random_rows(rng: np.random.Generator, count: int, m: int, size: int = 512) -> npt.NDArray[np.float32]:
    vectors = rng.standard_normal((count, m, size))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def photo(rows: npt.NDArray[np.float32]) -> EmbeddingSet:
    return EmbeddingSet(np.array(rows, dtype=np.float32), MODEL)


def random_gallery(seed: int, count: int, m: int = 3, syndromes: int = 4, patients: int = 6) -> Gallery:
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, count, m)
    images = [
        GalleryImage(
            key=f"img{rng.integers(10**9)}-{index}",
            patient=f"P{rng.integers(patients)}",
            syndrome=f"SYN:{rng.integers(syndromes)}" if rng.random() > 0.1 else "",
            rows=rows[index],
            genes=("OWN9",) if rng.random() < 0.2 else (),
        )
        for index in range(count)
    ]
    return Gallery.from_images(images, model_sha256=MODEL, rows=m, syndrome_genes=GENES)


def slow_distance(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Mean over the rows of one minus the cosine, number by number."""
    total = 0.0
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        total += 1.0 - dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))
    return total / len(first)


def slow_rows(
    photos: Sequence[npt.NDArray[np.float32]], gallery: Gallery, allowed: Sequence[bool], kind: str
) -> list[tuple[str, float, tuple[str, ...], int]]:
    """(key, distance, nearest five images, patients), by (distance, key): dictionaries and sorting only."""
    rows_of: dict[str, list[tuple[float, str, str]]] = {}
    for index, usable in enumerate(allowed):
        if not usable:
            continue
        own = [slow_distance(one, gallery.embeddings[index]) for one in photos]
        entry = (sum(own) / len(own), gallery.image_keys[index], gallery.patients[index])
        syndrome = gallery.syndromes[index]
        genes = gallery.image_genes[index] or tuple(gallery.syndrome_genes.get(syndrome, ()))
        keys = {
            "syndromes": (syndrome,) if syndrome else (),
            "genes": genes,
            "patients": (gallery.patients[index],),
        }
        for key in keys[kind]:
            rows_of.setdefault(key, []).append(entry)
    found = []
    for key, entries in rows_of.items():
        entries.sort()
        images = tuple(image for _, image, _ in entries[:5])
        found.append((entries[0][0], key, images, len({patient for _, _, patient in entries})))
    return [(key, distance, images, patients) for distance, key, images, patients in sorted(found)]
