"""Ranking one query, and 64, against 7,459 photos × 12 rows × 512: `python -m benchmarks.ranking [--json]`.

Ours and the straightforward twins run in one process, turn by turn, so that a busy machine slows all alike.
The figures of each are its fastest turn (what the code costs), the median (what the machine gave) and the
least processor time of a turn, all threads together (what it costs while others use the machine).
OPENBLAS_NUM_THREADS=1 gives the figures of one core.

- reading: the gallery's floats read once by the fastest reduction found (BLAS dot of the array with itself or
  of its two halves, maximum, sum)
- twin "scikit-learn": 12 matrices from sklearn's cosine_distances, their mean, then Python loops
- twin "numpy": the same with rows of unit length kept, so 12 plain products, then Python loops

Both twins list first hits by syndrome, gene and patient as ours does; all three lists are compared.
Memory is the peak resident size of a fresh process, over what it had before the gallery existed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from diagnosis.phenotype.ranking.gallery import Gallery  # noqa: E402
from diagnosis.phenotype.ranking.rank import rank, rank_batch  # noqa: E402
from diagnosis.phenotype.types import EmbeddingSet, Ranking  # noqa: E402

Float32 = npt.NDArray[np.float32]
MODEL = "0" * 64
IMAGES, ROWS, SIZE = 7_459, 12, 512
SYNDROMES, GENES, PATIENTS = 528, 400, 5_000
BATCH = 64


def make_gallery(seed: int = 0) -> Gallery:
    """Clustered random faces with a long-tailed number of photos per syndrome. Filled in blocks."""
    rng = np.random.default_rng(seed)
    share = 1.0 / (np.arange(SYNDROMES) + 10.0)  # the most frequent has 2.5 % of the photos
    syndrome = rng.choice(SYNDROMES, IMAGES, p=share / share.sum())
    syndrome[:SYNDROMES] = np.arange(SYNDROMES)
    centres = rng.standard_normal((SYNDROMES, SIZE), dtype=np.float32)
    embeddings = np.empty((IMAGES, ROWS, SIZE), dtype=np.float32)
    for start in range(0, IMAGES, 256):
        block = embeddings[start : start + 256]
        rng.standard_normal(block.shape, dtype=np.float32, out=block)
        block += 0.5 * centres[syndrome[start : start + 256], None, :]
        block /= np.linalg.norm(block, axis=2, keepdims=True)
    patients = rng.integers(0, PATIENTS, IMAGES)
    return Gallery(
        embeddings=embeddings,
        image_keys=tuple(f"image{index:05d}" for index in range(IMAGES)),
        patients=tuple(f"patient{index}" for index in patients.tolist()),
        syndromes=tuple(f"S{index}" for index in syndrome.tolist()),
        model_sha256=MODEL,
        syndrome_genes={f"S{index}": (f"G{index % GENES}",) for index in range(SYNDROMES)},
    )


def make_queries(seed: int = 1) -> list[EmbeddingSet]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((BATCH, ROWS, SIZE), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return [EmbeddingSet(row, MODEL) for row in rows]


Lists = tuple[list[tuple[str, float]], list[tuple[str, float]], list[tuple[str, float]]]


def first_hits(distances: npt.NDArray[np.floating], gallery: Gallery) -> Lists:
    """The loops of the straightforward design: walk the sorted gallery, keep what was not seen before."""
    seen: tuple[dict[str, float], dict[str, float], dict[str, float]] = ({}, {}, {})
    for index in np.argsort(distances, kind="stable"):
        distance = float(distances[index])
        seen[0].setdefault(gallery.syndromes[index], distance)
        for gene in gallery.genes[index]:
            seen[1].setdefault(gene, distance)
        seen[2].setdefault(gallery.patients[index], distance)
    return list(seen[0].items()), list(seen[1].items()), list(seen[2].items())


def twin_scikit(query: EmbeddingSet, by_row: list[Float32], gallery: Gallery) -> Lists:
    from sklearn.metrics.pairwise import cosine_distances

    matrices = [cosine_distances(query.rows[row : row + 1], by_row[row]) for row in range(ROWS)]
    return first_hits(np.mean(np.stack(matrices, axis=1), axis=1)[0], gallery)


def twin_numpy(query: EmbeddingSet, by_row: list[Float32], gallery: Gallery) -> Lists:
    matrices = [1.0 - by_row[row] @ query.rows[row] for row in range(ROWS)]
    return first_hits(np.mean(matrices, axis=0), gallery)


def check_same(ranking: Ranking, lists: Lists) -> float:
    """Largest difference between our lists and a twin's; the order of rows nearer than 1e-6 may differ."""
    worst = 0.0
    for items, twin in zip((ranking.syndromes, ranking.genes, ranking.patients), lists, strict=True):
        known = dict(twin)
        worst = max(worst, max(abs(item.distance - known[item.key]) for item in items))
        pairs = zip(items, twin, strict=False)
        worst = max(worst, max(abs(item.distance - distance) for item, (_, distance) in pairs))
    if worst > 1e-6:
        raise SystemExit(f"the lists differ by {worst:.1e}")
    return worst


