"""Augmentations: nothing shaken is a plain crop, a flip is a mirror, colours follow PIL's grey."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from diagnosis.phenotype.embed.backbone import scale_pixels
from diagnosis.synthetic.training_augment import Augmentation, augment_faces
from diagnosis.synthetic.training_data import fit_standardisation, mirror_of

CALM = Augmentation(0.0, 0.0, 0.0, 50, 100, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def random_faces(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, 112, 112, 3), dtype=torch.uint8, generator=generator)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(8)


def with_options(**changes: float) -> Augmentation:
    return Augmentation(**{**CALM.__dict__, **changes})


def test_shaking_by_nothing_changes_nothing() -> None:
    faces, flipped = augment_faces(random_faces(), CALM, seeded())
    assert not flipped.any()
    torch.testing.assert_close(faces, scale_pixels(random_faces()), atol=2e-4, rtol=0)


def test_flip_mirrors_the_face() -> None:
    faces, flipped = augment_faces(random_faces(), with_options(flip_probability=1.0), seeded())
    assert flipped.all()
    torch.testing.assert_close(faces, scale_pixels(random_faces()).flip(3), atol=2e-4, rtol=0)


def test_a_shift_moves_the_face() -> None:
    """The slow twin: whole-pixel shifts are seen again as a displacement of the picture's peak."""
    pixels = torch.zeros(1, 112, 112, 3, dtype=torch.uint8)
    pixels[0, 50:53, 60:63] = 255
    moved, _ = augment_faces(pixels, with_options(shift_px=3.0), seeded())
    generator = seeded()
    for _ in range(2):
        torch.rand(1, generator=generator)
    for _ in range(2):
        torch.randn(1, generator=generator)
    shift = torch.randn(1, 2, generator=generator)[0] * 3.0
    weight = moved[0, 0] + 1
    rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    centre = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    torch.testing.assert_close(centre, torch.tensor([61.0, 51.0]) - shift, atol=0.02, rtol=0)


def test_grey_is_that_of_pil() -> None:
    pixels = random_faces(1)
    faces, _ = augment_faces(pixels, with_options(grey_probability=1.0), seeded())
    grey = np.asarray(Image.fromarray(pixels[0].numpy()).convert("L"), dtype=np.float32)
    expected = torch.from_numpy(grey / 127.5 - 1).expand(3, 112, 112)
    torch.testing.assert_close(faces[0], expected, atol=2 / 127.5, rtol=0)


def test_everything_together_stays_in_range_and_follows_the_seed() -> None:
    first, _ = augment_faces(random_faces(), Augmentation(), seeded())
    again, _ = augment_faces(random_faces(), Augmentation(), seeded())
    assert torch.equal(first, again)
    assert first.shape == (6, 3, 112, 112) and float(first.abs().max()) <= 1.0
    other, _ = augment_faces(random_faces(), Augmentation(), torch.Generator().manual_seed(9))
    assert not torch.equal(first, other)


def test_downscaling_loses_detail() -> None:
    faces, _ = augment_faces(random_faces(), with_options(downscale_probability=1.0), seeded())
    assert float(faces.std()) < 0.8 * float(scale_pixels(random_faces()).std())


def test_mirror_swaps_sides_and_turns_shifts() -> None:
    names = ["l-eye", "nose", "r-eye", "nose-shift", "l-only"]
    mirror = mirror_of(names, shifts=["nose-shift"])
    truth = np.array([[1, 2, 3, 4, 5]], dtype=np.float32)
    np.testing.assert_array_equal(mirror.apply(truth), [[3, 2, 1, -4, 5]])
    np.testing.assert_array_equal(mirror.apply(mirror.apply(truth)), truth)


def test_standardisation_commutes_with_the_mirror() -> None:
    mirror = mirror_of(["l-eye", "r-eye", "shift", "constant"], shifts=["shift"])
    raw = np.random.default_rng(0).normal([1, 3, 2, 7], [1, 2, 3, 0], size=(50, 4)).astype(np.float32)
    standard = fit_standardisation(raw, mirror)
    before, after = mirror.apply(standard.apply(raw)), standard.apply(mirror.apply(raw))
    np.testing.assert_allclose(before, after, atol=1e-5)
    assert np.all(standard.apply(raw)[:, 3] == 0)
