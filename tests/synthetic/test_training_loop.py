"""The training loop on drawn faces: it learns, it repeats itself exactly, its averages are averages."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.synthetic.training_data import FaceSet, mirror_of
from diagnosis.synthetic.training_loop import (
    LoopConfig,
    Trained,
    embed_faces,
    learning_rate,
    train_network,
)

SHORT = LoopConfig((96, 96), seed=5, batch_faces=16, average_decay=0.9)


def drawn_faces(count: int = 96) -> FaceSet:
    """Two eyes and a mouth on a plain ground; what was drawn is the truth. Syndrome = sign of the mouth."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(count, 3)).astype(np.float32)
    rows, columns = np.mgrid[0:112, 0:112].astype(np.float32)
    pixels = np.full((count, 112, 112, 3), 150, dtype=np.uint8)
    for image, (left, right, mouth) in zip(pixels, truth, strict=True):
        for x, y, size in ((36, 48, 4 + left), (76, 48, 4 + right), (56, 90 + 6 * mouth, 7)):
            image[(columns - x) ** 2 + (rows - y) ** 2 < max(size, 1) ** 2] = 20
    syndromes = np.where(truth[:, 2] > 0.4, 1, np.where(truth[:, 2] < -0.4, 0, -1))
    mirror = mirror_of(["l-eye", "r-eye", "mouth"], shifts=[])
    return FaceSet(pixels, truth, mirror, syndromes, np.arange(count), 2)


def no_validation(network: Backbone) -> dict[str, float]:
    return {}


def train(config: LoopConfig, faces: FaceSet) -> Trained:
    torch.set_num_threads(1)
    return train_network(config, lambda count: first_faces(faces, count), no_validation, lambda *_: None)


def first_faces(faces: FaceSet, count: int) -> FaceSet:
    parts = (faces.pixels, faces.parameters, faces.syndromes, faces.patients)
    pixels, parameters, syndromes, patients = (part[:count] for part in parts)
    return FaceSet(pixels, parameters, faces.mirror, syndromes, patients, faces.syndrome_count)


def test_training_reduces_every_part_of_the_loss() -> None:
    curves = train(dataclasses.replace(SHORT, faces_per_epoch=(96,) * 5), drawn_faces()).curves
    first, last = curves[0], curves[-1]
    assert last["loss_total"] < 0.8 * first["loss_total"]
    assert last["loss_regression"] < 0.8 * first["loss_regression"]
    assert last["loss_margin"] < first["loss_margin"]
    assert [report["epoch"] for report in curves] == [1, 2, 3, 4, 5]


def test_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    first = train(SHORT, drawn_faces()).network.state_dict()
    again = train(SHORT, drawn_faces()).network.state_dict()
    other = train(dataclasses.replace(SHORT, seed=6), drawn_faces()).network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_learning_rate_warms_up_stays_and_falls() -> None:
    config = dataclasses.replace(SHORT, warmup_fraction=0.1, decay_fraction=0.4)
    rates = [learning_rate(config, done / 100) for done in range(101)]
    assert all(before < after for before, after in pairwise(rates[:11]))
    assert rates[10:61] == [config.peak_learning_rate] * 51
    assert all(before > after for before, after in pairwise(rates[60:]))
    assert rates[80] == pytest.approx((config.peak_learning_rate + config.final_learning_rate) / 2)
    assert rates[100] == pytest.approx(config.final_learning_rate)


def test_epochs_see_the_faces_they_were_promised_and_stop_where_told() -> None:
    config = dataclasses.replace(SHORT, faces_per_epoch=(32, 64, 96), stop_after_epoch=2)
    stopped, whole = train(config, drawn_faces()), train(SHORT, drawn_faces())
    assert [report["faces"] for report in stopped.curves] == [32, 64]
    assert [report["faces"] for report in whole.curves] == [96, 96]


def test_embedding_in_batches_equals_one_face_at_a_time() -> None:
    network, faces = train(SHORT, drawn_faces(32)).network, drawn_faces(32)
    together = embed_faces(network, faces.pixels[:7], batch_faces=4)
    alone = np.concatenate([embed_faces(network, faces.pixels[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(together, alone, atol=1e-4)
