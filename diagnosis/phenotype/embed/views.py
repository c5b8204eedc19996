"""The views of one aligned face that an ensemble embeds: original or mirrored, in colour or grey.

Order and meaning follow GestaltMatcher-Arc (arXiv 2211.06764): flip outer, grey inner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from diagnosis.phenotype.embed.backbone import scale_pixels
from diagnosis.phenotype.types import CROP_SIDE, PixelArray

# ITU-R BT.601 luma 0.299 R + 0.587 G + 0.114 B in 1/65536, as Pillow's "L": integers, so that every
# machine gives the same grey level.
LUMA_SHIFT = 16
LUMA_WEIGHTS = (19595, 38470, 7471)


@dataclass(frozen=True, order=True)
class View:
    """How a face is shown to a network."""

    flip: bool
    grey: bool


ALL_VIEWS = (View(False, False), View(False, True), View(True, False), View(True, True))


def grey_pixels(pixels: PixelArray) -> PixelArray:
    """pixels (..., 3) uint8 RGB → (..., 3) uint8: the BT.601 luma, rounded to nearest, in each channel."""
    weighted = pixels.astype(np.uint32) @ np.array(LUMA_WEIGHTS, dtype=np.uint32)  # (...)
    luma = (weighted + (1 << (LUMA_SHIFT - 1))) >> LUMA_SHIFT
    return cast(PixelArray, np.repeat(luma[..., None].astype(np.uint8), 3, axis=-1))


def view_pixels(pixels: PixelArray, view: View) -> PixelArray:
    """pixels (112, 112, 3) uint8 RGB → the same face as this view shows it, (112, 112, 3) uint8."""
    shown = grey_pixels(pixels) if view.grey else pixels
    return shown[:, ::-1] if view.flip else shown


def view_batch(faces: PixelArray, views: Sequence[View]) -> Tensor:
    """faces (b, 112, 112, 3) uint8 RGB → (b·v, 3, 112, 112) float32 in [-1, 1], the views of a face adjacent.

    This is what goes into a trunk; row i·v + j is view j of face i.
    """
    shown = np.stack([view_pixels(face, view) for face in faces for view in views])
    return scale_pixels(torch.from_numpy(shown.reshape(-1, CROP_SIDE, CROP_SIDE, 3)))
