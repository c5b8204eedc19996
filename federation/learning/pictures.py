"""The five views of an aligned face whose trunk features are cached: deterministic, pixels to pixels."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch.nn import functional

from diagnosis.phenotype.embed.views import grey_pixels
from diagnosis.phenotype.types import CROP_SIDE, PixelArray
from federation.learning.config import ViewName

BRIGHTNESS = CONTRAST = SATURATION = 0.25
HUE_TURNS = 0.1  # GestaltMatcher's colour jitter (arXiv 2211.06764, training)
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 50, 100

LUMA = np.array([0.299, 0.587, 0.114])
# RGB → YIQ (NTSC 1953): hue is a rotation of its I, Q plane, saturation a scale of it.
_TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def photo_generator(seed: int, key: str, view: str) -> np.random.Generator:
    """Random numbers that depend on the plan's seed, the photo and the view, on nothing else."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{view}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def picture(pixels: PixelArray, view: ViewName, *, seed: int, key: str) -> PixelArray:
    """pixels (112, 112, 3) uint8 RGB → the same face as `view` shows it, (112, 112, 3) uint8."""
    if view == "flipped":
        return np.ascontiguousarray(pixels[:, ::-1])
    if view == "grey":
        grey: PixelArray = grey_pixels(pixels)
        return grey
    if view == "jittered":
        return _jittered(pixels, photo_generator(seed, key, view))
    if view == "downscaled":
        return _downscaled(pixels, photo_generator(seed, key, view))
    return pixels


def _jittered(pixels: PixelArray, generator: np.random.Generator) -> PixelArray:
    """Brightness, contrast, saturation and hue changed by one random 3×3 matrix and offset."""
    brightness, contrast, saturation = 1.0 + generator.uniform(-1, 1, 3) * (BRIGHTNESS, CONTRAST, SATURATION)
    turn = generator.uniform(-HUE_TURNS, HUE_TURNS) * 2.0 * math.pi
    chroma = np.eye(3)
    chroma[1:, 1:] = saturation * np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    matrix = np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ
    levels = pixels.astype(np.float64) @ matrix.T  # (112, 112, 3)
    middle = float((levels @ LUMA).mean())  # contrast pivots on the mean grey level
    changed = ((levels - middle) * contrast + middle) * brightness
    jittered: PixelArray = np.rint(np.clip(changed, 0, 255)).astype(np.uint8)
    return jittered


def _downscaled(pixels: PixelArray, generator: np.random.Generator) -> PixelArray:
    """Read at 50 to 100 px and enlarged again, as a small photo would be."""
    side = int(generator.integers(SMALLEST_SIDE_PX, LARGEST_SIDE_PX + 1))
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(torch.float32)
    small = functional.interpolate(planes, size=(side, side), mode="area")
    large = functional.interpolate(small, size=(CROP_SIDE, CROP_SIDE), mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
