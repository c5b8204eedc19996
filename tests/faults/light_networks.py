"""Light stand-ins for the two networks, for fault tests that ask about jobs and not about faces.

The detector names the landmarks that MTCNN finds in the one picture used here, and the embedding is a
fixed function of the aligned crop. All else is the real thing: alignment, quality, sealing, leases,
transactions. Both wait a little without using a processor, so that a kill can hit their step.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
from django.apps import AppConfig

BOX = (58.6, 19.5, 149.0, 136.3)
LANDMARKS = ((84.1, 60.8), (127.8, 64.1), (105.6, 88.7), (82.3, 100.6), (125.7, 102.7))
SECONDS = 0.08


class OneFace:
    """A detector that knows one face."""

    def detect(self, photo: Any) -> Any:
        from diagnosis.phenotype.types import DetectedFace

        time.sleep(SECONDS)
        return (DetectedFace(np.float32(BOX), np.float32(LANDMARKS), 0.99),)


def embed(extractor: Any, face: Any) -> Any:
    """(m, 512) unit rows, one per network and view, that differ for different pixels."""
    from diagnosis import engine
    from diagnosis.phenotype.types import EmbeddingSet

    time.sleep(SECONDS)
    seed = int.from_bytes(hashlib.sha256(face.pixels.tobytes()).digest()[:8], "big")
    size = (len(engine.spec_of(extractor).rows), 512)
    rows = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return EmbeddingSet(rows / np.linalg.norm(rows, axis=1, keepdims=True), extractor.sha256)


class LightNetworks(AppConfig):
    name = "tests.faults"
    label = "light_networks"

    def ready(self) -> None:
        from diagnosis import engine

        engine.detector = OneFace  # type: ignore[assignment]
        engine.embed = embed
        engine.ensemble = lambda extractor: None  # type: ignore[assignment, return-value]
