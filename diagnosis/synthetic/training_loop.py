"""One plain loop: batches of rendered faces in, a network and its curves out. Deterministic from the seed.

On one thread the same seed, data and machine give the same weights bit for bit. With bfloat16 on, other
processors round differently: expect curves equal to about 1 %, not weights equal to a tolerance.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
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
    """How one training runs. Learning rates are AdamW's; fractions are of all steps.

    Epoch i sees the first faces_per_epoch[i] faces once. stop_after_epoch ends earlier, on the same course.
    """

    faces_per_epoch: tuple[int, ...]
    stop_after_epoch: int | None = None
    seed: int = 11
    batch_faces: int = 64
    peak_learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup_fraction: float = 0.03
    decay_fraction: float = 0.5
    weight_decay: float = 0.02
    average_decay: float = 0.998
    gradient_clip_norm: float = 5.0
    bfloat16: bool = True
    heads_from_zero: bool = True
    losses: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Trained:
    """The averaged network in evaluation mode, and one report per epoch."""

    network: CompactNet
    curves: tuple[EpochReport, ...]


FaceGiver = Callable[[int], FaceSet]  # the first n faces
Validate = Callable[[Backbone], EpochReport]
Progress = Callable[[EpochReport, CompactNet], None]


def train_network(
    config: LoopConfig,
    give: FaceGiver,
    validate: Validate,
    progress: Progress,
    start: CompactNet | None = None,
) -> Trained:
    """Train a copy of `start`, or a fresh CompactNet, with fresh heads.

    `validate` and `progress` are called with the averaged network after each epoch.
    """
    torch.manual_seed(config.seed)
    network = copy.deepcopy(start) if start is not None else CompactNet()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = give(config.faces_per_epoch[0])
    heads = TrainingHeads(first.parameters.shape[1], first.syndrome_count, config.losses)
    if config.heads_from_zero:
        heads.start_from_zero()
    run = _Run(config, network, heads)
    curves: list[EpochReport] = []
    for epoch, count in enumerate(config.faces_per_epoch[: config.stop_after_epoch], start=1):
        report = {"epoch": float(epoch), **run.epoch(give(count)), **validate(run.averaged)}
        curves.append(report)
        progress(report, run.averaged)
    return Trained(run.averaged.eval(), tuple(curves))


class _Run:
    """Optimiser, schedule, moving average and random generators of one training."""

    def __init__(self, config: LoopConfig, network: CompactNet, heads: TrainingHeads) -> None:
        self.config, self.network, self.heads = config, network, heads
        self.averaged = copy.deepcopy(network).eval()
        self.generator = torch.Generator().manual_seed(config.seed)
        self.shuffle = np.random.default_rng(config.seed)
        self.parameters = [*network.parameters(), *heads.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.peak_learning_rate, weight_decay=config.weight_decay
        )
        self.steps = sum(count // config.batch_faces for count in config.faces_per_epoch)
        self.step = 0

    def epoch(self, faces: FaceSet) -> EpochReport:
        """All these faces once. Mean loss parts, and seconds of wall clock and CPU."""
        self.network.train()
        started, started_cpu = time.perf_counter(), time.process_time()
        sums = torch.zeros(4, dtype=torch.float64)
        batches = self._batches(len(faces))
        for indices in batches:
            sums += torch.stack(self._step(faces, indices)).detach().double()
        parts = LossParts(*(sums / len(batches)))
        return {
            "faces": float(len(faces)),
            **{f"loss_{name}": float(value) for name, value in parts._asdict().items()},
            "learning_rate": learning_rate(self.config, self.step / self.steps),
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - started_cpu,
        }

    def _batches(self, count: int) -> list[npt.NDArray[np.int64]]:
        """Whole batches in random order; within a batch the order is that of memory."""
        order, size = self.shuffle.permutation(count), self.config.batch_faces
        return [np.sort(order[start : start + size]) for start in range(0, count - size + 1, size)]

    def _step(self, faces: FaceSet, indices: npt.NDArray[np.int64]) -> LossParts:
        pixels = torch.from_numpy(faces.pixels[indices])  # (b, 112, 112, 3) uint8
        batch, flipped = augment_faces(pixels, self.config.augmentation, self.generator)
        parts = self._loss(batch, _targets(faces, indices, flipped))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step / self.steps)
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


def _targets(faces: FaceSet, indices: npt.NDArray[np.int64], flipped: Tensor) -> Targets:
    """A mirrored face has mirrored truth: left and right changes trade places."""
    parameters = torch.from_numpy(faces.parameters[indices])
    mirrored = torch.from_numpy(faces.mirrored_parameters(indices))
    chosen = torch.where(flipped[:, None], mirrored, parameters)
    return Targets(chosen, torch.from_numpy(faces.syndromes[indices]))


def learning_rate(config: LoopConfig, done: float) -> float:
    """Linear warm-up, a plateau, then half a cosine down; done in [0, 1] is the share of steps taken."""
    peak, final = config.peak_learning_rate, config.final_learning_rate
    if done < config.warmup_fraction:
        return peak * (done + 1e-3) / (config.warmup_fraction + 1e-3)
    falling = max(0.0, (done - 1 + config.decay_fraction) / config.decay_fraction)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * falling))


def embed_faces(network: Backbone, pixels: npt.NDArray[np.uint8], batch_faces: int = 128) -> FloatArray:
    """pixels (n, 112, 112, 3) uint8 → embeddings (n, 512) float32, not normalised."""
    network.eval()
    rows = np.empty((len(pixels), 512), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_faces):
            batch = scale_pixels(torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_faces])))
            rows[start : start + len(batch)] = network(batch).numpy()
    return rows
