"""A drawn signature: bytes from a browser, checked and drawn anew before anybody keeps them."""

from __future__ import annotations

import io
import warnings
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from PIL import Image

from diagnosis.errors import InvalidInput

MAX_BYTES: Final = 300_000
MAX_SIDE: Final = 2400
MIN_INK: Final = 40  # pixels: less is a slip of the finger, not a signature
PNG: Final = b"\x89PNG\r\n\x1a\n"
_SENTENCE: Final = gettext_noop(
    "The signature could not be read. Please draw it again, or use your typed name."
)


def signature_checked(data: bytes) -> bytes:
    """A small black-on-white PNG of the drawing, without anything else the file carried.

    Raises InvalidInput for anything that is not a PNG of sensible size with some ink in it.
    """
    if len(data) > MAX_BYTES or not data.startswith(PNG):
        raise InvalidInput(_(_SENTENCE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=["PNG"])
            if max(image.size) > MAX_SIDE:
                raise InvalidInput(_(_SENTENCE))
            drawn = _on_white(image)
    except (OSError, ValueError, SyntaxError, Warning):
        raise InvalidInput(_(_SENTENCE)) from None
    if sum(drawn.histogram()[:128]) < MIN_INK:
        raise InvalidInput(
            _("The signature field is empty. Please draw your signature, or use your typed name.")
        )
    stream = io.BytesIO()
    drawn.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    """(H, W) grey levels, transparency as white paper."""
    colour = image.convert("RGBA")
    paper = Image.new("RGBA", colour.size, "white")
    return Image.alpha_composite(paper, colour).convert("L")