def measure(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds: fastest, median and least processor time of `rounds` turns, jobs taking turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    work: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            start, busy = time.perf_counter(), time.process_time()
            job()
            work[name].append(1e3 * (time.process_time() - busy))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"best": min(own), "median": statistics.median(own), "processor": min(work[name])}
        for name, own in times.items()
    }


def peak_resident() -> int:
    """Bytes. VmHWM starts anew at exec; getrusage's figure would carry the parent's over."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc/self/status: measure memory on Linux")


def peak_memory() -> dict[str, float]:
    """Run in a fresh process: peak resident bytes of building and ranking, over the gallery's size."""
    queries = make_queries()
    before = peak_resident()
    gallery = make_gallery()
    _ = gallery.version
    rank(queries[0], gallery)
    for _ranking in rank_batch(queries, gallery):
        pass
    grown = peak_resident() - before
    return {"gallery_mib": gallery.embeddings.nbytes / 2**20, "ratio": grown / gallery.embeddings.nbytes}


def run(rounds: int) -> dict[str, Any]:
    gallery, queries = make_gallery(), make_queries()
    flat = gallery.embeddings.reshape(-1)
    half = len(flat) // 2
    by_row = [np.ascontiguousarray(gallery.embeddings[:, row]) for row in range(ROWS)]
    query = queries[0]
    worst = max(
        check_same(rank(query, gallery), twin(query, by_row, gallery)) for twin in (twin_scikit, twin_numpy)
    )
    fast = measure(
        {
            "reading, dot": lambda: flat @ flat,
            "reading, maximum": lambda: flat.max(),
            "reading, sum": lambda: flat.sum(),
            "reading, dot of halves": lambda: flat[:half] @ flat[half : 2 * half],
            "ours, distances alone": lambda: gallery.flat @ query.rows.reshape(-1),
            "ours, one query": lambda: rank(query, gallery),
            "ours, one query, all rows": lambda: rank(query, gallery, limit=None),
            "ours, one query, a patient left out": lambda: rank(query, gallery, exclude_patient="patient7"),
        },
        12 * rounds,  # milliseconds each, so many turns cost little and find the quiet moments
    )
    slow = measure(
        {
            "twin, scikit-learn": lambda: twin_scikit(query, by_row, gallery),
            "twin, numpy": lambda: twin_numpy(query, by_row, gallery),
            "ours, batch of 64": lambda: list(rank_batch(queries, gallery)),
        },
        rounds,
    )
    fresh = subprocess.run(
        [sys.executable, __file__, "--memory-only"], capture_output=True, text=True, check=True
    )
    return summary({**fast, **slow}, worst, json.loads(fresh.stdout))


def summary(times: dict[str, dict[str, float]], worst: float, memory: dict[str, float]) -> dict[str, Any]:
    per_query = {kind: value / BATCH for kind, value in times["ours, batch of 64"].items()}
    ratios = {}
    for kind in ("best", "median", "processor"):
        own = times["ours, one query"][kind]
        scikit, plain = times["twin, scikit-learn"][kind], times["twin, numpy"][kind]
        reading = min(value[kind] for name, value in times.items() if name.startswith("reading"))
        ratios[kind] = {
            "one query, scikit-learn twin / ours (goal >= 6)": scikit / own,
            "one query, numpy twin / ours": plain / own,
            "one query, ours / reading once (goal <= 1.3)": own / reading,
            "per query of 64, scikit-learn twin / ours (goal >= 40)": scikit / per_query[kind],
            "per query of 64, numpy twin / ours": plain / per_query[kind],
        }
    return {
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "milliseconds": times,
        "milliseconds per query of 64": per_query,
        "ratios": ratios,
        "largest difference from the twins": worst,
        "peak memory / gallery (goal <= 1.3)": memory["ratio"],
        "gallery MiB": memory["gallery_mib"],
    }


def show(result: dict[str, Any]) -> None:
    machine = result["machine"]
    print(f"{IMAGES} photos x {ROWS} x {SIZE}, {machine['cpus']} CPUs, load {machine['load']:.1f}")
    for name, own in result["milliseconds"].items():
        rest = f"(median {own['median']:.2f}, processor {own['processor']:.2f})"
        print(f"  {name:44s} {own['best']:9.2f} ms  {rest}")
    print(f"  {'ours, per query of 64':44s} {result['milliseconds per query of 64']['best']:9.2f} ms")
    for kind, ratios in result["ratios"].items():
        for name, value in ratios.items():
            print(f"  {kind:9s} {name:56s} {value:7.2f}")
    print(f"  peak memory / gallery (goal <= 1.3) {result['peak memory / gallery (goal <= 1.3)']:.2f}")
    print(f"  largest difference from the twins {result['largest difference from the twins']:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_only:
        print(json.dumps(peak_memory()))
        return
    result = run(options.rounds)
    print(json.dumps(result, indent=2)) if options.json else show(result)


if __name__ == "__main__":
    main()
