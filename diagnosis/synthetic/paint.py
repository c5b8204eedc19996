"""Runs the kernels of raster.py for one picture."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp

from diagnosis.synthetic import raster
from diagnosis.synthetic.anatomy import HeadPack
from diagnosis.synthetic.surface import Look

_NOISE_SIDE = 512
_NOISE_SEED = 20240613


@lru_cache(maxsize=1)
def _static(pack_id: int) -> dict[str, Any]:
    from diagnosis.synthetic.anatomy import load_head

    pack = load_head()
    return {
        "faces": wp.array(pack.faces, dtype=wp.int32, device="cpu"),
        "material": wp.array(pack.material, dtype=wp.int32, device="cpu"),
        "canonical": wp.array(pack.canonical.astype(np.float32), dtype=wp.vec3, device="cpu"),
        "masks": wp.array(pack.masks.astype(np.float32), dtype=wp.vec4, device="cpu"),
        "occlusion": wp.array(pack.occlusion.astype(np.float32), dtype=wp.float32, device="cpu"),
        "noise": wp.array(noise_texture(), dtype=wp.vec4, device="cpu"),
    }


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
    pack: HeadPack,
    posed: npt.NDArray[np.float64],
    screen: npt.NDArray[np.float64],
    look: dict[str, object],
    shown: npt.NDArray[np.int32],
    side: int,
    supersampling: int,
) -> npt.NDArray[np.float32]:
    """posed (v, 3) m, screen (v, 3) px of the final picture → (side/s, side/s, 3) float32 linear light."""
    static = _static(0)
    scaled = (screen * np.array([supersampling, supersampling, 1.0])).astype(np.float32)
    points = wp.array(posed.astype(np.float32), dtype=wp.vec3, device="cpu")
    normals = wp.zeros(len(posed), dtype=wp.vec3, device="cpu")
    wp.launch(raster.normals_kernel, dim=1, device="cpu", inputs=[points, static["faces"]], outputs=[normals])
    depth = wp.full((side, side), 1.0e9, dtype=wp.float32, device="cpu")
    owner = wp.full((side, side), -1, dtype=wp.int32, device="cpu")
    weights = wp.zeros((side, side), dtype=wp.vec2, device="cpu")
    wp.launch(raster.raster_kernel, dim=1, device="cpu",
              inputs=[wp.array(scaled, dtype=wp.vec3, device="cpu"), static["faces"], static["material"],
                      wp.array(shown, dtype=wp.int32, device="cpu")], outputs=[depth, owner, weights])
    picture = wp.zeros((side, side), dtype=wp.vec3, device="cpu")
    wp.launch(raster.shade_kernel, dim=(side, side), device="cpu",
              inputs=[owner, weights, static["faces"], static["material"], normals, static["canonical"],
                      static["masks"], static["occlusion"], _look_struct(look), static["noise"]],
              outputs=[picture])
    return _shrink(picture.numpy(), supersampling)


def _look_struct(look: dict[str, object]) -> Any:
    struct = Look()
    for name, value in look.items():
        setattr(struct, name, value)
    return struct


def _shrink(picture: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    side = picture.shape[0] // factor
    total = np.zeros((side, side, 3), dtype=np.float32)
    for dy in range(factor):
        for dx in range(factor):
            total += picture[dy::factor, dx::factor]
    return total / np.float32(factor * factor)
