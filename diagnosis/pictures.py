"""Uploaded bytes → one upright RGB picture, safe against hostile files; and back to bytes for storage.

Only JPEG, PNG, WebP and HEIC are read, recognised by their content and never by their name. Everything
that is cheap to check is checked before a decoder sees the file: bytes, type, pixels, animation, scans.
What is stored is made anew from pixels, so no metadata (EXIF, GPS, thumbnails, XMP, comments), no second
picture and no appended archive survives. Colour profiles are applied (to sRGB) and then dropped.

HEIC alone is decoded in a child process with limits of memory and time (see picture_child): its decoder
has the largest attack surface by far, and a crash there must not end the server.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass

import numpy as np
from PIL import Image

from diagnosis import picture_child
from diagnosis.errors import InvalidInput
from diagnosis.phenotype.types import PixelArray
from diagnosis.picture_pixels import MIN_SIDE, STORED_SIDE, PictureRefused, upright_rgb

MAX_BYTES = 25 * 1024 * 1024
MAX_PIXELS = 1 << 26
"""67 million: above the 50 MP of phone cameras, below the 100 MP of their marketing modes."""
MAX_SIDE = 16_384
MAX_JPEG_SCANS = 64
"""Progressive files have about ten; each scan costs a pass over the whole picture (libjpeg-turbo's
"two issues with the JPEG standard", LJT-01-005), so a few kilobytes could ask for hours."""
STORED_QUALITY = 95

_FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP"}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1"})
_HEIC_SEQUENCES = frozenset({b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})
_USE = "Use a JPEG, PNG, WebP or HEIC photo."
_DAMAGED = "This photo is damaged or incomplete. Send the camera's original file again."
_TOO_LARGE = "This picture has too many pixels to be read here. Use a smaller copy of the photo."
# Decoding needs up to 0.6 GB for the largest pictures that are accepted: one at a time.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """pixels (H, W, 3) uint8 sRGB, upright, long side at most STORED_SIDE px; kind as it was recognised."""

    pixels: PixelArray
    kind: str


def read_picture(data: bytes, *, max_bytes: int = MAX_BYTES) -> Picture:
    """The picture in an uploaded file. Raises InvalidInput with what to do for everything else."""
    if not data:
        raise InvalidInput("This file is empty. Choose the photo again.")
    if len(data) > max_bytes:
        raise InvalidInput(f"This file is larger than {max_bytes >> 20} MB. Use a smaller copy of the photo.")
    kind = sniff(data)
    if kind == "HEIC":
        return Picture(_checked(picture_child.decode_heic(data, max_pixels=MAX_PIXELS)), kind)
    if kind == "JPEG" and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise InvalidInput("This JPEG has too many layers to be a photo. Save it again as a plain JPEG.")
    with _one_at_a_time:
        return Picture(_checked(_decode(data, kind)), kind)


def encode_picture(pixels: PixelArray) -> bytes:
    """pixels (H, W, 3) uint8 → JPEG bytes, quality 95 without chroma subsampling, no metadata.

    Everything afterwards reads these bytes, never the upload, so a re-run sees the same pixels.
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=STORED_QUALITY, subsampling=0)
    return stream.getvalue()


def encode_png(pixels: PixelArray) -> bytes:
    """pixels (H, W, 3) uint8 → PNG bytes without loss, for aligned crops."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def read_stored(data: bytes) -> PixelArray:
    """The (H, W, 3) uint8 pixels of a picture that `encode_picture` or `encode_png` wrote."""
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def thumbnail(data: bytes, *, side: int = 320) -> bytes:
    """A JPEG of at most `side` px of a stored picture, the whole of it, for lists."""
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
        image.draft("RGB", (side, side))
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=88)
    return stream.getvalue()


# --- type by content -----------------------------------------------------------------

# Start of file → what it is called in the refusal. Order matters only where one is the start of another.
_FOREIGN = (
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF or raw camera file"),
    (b"MM\0*", "a TIFF or raw camera file"),
    (b"BM", "a BMP"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "an archive or office document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
)
_MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!doctype|html|!--)", re.IGNORECASE)


def sniff(data: bytes) -> str:
    """ "JPEG", "PNG", "WebP" or "HEIC" by the first bytes; InvalidInput names what else it is."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return _sniff_container(data)
    if _MARKUP.match(data[:512]):
        raise InvalidInput(f"This is a drawing or a web page, not a photo. {_USE}")
    for start, name in _FOREIGN:
        if data.startswith(start):
            raise InvalidInput(f"This is {name} file, which is not read here. {_USE}")
    raise InvalidInput(f"This is not a photo that can be read here. {_USE}")


def _sniff_container(data: bytes) -> str:
    """ISO base media files (ISO/IEC 14496-12) name their brands in the first box."""
    size = min(int.from_bytes(data[:4], "big"), 256, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    if data[8:12] in _HEIC_SEQUENCES:
        raise InvalidInput(f"This is a moving picture. {_USE}")
    if b"avif" in brands or b"avis" in brands:
        raise InvalidInput(f"This is an AVIF file, which is not read here. {_USE}")
    if brands & _HEIC_BRANDS:
        return "HEIC"
    raise InvalidInput(f"This is a video or another media file, not a photo. {_USE}")


# --- decoding -----------------------------------------------------------------


def _decode(data: bytes, kind: str) -> PixelArray:
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[kind]]) as image:
            _check_header(image, kind)
            return upright_rgb(image)
    except (InvalidInput, PictureRefused):
        raise
    except (MemoryError, Image.DecompressionBombError):
        raise InvalidInput(_TOO_LARGE) from None
    except Exception:  # decoders promise no exception type for damaged files, and each means that
        raise InvalidInput(_DAMAGED) from None


def _check_header(image: Image.Image, kind: str) -> None:
    """What the header promises, before any pixel is decoded."""
    check_size(*image.size)
    if kind in ("PNG", "WebP") and getattr(image, "n_frames", 1) > 1:
        raise InvalidInput(f"This is a moving picture. {_USE}")


def check_size(width: int, height: int) -> None:
    """Raises InvalidInput for pictures too large to decode safely or too small to show a face."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InvalidInput(
            f"This picture has {width} × {height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million "
            "that are read here. Use a smaller copy of the photo."
        )
    if min(width, height) < MIN_SIDE:
        raise InvalidInput(
            f"This picture has only {width} × {height} pixels, too few to show a face. "
            "Use the camera's original file, not a thumbnail."
        )


def _checked(pixels: PixelArray) -> PixelArray:
    """The last wall: whatever a decoder returned is a picture of the promised shape."""
    height, width = pixels.shape[:2]
    check_size(width, height)
    if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3) or max(height, width) > STORED_SIDE:
        raise InvalidInput(_DAMAGED)
    return pixels
