"""What was measured about one model on held-out people, stored beside its weights.

Plain arrays and a JSON dictionary, so that it travels in a safetensors file and is never unpickled. It is
bound to the sha256 of the model it was measured on and refuses to speak for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking.bands import Band, Bands
from diagnosis.phenotype.ranking.intervals import Estimate
from diagnosis.phenotype.ranking.logistic import Logistic
from diagnosis.phenotype.ranking.match import FEATURES, Contrast, Matcher, MatchScore
from diagnosis.phenotype.ranking.metrics import ThresholdFigures
from diagnosis.phenotype.types import EmbeddingSet, Ranking

FORMAT = "gestaltweb-calibration-1"
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Bands and match score of one model. about: free JSON, e.g. cohort, seed, gallery version, date."""

    model_sha256: str
    bands: Bands
    matcher: Matcher
    about: Mapping[str, Any] = field(default_factory=dict)

    def band(self, distance: float) -> Band:
        """High, Medium or Low."""
        return self.bands.band(distance)

    def match(self, query: EmbeddingSet | Sequence[EmbeddingSet], ranking: Ranking) -> MatchScore:
        """Score of one person's photos and ranking. CalibrationError if they come from another model."""
        photos = [query] if isinstance(query, EmbeddingSet) else list(query)
        models = {photo.model_sha256 for photo in photos} | {ranking.extra.get("model_sha256")}
        if models != {self.model_sha256}:
            raise CalibrationError("The photo was embedded with another model. Calibrate that model first.")
        return self.matcher.score(photos, ranking)

    def to_arrays(self) -> tuple[Arrays, dict[str, Any]]:
        """(named arrays, JSON dictionary); the reverse of `from_arrays`."""
        contrast, logistic = self.matcher.contrast, self.matcher.logistic
        arrays: Arrays = {
            "contrast.direction": contrast.direction,
            "contrast.offset": contrast.offset,
            "contrast.mean": contrast.mean,
            "contrast.precision": contrast.precision,
            "logistic.weights": logistic.weights,
            "logistic.intercept": np.array([logistic.intercept]),
            "logistic.centre": logistic.centre,
            "logistic.scale": logistic.scale,
        }
        figures = self.matcher.figures
        facts = {
            "format": FORMAT,
            "model_sha256": self.model_sha256,
            "features": list(FEATURES),
            "bands": self.bands.as_dict(),
            "threshold": self.matcher.threshold,
            "area": self.matcher.area.as_dict(),
            "sensitivity": figures.sensitivity.as_dict(),
            "specificity": figures.specificity.as_dict(),
            "precision": figures.precision.as_dict(),
            "about": dict(self.about),
        }
        return arrays, facts

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, npt.NDArray[np.generic]], facts: Mapping[str, Any], *, model_sha256: str
    ) -> Calibration:
        """Checked reading. model_sha256: the model it is wanted for. Raises CalibrationError if it is
        another model's, of an unknown format, incomplete, or holds arrays of a wrong shape or value."""
        if facts.get("format") != FORMAT or list(facts.get("features", ())) != list(FEATURES):
            raise CalibrationError("The calibration has an unknown format. Calibrate the model again.")
        if facts.get("model_sha256") != model_sha256:
            raise CalibrationError("The calibration belongs to another model. Calibrate this one.")
        try:
            matcher = _matcher(arrays, facts)
            bands = Bands.from_dict(facts["bands"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CalibrationError("The calibration is incomplete. Calibrate the model again.") from error
        return cls(model_sha256, bands, matcher, dict(facts.get("about", {})))


def _matcher(arrays: Mapping[str, npt.NDArray[np.generic]], facts: Mapping[str, Any]) -> Matcher:
    rows, size = arrays["contrast.direction"].shape
    count = len(FEATURES)

    def checked(name: str, shape: tuple[int, ...], kind: type[np.floating[Any]]) -> npt.NDArray[Any]:
        array = arrays[name]
        if array.shape != shape or array.dtype != kind or not np.all(np.isfinite(array)):
            raise CalibrationError(f"The calibration's {name} is damaged. Calibrate the model again.")
        return array

    contrast = Contrast(
        direction=checked("contrast.direction", (rows, size), np.float32),
        offset=checked("contrast.offset", (rows,), np.float32),
        mean=checked("contrast.mean", (rows, size), np.float32),
        precision=checked("contrast.precision", (rows, size, size), np.float32),
    )
    logistic = Logistic(
        weights=checked("logistic.weights", (count,), np.float64),
        intercept=float(checked("logistic.intercept", (1,), np.float64)[0]),
        centre=checked("logistic.centre", (count,), np.float64),
        scale=checked("logistic.scale", (count,), np.float64),
    )
    threshold = float(facts["threshold"])
    estimates = {
        name: Estimate.from_dict(facts[name]) for name in ("area", "sensitivity", "specificity", "precision")
    }
    area = estimates.pop("area")
    return Matcher(contrast, logistic, threshold, area, ThresholdFigures(threshold, **estimates))
