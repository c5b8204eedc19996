"""The 12-row ensemble of one photo against one whole forward pass per row, in one run.

    python -m benchmarks.ensemble [--rounds 5] [--threads 1] [--json]

Members a (iResNet-50), b and c (iResNet-100; b has c's trunk and a neck of its own), random weights with
random BatchNorm statistics, each on {original, flipped} × {colour, grey}. The twin knows nothing of the
package's ensemble: for each row it makes the view with Pillow and runs the whole member on it. The
variants are timed in turn within each round, so that a busy machine hits all alike; what is printed is
the median over rounds of CPU and wall time, and the largest difference of any row from the twin's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from diagnosis.phenotype.embed.backbone import Backbone, build_backbone
from diagnosis.phenotype.embed.ensemble import Ensemble, Optimisations
from diagnosis.phenotype.embed.self_test import synthetic_faces
from diagnosis.phenotype.embed.spec import Member, full_ensemble

VARIANTS = {
    "sharing alone": Optimisations(batch_views=False, fold=False, channels_last=False),
    "batching alone": Optimisations(share_trunks=False, fold=False, channels_last=False),
    "folding alone": Optimisations(share_trunks=False, batch_views=False, channels_last=False),
    "sharing, batching": Optimisations(fold=False, channels_last=False),
    "sharing, batching, folding": Optimisations(channels_last=False),
    "all, with channels last": Optimisations(),
    "all but sharing": Optimisations(share_trunks=False),  # where fine-tuning moved b's trunk, too
}


def random_backbone(architecture: str, seed: int) -> Backbone:
    """Random weights and BatchNorm statistics with which 100 layers neither explode nor vanish."""
    torch.manual_seed(seed)
    backbone = build_backbone(architecture)
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return backbone


def members() -> dict[str, Backbone]:
    """a, b and c; b's trunk equals c's but is another object, as after loading two files."""
    c = random_backbone("iresnet100", seed=3)
    b = random_backbone("iresnet100", seed=2)
    b.trunk.load_state_dict(c.trunk.state_dict())
    return {"a": random_backbone("iresnet50", seed=1), "b": b, "c": c}


def twin(backbones: dict[str, Backbone], pixels: np.ndarray) -> np.ndarray:
    """(112, 112, 3) uint8 → (12, 512) float32 unit rows, each by a pass of its own."""
    rows = []
    for backbone in backbones.values():
        for flip in (False, True):
            for grey in (False, True):
                image = Image.fromarray(pixels)
                image = image.convert("L").convert("RGB") if grey else image
                image = ImageOps.mirror(image) if flip else image
                x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
                with torch.inference_mode():
                    row = backbone((x / 255 - 0.5) / 0.5)[0].numpy()
                rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def timed(call: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """(CPU seconds, wall seconds, result) of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def run(rounds: int) -> dict[str, dict[str, float]]:
    """Name of the variant → its times and its largest difference from the twin."""
    backbones = members()
    pixels = synthetic_faces(1)
    spec = full_ensemble([Member(name, net.architecture, "0" * 64) for name, net in backbones.items()])
    calls: dict[str, Callable[[], np.ndarray]] = {"twin": lambda: twin(backbones, pixels[0])}
    for name, optimisations in VARIANTS.items():
        ensemble = Ensemble(spec, backbones, optimisations=optimisations)
        calls[name] = lambda ensemble=ensemble: ensemble.embed(pixels)[0].rows
    reference = calls["twin"]()
    differences = {name: float(np.abs(call() - reference).max()) for name, call in calls.items()}
    times = [{name: timed(call)[:2] for name, call in calls.items()} for _ in range(rounds)]
    report = {}
    for name in calls:
        cpu, wall = (median(each[name][i] for each in times) for i in (0, 1))
        speedup = median(each["twin"][0] / each[name][0] for each in times)
        report[name] = {"cpu_s": cpu, "wall_s": wall, "speedup": speedup, "difference": differences[name]}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="12-row ensemble of one photo against one pass per row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = run(arguments.rounds)
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), float32, {arguments.rounds} rounds")
    for name, row in report.items():
        print(
            f"{name:30s} {row['cpu_s']:7.3f} s CPU {row['wall_s']:7.3f} s wall   {row['speedup']:5.2f}x"
            f"   largest difference {row['difference']:.1e}"
        )


if __name__ == "__main__":
    main()
