"""The shipped extractor: files that belong together, fit the repository, and answer as when they were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diagnosis.phenotype.embed.backbone import scale_pixels
from diagnosis.phenotype.embed.default import SHIPPED_FOLDER, shipped_extractor
from diagnosis.phenotype.embed.ensemble import load_ensemble
from diagnosis.phenotype.embed.weights import load_weights
from diagnosis.phenotype.errors import CalibrationError, WeightsRefused
from diagnosis.phenotype.types import CROP_SIDE


def waves() -> np.ndarray:
    """The self-test's faces, written out again: (2, 112, 112, 3) uint8."""
    faces = np.zeros((2, CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)
    for face in range(2):
        for channel in range(3):
            for row in range(CROP_SIDE):
                columns = np.arange(CROP_SIDE)
                faces[face, row, :, channel] = (row * (3 + face) + columns * (channel + 2)) % 256
    return faces


def test_weights_load_by_hash_and_reproduce_their_self_test() -> None:
    shipped = shipped_extractor()
    card = shipped.card
    network = load_weights(shipped.weights, sha256=card["sha256"], architecture=card["architecture"])
    with torch.inference_mode():
        rows = torch.nn.functional.normalize(network(scale_pixels(torch.from_numpy(waves())))).numpy()
    stored = np.array(card["self_test"])
    np.testing.assert_allclose(rows[:, : stored.shape[1]], stored, atol=1e-4)


def test_weights_are_small_and_the_card_says_what_they_are() -> None:
    shipped = shipped_extractor()
    assert shipped.weights.stat().st_size == shipped.card["bytes"] <= 8_000_000
    assert shipped.card["notice"] == "Trained on synthetic faces, for demonstration, not for patients."
    assert shipped.card["synthetic"] is True and shipped.spec.synthetic
    for fact in ("origin", "licence", "sha256", "config", "curves", "machine", "seconds"):
        assert shipped.card[fact], fact


def test_calibration_and_evaluation_are_of_this_ensemble() -> None:
    shipped = shipped_extractor()
    calibration = shipped.calibration()
    assert calibration.model_sha256 == shipped.spec.sha256 == shipped.evaluation()["model_sha256"]
    assert [figures.band for figures in calibration.bands.figures] == ["High", "Medium", "Low"]
    faces = waves()
    ensemble = load_ensemble(shipped.spec, {shipped.card["sha256"]: shipped.weights})
    rows = np.stack([found.rows for found in ensemble.embed(faces)])
    assert np.isfinite(calibration.matcher.contrast.features(rows)).all()


def test_calibration_of_other_weights_is_refused(tmp_path: Path) -> None:
    for path in SHIPPED_FOLDER.glob("compact-*"):
        shutil.copy(path, tmp_path / path.name)
    facts_file = next(tmp_path.glob("compact-*.calibration.json"))
    facts = json.loads(facts_file.read_text())
    facts_file.write_text(json.dumps(facts | {"model_sha256": "0" * 64}))
    with pytest.raises(CalibrationError, match="another model"):
        shipped_extractor(tmp_path).calibration()


def test_none_or_two_extractors_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match="train_extractor"):
        shipped_extractor(tmp_path)
    for name in ("compact-1.safetensors", "compact-2.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsRefused, match="2 shipped extractors"):
        shipped_extractor(tmp_path)
