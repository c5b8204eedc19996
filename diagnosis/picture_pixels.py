"""From an opened Pillow image to upright sRGB pixels. Shared by the server and the decoding child.

No Django here: the child process starts with this module, numpy and Pillow alone.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

STORED_SIDE = 2048
"""Longer side of the stored picture, px. Twice what detection looks at; a face that fills a quarter of it
still has five times the pixels of the aligned crop."""
MIN_SIDE = 64
MAX_PROFILE_BYTES = 2 << 20
WHITE = (255, 255, 255)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32 section 4.6.4 A, tag 274: what makes a picture of that orientation stand upright."""


class PictureRefused(Exception):
    """The picture cannot be used; str() is a sentence."""


def upright_rgb(image: Image.Image, *, orientation: int | None = None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 sRGB, long side at most STORED_SIDE. orientation 1 to 8; None: what EXIF says.

    JPEGs larger than needed are decoded at ½, ¼ or ⅛ of their size by libjpeg itself. The order is
    chosen so that the costly steps see few pixels: shrink, then colours, then turning.
    """
    turn = _UPRIGHT.get(_orientation(image) if orientation is None else orientation)
    profile = image.info.get("icc_profile")
    image.draft(None, (STORED_SIDE, STORED_SIDE))
    image.load()
    small = _shrunk(_simple_mode(image))
    upright = to_srgb(small, profile)
    return np.ascontiguousarray(np.asarray(upright if turn is None else upright.transpose(turn)))


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where it is missing or nonsense, as a camera that says nothing means upright."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to refuse a photo; it is dropped anyway
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _simple_mode(image: Image.Image) -> Image.Image:
    """Mode L, RGB or CMYK without alpha; 16-bit grey scaled, palettes resolved, transparency on white."""
    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if image.mode in ("1", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    seen = image if image.mode == "RGBA" else image.convert("RGBA")
    flat = Image.new("RGB", image.size, WHITE)
    flat.paste(seen, mask=seen)  # one copy more, not three: these pictures may be large
    return flat


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey 0..65535 → 0..255. Pillow's own conversion clips at 255 and would leave white."""
    levels = np.asarray(image).astype(np.float32) / 257.0  # 65535 / 257 = 255
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _shrunk(image: Image.Image) -> Image.Image:
    width, height = image.size
    scale = STORED_SIDE / max(width, height)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The image in sRGB by its ICC profile. A damaged or foreign profile is dropped, not obeyed."""
    if isinstance(profile, bytes) and 128 < len(profile) <= MAX_PROFILE_BYTES:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
                if converted is not None:
                    return converted
        except Exception:  # lcms promises no exception type for a damaged profile
            return image.convert("RGB")
    return image.convert("RGB")
