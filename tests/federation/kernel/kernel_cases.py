"""Small sessions for the kernel's tests: people, rows, questions, a coordinator in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from federation.kernel.config import KernelConfig
from federation.kernel.gallery import Gallery, Row
from federation.kernel.policy import Policy
from federation.kernel.release import Query, Step, ask, decide
from federation.kernel.sealing import secret_id
from federation.kernel.state import State

Float32 = npt.NDArray[np.float32]
SECRET = bytes(range(32))
MODEL = "a" * 64
POLICY = Policy(
    bands=(("High", 0.39), ("Medium", 0.46)), same_person=0.30, near_identical=0.05, crowd=1,
    queries_per_day=1000,
)  # fmt: skip


def config(members: int = 2, **changes: Any) -> KernelConfig:
    fields: dict[str, Any] = {
        "secret_id": secret_id(SECRET), "model_sha256": MODEL, "members": members, "policy": POLICY,
    }  # fmt: skip
    return KernelConfig(**fields | changes)


def people(count: int, members: int = 2, seed: int = 0, size: int = 512) -> Float32:
    """(count, members, size) float32 unit rows around a common mean, as embeddings of faces are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, members, size)) + 1.0
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_gallery(*rows: tuple[str, str, str]) -> Gallery:
    """(patient, owner, tag) each; the masked rows are placeholders, as `ask` is given distances."""
    masked = np.zeros((len(rows), 1, 4), dtype=np.float32)
    masked[:, :, 0] = 1.0
    return Gallery(tuple(Row(*row) for row in rows), masked)


def make_query(photo: str, *, asker: str = "a", asking: str = "", model: str = MODEL, day: int = 1) -> Query:
    return Query(
        asker, asking or f"patient of {photo}", photo, name(f"{photo}/{model}"), model,
        name(f"vector/{photo}/{model}"), day,
    )  # fmt: skip


@dataclass
class Coordinator:
    """A session that remembers; distances are given by patient."""

    gallery: Gallery
    policy: Policy = POLICY
    state: State = field(default_factory=State)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def ask(
        self, photo: str, distances: dict[str, float] | Sequence[float], **changes: Any
    ) -> list[tuple[str, str]]:
        """The answer as (tag, band) pairs."""
        nearest = changes.pop("nearest_earlier", None)
        found = (
            [distances.get(row.patient, 1.0) for row in self.gallery.rows]
            if isinstance(distances, dict) else list(distances)
        )  # fmt: skip
        query = make_query(photo, **changes)
        values = np.array(found, dtype=np.float32)
        step = ask(self.state, self.policy, query, self.gallery, values, nearest_earlier=nearest)
        return self._take(step)

    def decide(self, photo: str, patient: str, owner: str, accept: bool) -> list[tuple[str, str]]:
        return self._take(decide(self.state, photo, patient, owner=owner, accept=accept))

    def _take(self, step: Step) -> list[tuple[str, str]]:
        self.state = step.state
        for site, body in step.said:
            self.lines.setdefault(site, []).append(body)
        return [(own.tag, own.band) for own in step.answer]
