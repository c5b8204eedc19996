"""One masked query against 10,000 patients × 12 rows: `python -m benchmarks.kernel_query [--json]`.

Ours is what the coordinator does for one question: unit norm of the query, streamed distances, release
policy. The opponent is the naive loop over pairs and rows, one cosine at a time, on part of the gallery and
scaled up; "numpy per pair" is the same with one vectorised product per pair. Masking is compared with one
plain product of the same size, (120,000 × 512)(512 × k'). Distances of ours and the loop are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from federation.kernel.commitments import vector_sha256  # noqa: E402
from federation.kernel.config import EMBEDDING, MASKED, KernelConfig  # noqa: E402
from federation.kernel.gallery import Gallery, Row  # noqa: E402
from federation.kernel.gram import distances  # noqa: E402
from federation.kernel.mask import Mask  # noqa: E402
from federation.kernel.policy import Policy  # noqa: E402
from federation.kernel.release import Query  # noqa: E402
from federation.kernel.sealing import secret_id  # noqa: E402
from federation.kernel.session import Earlier, answer_query  # noqa: E402
from federation.kernel.state import State  # noqa: E402

Float32 = npt.NDArray[np.float32]
PATIENTS, MEMBERS = 10_000, 12
LOOP_PATIENTS = 20  # of the opponents; their time is per pair, so it scales
MASK_PATIENTS = 1_000  # per turn of masking
SECRET = bytes(range(32))
POLICY = Policy((("High", 0.39), ("Medium", 0.46)), 0.3, 0.05, 20, 100_000)
CONFIG = KernelConfig(secret_id(SECRET), "a" * 64, MEMBERS, POLICY)


def make_faces(count: int, seed: int) -> Float32:
    """(count, 12, 512) unit rows around a common mean, in blocks."""
    rng = np.random.default_rng(seed)
    faces = np.empty((count, MEMBERS, EMBEDDING), dtype=np.float32)
    for start in range(0, count, 256):
        block = faces[start : start + 256]
        rng.standard_normal(block.shape, dtype=np.float32, out=block)
        block += 0.9
        block /= np.linalg.norm(block, axis=2, keepdims=True)
    return faces


def make_gallery(mask: Mask) -> Gallery:
    masked = np.empty((PATIENTS, MEMBERS, MASKED), dtype=np.float32)
    for start in range(0, PATIENTS, 500):
        masked[start : start + 500] = mask.apply(make_faces(500, start))
    rows = [Row(f"{index:064x}", f"site{index % 20}", f"{index % 500:064x}") for index in range(PATIENTS)]
    return Gallery(tuple(rows), masked)


def make_queries(mask: Mask, count: int) -> Float32:
    """Masked rows of faces that each resemble one patient (distance about 0.33): answers are given."""
    own = 0.35 * make_faces(500, 0)[:count] + 0.94 * make_faces(500, 99)[:count]
    return mask.apply((own / np.linalg.norm(own, axis=2, keepdims=True)).astype(np.float32))


def loop(query: Float32, masked: Float32) -> list[float]:
    """Pair by pair, row by row, number by number in numpy's smallest steps."""
    found = []
    for patient in masked:
        total = 0.0
        for left, right in zip(query, patient, strict=True):
            total += 1.0 - np.dot(left, right) / (np.linalg.norm(left) * np.linalg.norm(right))
        found.append(total / len(query))
    return found


def measure(job: Callable[[], object], turns: int) -> dict[str, float]:
    """Milliseconds: median, 95th percentile and fastest of `turns`."""
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        job()
        times.append(1e3 * (time.perf_counter() - start))
    return {"median": statistics.median(times), "p95": float(np.quantile(times, 0.95)), "best": min(times)}


def measure_masking(mask: Mask, turns: int) -> dict[str, float]:
    """Least processor seconds of masking 1,000 patients, and of one product of that size, in turn."""
    faces = make_faces(MASK_PATIENTS, 1)
    flat, out = faces.reshape(-1, EMBEDDING), np.empty((MASK_PATIENTS * MEMBERS, MASKED), dtype=np.float32)
    own, product = [], []
    for _ in range(turns):
        for job, times in (
            (lambda: mask.apply(faces), own),
            (lambda: np.matmul(flat, mask.matrices[0], out=out), product),
        ):
            start = time.process_time()
            job()
            times.append(time.process_time() - start)
    scale = PATIENTS / MASK_PATIENTS
    return {
        "masking 10,000 patients, processor s": scale * min(own),
        "one product, processor s": scale * min(product),
        "masking / product (goal <= 1.5)": min(own) / min(product),
    }


def run(turns: int) -> dict[str, Any]:
    mask = Mask.derive(SECRET, CONFIG)
    gallery, queries = make_gallery(mask), make_queries(mask, turns)
    nothing = Earlier((), np.empty((0, MEMBERS, MASKED), dtype=np.float32))
    state, number = State(), iter(range(10**6))

    def ask() -> None:
        nonlocal state
        place = next(number) % turns
        rows, name = queries[place], f"{place:064x}"
        query = Query("asker", name, name, name, CONFIG.model_sha256, vector_sha256(rows), 1)
        state = answer_query(state, POLICY, query, rows, gallery, nothing).state

    ask()
    own = measure(ask, turns)
    bare = measure(lambda: distances(queries[:1], gallery.blocks()), turns)
    part = gallery.masked[:LOOP_PATIENTS]
    naive = measure(lambda: loop(queries[0], part), 20)
    pairs = measure(lambda: [1.0 - float(np.sum(queries[0] * one)) / MEMBERS for one in part], 20)
    worst = np.abs(np.array(loop(queries[0], part)) - distances(queries[:1], [part])[0]).max()
    scale = PATIENTS / LOOP_PATIENTS
    return {
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]},
        "milliseconds, one question of 10,000 patients": own,
        "milliseconds, distances alone": bare,
        "p95 (goal <= 300 ms)": own["p95"],
        "pairwise loop, ms (scaled)": scale * naive["best"],
        "pairwise loop / ours": scale * naive["best"] / own["best"],
        "numpy per pair / ours": scale * pairs["best"] / own["best"],
        "largest difference from the loop": float(worst),
        "gallery GiB": gallery.masked.nbytes / 2**30,
        "pairs charged": sum(state.budgets.in_all(patient) for patient in state.budgets.used),
    } | measure_masking(mask, 12)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=60)
    arguments = parser.parse_args()
    result = run(arguments.turns)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
