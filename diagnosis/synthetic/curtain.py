"""Long hair: a sheet that falls from the scalp behind the ears and follows the head that it is bound to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

COLUMNS, ROWS = 41, 15
_TOP, _BOTTOM = 0.835, 0.535  # heights on the template, m
_FIRST_ANGLE = 1.30  # rad from straight ahead, about the axis below; just before the ear
AXIS_Y = -0.055
_BINDING_HEIGHT = 0.665  # below the skull there is nothing to bind to


@dataclass(frozen=True)
class Curtain:
    """points (n, 3) m on the template, row by row; faces (f, 3) into them; bound (n,) vertices."""

    points: Array
    faces: IndexArray
    bound: IndexArray


def row_heights() -> Array:
    """(ROWS,) m, from top to bottom."""
    return np.linspace(_TOP, _BOTTOM, ROWS)


def hang_curtain(template: Array, candidates: IndexArray) -> Curtain:
    """The sheet around a template (v, 3); candidates are the vertices of the scalp it may be bound to."""
    angles = np.linspace(_FIRST_ANGLE, 2 * np.pi - _FIRST_ANGLE, COLUMNS)
    heights = row_heights()
    angle, height = (grid.reshape(-1) for grid in np.meshgrid(angles, heights))
    points = _surface(angle, height)
    anchors = _surface(angle, np.maximum(height, _BINDING_HEIGHT))
    gaps = np.linalg.norm(template[candidates][None] - anchors[:, None], axis=2)
    bound = candidates[np.argmin(gaps, axis=1)]
    return Curtain(points, _grid_faces(), bound)


def _surface(angle: Array, height: Array) -> Array:
    above = np.clip((height - 0.735) / 0.125, 0.0, 0.999)
    radius = 0.087 * np.sqrt(1.0 - above**2) + 0.06 * np.clip(0.72 - height, 0.0, 1.0)
    waves = 0.0016 * np.sin(angle * 9.0 + height * 25.0)
    x = (radius + waves) * np.sin(angle)
    y = AXIS_Y - (radius * 1.17 + waves) * np.cos(angle)
    return np.stack([x, y, height], axis=1)


def _grid_faces() -> IndexArray:
    faces = []
    for row in range(ROWS - 1):
        for column in range(COLUMNS - 1):
            corner = row * COLUMNS + column
            below = corner + COLUMNS
            faces += [(corner, corner + 1, below + 1), (corner, below + 1, below)]
    return np.array(faces, dtype=np.int64)
