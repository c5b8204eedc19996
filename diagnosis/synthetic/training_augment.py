"""Augmentation of aligned faces as the field does it, plus the detector's own error in placing landmarks.

One random affine map per face does jitter and flip, one random 3×3 matrix does brightness, contrast,
saturation, hue and grey: two passes over the pixels in all. Reading between pixels softens a face, which
the pipeline never does, so a share of the faces is flipped only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from diagnosis.phenotype.embed.backbone import scale_pixels
from diagnosis.phenotype.types import CROP_SIDE

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and OpenCV convert to grey
# RGB → YIQ (NTSC 1953): hue is a rotation in its I, Q plane and saturation a scale.
_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges; the first five lines follow GestaltMatcher's published training."""

    flip_probability: float = 0.5
    grey_probability: float = 0.1
    downscale_probability: float = 0.1
    downscale_min_px: int = 50
    downscale_max_px: int = 100
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.25
    hue_turns: float = 0.05
    shake_probability: float = 0.5
    shift_px: float = 1.0
    rotation_deg: float = 1.5
    log_scale: float = 0.02


def augment_faces(pixels: Tensor, options: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """pixels (b, 112, 112, 3) uint8 → faces (b, 3, 112, 112) float32 in [-1, 1], flipped (b,) bool."""
    faces = scale_pixels(pixels)
    flipped = torch.rand(len(faces), generator=generator) < options.flip_probability
    faces = torch.where(flipped[:, None, None, None], faces.flip(3), faces)
    shaken = torch.rand(len(faces), generator=generator) < options.shake_probability
    faces[shaken] = _shake(faces[shaken], options, generator)
    faces = _recolour(faces, options, generator)
    return _coarsen(faces, options, generator), flipped


def _shake(faces: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """(b, 3, 112, 112) → the same shape: rotated, scaled and shifted as if landmarks had been misplaced."""
    count = len(faces)
    angle = torch.randn(count, generator=generator) * math.radians(options.rotation_deg)
    scale = torch.exp(torch.randn(count, generator=generator) * options.log_scale)
    # affine_grid's coordinates run from -1 to 1 over the side of the face.
    shift = torch.randn(count, 2, generator=generator) * (2 * options.shift_px / CROP_SIDE)
    theta = torch.empty(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * angle.cos(), -scale * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = scale * angle.sin(), scale * angle.cos()
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, list(faces.shape), align_corners=False)
    return functional.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolour(faces: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """(b, 3, h, w) in [-1, 1] → the same, colours changed by one matrix and offset per face."""
    count, _, height, width = faces.shape
    matrix = _colour_matrices(count, options, generator)  # (b, 3, 3)
    contrast = 1 + _spread(count, options.contrast, generator)
    brightness = _spread(count, options.brightness, generator)
    grey_level = faces.mean(dim=(1, 2, 3)) * (1 - contrast) + brightness  # contrast pivots on the mean
    flat = faces.reshape(count, 3, height * width)
    mixed = torch.baddbmm(grey_level[:, None, None], contrast[:, None, None] * matrix, flat)
    return mixed.clamp_(-1, 1).reshape(count, 3, height, width)


def _colour_matrices(count: int, options: Augmentation, generator: torch.Generator) -> Tensor:
    """(count, 3, 3): saturation and hue in YIQ; for grey faces every row is the luma."""
    turn = _spread(count, options.hue_turns, generator) * 2 * math.pi
    saturation = 1 + _spread(count, options.saturation, generator)
    chroma = torch.zeros(count, 3, 3)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * turn.cos()
    chroma[:, 1, 2], chroma[:, 2, 1] = -saturation * turn.sin(), saturation * turn.sin()
    matrices = torch.linalg.inv(_YIQ) @ chroma @ _YIQ
    grey = torch.rand(count, generator=generator) < options.grey_probability
    return torch.where(grey[:, None, None], torch.tensor(LUMA).expand(3, 3), matrices)


def _coarsen(faces: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Some faces are read at 50–100 px and enlarged again, as a small photo would be."""
    chosen = torch.rand(len(faces), generator=generator) < options.downscale_probability
    sides = torch.randint(
        options.downscale_min_px, options.downscale_max_px + 1, (len(faces),), generator=generator
    )
    for index in chosen.nonzero().flatten().tolist():
        side = int(sides[index])
        small = functional.interpolate(faces[index : index + 1], size=(side, side), mode="area")
        faces[index] = functional.interpolate(small, size=(CROP_SIDE, CROP_SIDE), mode="bilinear")[0]
    return faces


def _spread(count: int, reach: float, generator: torch.Generator) -> Tensor:
    """(count,) uniform in [-reach, reach]."""
    return (torch.rand(count, generator=generator) * 2 - 1) * reach
