"""Runs the kernels of raster.py for one picture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp

from diagnosis.synthetic import raster
from diagnosis.synthetic.anatomy import load_head
from diagnosis.synthetic.surface import Look

SUPERSAMPLING = 2  # shade_kernel is written for 2 × 2
# Rounding before float32, so that the last bit of a BLAS sum or of a sine cannot change a pixel.
_GRID_METRES, _GRID_PIXELS = 1e-7, 1e-5
_NOISE_SIDE = 512
_NOISE_SEED = 20240613


@lru_cache(maxsize=1)
def _static() -> Any:
    pack = load_head()
    head = raster.Head()
    head.faces = wp.array(pack.faces, dtype=wp.int32, device="cpu")
    head.material = wp.array(pack.material, dtype=wp.int32, device="cpu")
    head.canonical = _vectors(pack.canonical, wp.vec3)
    head.masks = _vectors(pack.masks, wp.vec4)
    head.occlusion = _vectors(pack.occlusion, wp.float32)
    head.noise = _vectors(noise_texture(), wp.vec4)
    return head


def _vectors(values: npt.NDArray[Any], kind: Any) -> Any:
    return wp.array(values.astype(np.float32), dtype=kind, device="cpu")


def _rounded(values: npt.NDArray[np.float64], grid: float) -> npt.NDArray[np.float64]:
    steps: npt.NDArray[np.float64] = np.round(values / grid)
    return steps * grid


def noise_texture() -> npt.NDArray[np.float32]:
    """(512, 512, 4) float32 in [0, 1], periodic: grain, spots, clouds, strands along v."""
    rng = np.random.Generator(np.random.PCG64(_NOISE_SEED))
    white = rng.standard_normal((4, _NOISE_SIDE, _NOISE_SIDE))
    frequency = np.fft.fftfreq(_NOISE_SIDE) * _NOISE_SIDE
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    radius = np.hypot(fx, fy)
    filters = [
        np.exp(-((radius / 150.0) ** 2)),
        np.exp(-(((radius - 40.0) / 22.0) ** 2)),
        (radius > 0) / np.maximum(radius, 2.0) ** 1.6,
        np.exp(-((fy / 5.0) ** 2)) * (np.abs(fx) > 3) / (1.0 + np.abs(fx) / 60.0),
    ]
    layers = []
    for noise, band in zip(white, filters, strict=True):
        layer = np.fft.ifft2(np.fft.fft2(noise) * band).real
        layers.append(np.clip(0.5 + 0.21 * (layer - layer.mean()) / layer.std(), 0.0, 1.0))
    return np.round(np.stack(layers, axis=2), 5).astype(np.float32)


def paint(
    posed: npt.NDArray[np.float64],
    screen: npt.NDArray[np.float64],
    look: dict[str, object],
    shown: npt.NDArray[np.int32],
    size: int,
) -> npt.NDArray[np.float32]:
    """posed (v, 3) m, screen (v, 3) px of the photo → (size, size, 3) float32 linear light."""
    head = _static()
    normals = wp.zeros(len(posed), dtype=wp.vec3, device="cpu")
    wp.launch(
        raster.normals_kernel,
        dim=1,
        device="cpu",
        inputs=[_vectors(_rounded(posed, _GRID_METRES), wp.vec3), head.faces],
        outputs=[normals],
    )
    screen = _rounded(screen, _GRID_PIXELS)
    owner, weights = _rasterise(
        screen * np.array([SUPERSAMPLING, SUPERSAMPLING, 1.0]), shown, size * SUPERSAMPLING
    )
    picture: Any = wp.empty((size, size), dtype=wp.vec3, device="cpu")
    wp.launch(
        raster.shade_kernel,
        dim=(size, size),
        device="cpu",
        inputs=[owner, weights, normals, head, _look_struct(look)],
        outputs=[picture],
    )
    light: npt.NDArray[np.float32] = picture.numpy()
    return light


def _rasterise(screen: npt.NDArray[np.float64], shown: npt.NDArray[np.int32], side: int) -> tuple[Any, Any]:
    """screen (v, 3) px → owner (side, side) int32, −1 where nothing is; weights (side, side) vec2."""
    head = _static()
    depth = wp.full((side, side), 1.0e9, dtype=wp.float32, device="cpu")
    owner = wp.full((side, side), -1, dtype=wp.int32, device="cpu")
    weights = wp.empty((side, side), dtype=wp.vec2, device="cpu")
    wp.launch(
        raster.raster_kernel,
        dim=1,
        device="cpu",
        inputs=[
            _vectors(screen, wp.vec3),
            head.faces,
            head.material,
            wp.array(shown, dtype=wp.int32, device="cpu"),
        ],
        outputs=[depth, owner, weights],
    )
    return owner, weights


def _look_struct(look: dict[str, object]) -> Any:
    struct = Look()
    for name, value in look.items():
        setattr(struct, name, value)
    return struct
