"""The extractor that ships with the project: which files, which rows, what was measured about it.

Beside its weights lie a card (origin, licence, sha256, configuration, curves), its calibration (arrays as
safetensors, facts as JSON) and its evaluation, all under one stem: compact-<first digits of the sha256>.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from diagnosis.phenotype.embed.spec import EnsembleSpec, Member, full_ensemble
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.ranking.calibration import Calibration

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
DEFAULT_NAME = "compact"


@dataclass(frozen=True)
class ShippedExtractor:
    """card: the JSON beside the weights; spec: its one member on four views (flip × grey)."""

    weights: Path
    card: dict[str, Any]
    spec: EnsembleSpec

    def calibration(self) -> Calibration:
        """Its bands and match score. CalibrationError if they are not those of exactly this ensemble."""
        facts = json.loads(self.weights.with_suffix(".calibration.json").read_text(encoding="utf-8"))
        arrays = load_file(self.weights.with_suffix(".calibration.safetensors"))
        return Calibration.from_arrays(arrays, facts, model_sha256=self.spec.sha256)

    def evaluation(self) -> dict[str, Any]:
        """What was measured on the evaluation cohort."""
        text = self.weights.with_suffix(".evaluation.json").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
        return found


def shipped_extractor(folder: Path = SHIPPED_FOLDER) -> ShippedExtractor:
    """The one shipped extractor. WeightsRefused, with what to do, where there is none or more than one."""
    found = sorted(folder.glob("compact-*.safetensors"))
    weights = [path for path in found if not path.name.endswith(".calibration.safetensors")]
    if len(weights) != 1:
        raise WeightsRefused(
            f"Found {len(weights)} shipped extractors instead of one; restore the project's files, or train "
            "one with `manage.py train_extractor`."
        )
    return extractor_at(weights[0])


def extractor_at(weights: Path) -> ShippedExtractor:
    """The extractor of a weights file with its card beside it."""
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    member = Member(
        name=DEFAULT_NAME,
        architecture=card["architecture"],
        sha256=card["sha256"],
        synthetic=card["synthetic"],
        origin=card["origin"],
        licence=card["licence"],
    )
    return ShippedExtractor(weights, card, full_ensemble([member]))
