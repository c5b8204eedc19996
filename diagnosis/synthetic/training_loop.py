"""One plain loop: batches of rendered faces in, a network and its curves out. Deterministic from the seed.

On one thread the same seed, data and machine give the same weights bit for bit. With bfloat16 on, other
processors round differently: expect curves equal to about 1 %, not weights equal to a tolerance.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone, scale_pixels
from diagnosis.phenotype.embed.compact import CompactNet
from diagnosis.phenotype.types import FloatArray
from diagnosis.synthetic.training_augment import Augmentation, augment_faces
from diagnosis.synthetic.training_data import FaceSet
from diagnosis.synthetic.training_losses import LossParts, LossWeights, Targets, TrainingHeads

EpochReport = dict[str, float]


@dataclass(frozen=True)
class LoopConfig:
    """How one training runs. Learning rates are AdamW's; fractions are of all steps."""

    seed: int = 11
    epochs: int = 8
    batch_faces: int = 64
    peak_learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup_fraction: float = 0.05
    weight_decay: float = 0.02
    average_decay: float = 0.998
    gradient_clip_norm: float = 5.0
    bfloat16: bool = True
    losses: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Trained:
    """The averaged network in evaluation mode, and one report per epoch."""

    network: CompactNet
    curves: tuple[EpochReport, ...]


Validate = Callable[[Backbone], EpochReport]
Progress = Callable[[EpochReport], None]


def train_network(config: LoopConfig, faces: FaceSet, validate: Validate, progress: Progress) -> Trained:
    """Train a fresh CompactNet on `faces`; `validate` and `progress` are called once per epoch."""
    torch.manual_seed(config.seed)
    network = CompactNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = TrainingHeads(faces.parameters.shape[1], faces.syndrome_count, config.losses)
    run = _Run(config, faces, network, heads)
    curves: list[EpochReport] = []
    for epoch in range(1, config.epochs + 1):
        report = {"epoch": float(epoch), **run.epoch(), **validate(run.averaged)}
        curves.append(report)
        progress(report)
    return Trained(run.averaged.eval(), tuple(curves))


class _Run:
    """Optimiser, schedule, moving average and random generators of one training."""

    def __init__(self, config: LoopConfig, faces: FaceSet, network: CompactNet, heads: TrainingHeads) -> None:
        self.config, self.faces, self.network, self.heads = config, faces, network, heads
        self.averaged = copy.deepcopy(network).eval()
        self.generator = torch.Generator().manual_seed(config.seed)
        self.shuffle = np.random.default_rng(config.seed)
        self.parameters = [*network.parameters(), *heads.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.peak_learning_rate, weight_decay=config.weight_decay
        )
        self.steps_per_epoch = len(faces) // config.batch_faces
        self.step = 0

    def epoch(self) -> EpochReport:
        """All faces once. Mean loss parts, and seconds of wall clock and CPU."""
        self.network.train()
        started, started_cpu = time.perf_counter(), time.process_time()
        sums = torch.zeros(4, dtype=torch.float64)
        for indices in self._batches():
            sums += torch.stack(self._step(indices)).detach().double()
        parts = LossParts(*(sums / self.steps_per_epoch))
        return {
            **{f"loss_{name}": float(value) for name, value in parts._asdict().items()},
            "learning_rate": self._learning_rate(),
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - started_cpu,
        }

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        order = self.shuffle.permutation(len(self.faces))
        size = self.config.batch_faces
        for start in range(0, self.steps_per_epoch * size, size):
            yield np.sort(order[start : start + size])

    def _step(self, indices: npt.NDArray[np.int64]) -> LossParts:
        pixels = torch.from_numpy(self.faces.pixels[indices])  # (b, 112, 112, 3) uint8
        batch, flipped = augment_faces(pixels, self.config.augmentation, self.generator)
        parts = self._loss(batch, self._targets(indices, flipped))
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip_norm)
        self.optimiser.step()
        self.step += 1
        self._average()
        return parts

    def _loss(self, batch: Tensor, targets: Targets) -> LossParts:
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            embeddings = self.network(batch)
        parts: LossParts = self.heads(embeddings.float(), targets)
        return parts

    def _targets(self, indices: npt.NDArray[np.int64], flipped: Tensor) -> Targets:
        """A mirrored face has mirrored truth: left and right changes trade places."""
        parameters = torch.from_numpy(self.faces.parameters[indices])
        mirrored = torch.from_numpy(self.faces.mirrored_parameters(indices))
        chosen = torch.where(flipped[:, None], mirrored, parameters)
        return Targets(chosen, torch.from_numpy(self.faces.syndromes[indices]))

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to the final rate."""
        done = self.step / max(1, self.steps_per_epoch * self.config.epochs)
        warmup = self.config.warmup_fraction
        peak, final = self.config.peak_learning_rate, self.config.final_learning_rate
        if done < warmup:
            return peak * (done + 1e-3) / (warmup + 1e-3)
        return float(final + (peak - final) * 0.5 * (1 + np.cos(np.pi * (done - warmup) / (1 - warmup))))

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of weights and statistics, shorter at the start."""
        decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
        theirs = self.network.state_dict()
        for name, mine in self.averaged.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - decay)
            else:
                mine.copy_(theirs[name])


def embed_faces(network: Backbone, pixels: npt.NDArray[np.uint8], batch_faces: int = 128) -> FloatArray:
    """pixels (n, 112, 112, 3) uint8 → embeddings (n, 512) float32, not normalised."""
    network.eval()
    rows = np.empty((len(pixels), 512), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_faces):
            batch = scale_pixels(torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_faces])))
            rows[start : start + len(batch)] = network(batch).numpy()
    return rows
