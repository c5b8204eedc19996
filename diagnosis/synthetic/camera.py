"""From a shaped head to the screen, and from linear light to a photo with noise, blur and JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.anatomy import HeadPack
from diagnosis.synthetic.people import Draw, stream
from diagnosis.synthetic.photos import PhotoSpec

Array = npt.NDArray[np.float64]

# Between these heights of the template the turn of the head fades into still shoulders (m).
_NECK = (0.555, 0.645)
_DISTANCE = 11.0  # camera distance in eye–chin distances, about that of a portrait lens

_FILM_STEPS, _FILM_RANGE = 32768, 2.0


@dataclass(frozen=True)
class Placement:
    """Where the head stands: rotation (3, 3) about pivot (3,) m, focal and middle px, centre (3,) m."""

    rotation: Array
    pivot: Array
    centre: Array
    focal: float
    distance: float
    middle: tuple[float, float]
    anchors: Array

    def turn(self, points: Array, canonical: Array) -> Array:
        """(n, 3) m → (n, 3) m: the head turned, the shoulders left where they are."""
        share = np.clip((canonical[:, 2] - _NECK[0]) / (_NECK[1] - _NECK[0]), 0.0, 1.0)
        share = (share * share * (3.0 - 2.0 * share))[:, None]
        turned = (points - self.pivot) @ self.rotation.T + self.pivot
        moved: Array = points * (1.0 - share) + turned * share
        return moved

    def project(self, points: Array) -> Array:
        """(n, 3) m → (n, 3): x right, y down in px of the picture, depth m. The camera looks along +y."""
        depth = points[:, 1] - self.centre[1] + self.distance
        x = self.middle[0] + self.focal * (points[:, 0] - self.centre[0]) / depth
        y = self.middle[1] - self.focal * (points[:, 2] - self.centre[2]) / depth
        return np.stack([x, y, depth], axis=1)


def landmark_points(pack: HeadPack, shape: Array) -> Array:
    """(6, 3) m: eye centres left and right in the picture, nose tip, mouth corners, chin."""
    return shape[pack.landmark_vertices]


def place(landmarks: Array, photo: PhotoSpec, scale: float, size: int) -> Placement:
    """A placement that puts the middle of eyes and chin near the middle of a size × size picture."""
    rotation = _rotation(photo)
    eyes, chin = landmarks[:2].mean(axis=0), landmarks[5]
    pivot = np.array([0.0, eyes[1] + 0.9 * scale, chin[2] - 0.2 * scale])
    centre = ((eyes * 0.62 + chin * 0.38) - pivot) @ rotation.T + pivot
    distance = _DISTANCE * scale
    focal = photo.eye_chin * size * distance / scale
    middle = (size * (0.5 + photo.shift[0]), size * (0.53 + photo.shift[1]))
    anchors = np.tile([0.0, 0.0, 1.0], (len(landmarks), 1))  # landmarks turn with the head
    return Placement(rotation, pivot, centre, focal, distance, middle, anchors)


def _rotation(photo: PhotoSpec) -> Array:
    yaw, pitch, roll = np.radians([photo.yaw, photo.pitch, photo.roll])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    rotation: Array = about_y @ about_x @ about_z
    return rotation


def develop(picture: npt.NDArray[np.float32], photo: PhotoSpec) -> npt.NDArray[np.uint8]:
    """(h, w, 3) linear light → (h, w, 3) uint8 sRGB as a camera stores it."""
    from PIL import Image, ImageFilter

    rng = stream(Draw.SENSOR, *photo.seed)
    exposed = picture * np.float32(photo.exposure)
    levels = film_table()[_film_places(_saturate(exposed, np.float32(photo.saturation)))]
    noise = rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(photo.grain * 255.0)
    image = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(photo.blur))
    grained = np.clip(np.rint(np.asarray(image, dtype=np.float32) + noise), 0, 255).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(grained).save(stored, "JPEG", quality=photo.jpeg_quality, subsampling=0)
    return np.asarray(Image.open(stored).convert("RGB"))


def _saturate(light: npt.NDArray[np.float32], amount: np.float32) -> npt.NDArray[np.float32]:
    # Written out, because the order of a BLAS product differs between processors.
    red, green, blue = light[..., 0], light[..., 1], light[..., 2]
    grey = red * np.float32(0.2126) + green * np.float32(0.7152) + blue * np.float32(0.0722)
    spread: npt.NDArray[np.float32] = grey[..., None] + (light - grey[..., None]) * amount
    return spread


def _film_places(light: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    steps = light * np.float32(_FILM_STEPS / _FILM_RANGE)
    places: npt.NDArray[np.int32] = np.clip(steps, 0, _FILM_STEPS - 1).astype(np.int32)
    return places


@lru_cache(maxsize=1)
def film_table() -> npt.NDArray[np.uint8]:
    """(_FILM_STEPS,) uint8: sRGB level of linear light in [0, _FILM_RANGE), with a soft shoulder above 0.8.

    A table, because numpy's power and exp round differently on different processors.
    """
    light = (np.arange(_FILM_STEPS) + 0.5) * (_FILM_RANGE / _FILM_STEPS)
    soft = np.where(light > 0.8, 0.8 + 0.2 * (1.0 - np.exp(-(light - 0.8) / 0.2)), light)
    bright = 1.055 * np.power(np.maximum(soft, 1e-6), 1 / 2.4) - 0.055
    curve = np.where(soft <= 0.0031308, 12.92 * soft, bright)
    return np.clip(np.rint(curve * 255.0), 0, 255).astype(np.uint8)
