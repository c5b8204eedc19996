"""HEIC decoding in a child process: bounded memory, bounded seconds, and a crash that only ends the child.

HEVC decoders are large and written in C++; libde265 and libheif have had dozens of memory faults. A photo
that crashes one inside the server would end every user's session and every job in it. The start of the
child costs about 0.2 s, which JPEG, PNG and WebP (small, much-tested decoders) do not pay.

Protocol: the file on standard input; on standard output either b"P" ‖ width ‖ height (big-endian uint32)
‖ RGB bytes, or b"R" ‖ a sentence.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np

from diagnosis.picture_pixels import PictureRefused, upright_rgb

if TYPE_CHECKING:
    from diagnosis.phenotype.types import PixelArray

SECONDS = 15
MEMORY_BYTES = 2 << 30  # address space, of which the libraries alone take 0.3 GB
_children = threading.BoundedSemaphore(2)
_DAMAGED = "This photo is damaged or incomplete. Send the camera's original file again."
_TOO_MUCH = "This photo takes too long or too much memory to read. Save it as a JPEG and send that."


def decode_heic(data: bytes, *, max_pixels: int) -> PixelArray:
    """(H, W, 3) uint8 sRGB, upright, of a HEIC file. Raises InvalidInput, also when the decoder crashes."""
    from diagnosis.errors import InvalidInput

    command = [sys.executable, "-m", "diagnosis.picture_child", str(max_pixels)]
    try:
        with _children:
            done = subprocess.run(  # noqa: S603  our own interpreter and module; the file goes through a pipe
                command, input=data, capture_output=True, timeout=SECONDS, check=False, env=_environment()
            )
    except subprocess.TimeoutExpired:
        raise InvalidInput(_TOO_MUCH) from None
    if done.returncode != 0 or not done.stdout:
        raise InvalidInput(_TOO_MUCH if done.returncode < 0 else _DAMAGED)
    if done.stdout[:1] == b"R":
        raise InvalidInput(done.stdout[1:].decode("utf-8"))
    width, height = (int.from_bytes(done.stdout[at : at + 4], "big") for at in (1, 5))
    body = np.frombuffer(done.stdout, dtype=np.uint8, offset=9)
    if body.size != width * height * 3:
        raise InvalidInput(_DAMAGED)
    return body.reshape(height, width, 3)


def _environment() -> dict[str, str]:
    """Almost nothing of the server's environment: the child needs no secrets."""
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return libraries | {"PYTHONPATH": ":".join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


# --- in the child -----------------------------------------------------------------


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _answer(data: bytes, max_pixels: int) -> bytes:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener(thumbnails=False)
    with Image.open(io.BytesIO(data), formats=["HEIF"]) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise PictureRefused(
                f"This picture has {width} × {height} pixels, more than the {max_pixels / 1e6:.0f} million "
                "that are read here. Use a smaller copy of the photo."
            )
        pixels = upright_rgb(image, orientation=_orientation(data, image.info.get("original_orientation")))
    shape = b"".join(int(side).to_bytes(4, "big") for side in (pixels.shape[1], pixels.shape[0]))
    return b"P" + shape + pixels.tobytes()


def _orientation(data: bytes, exif: object) -> int:
    """libheif turns a picture by its irot and imir properties, which cameras write and which alone count
    (ISO/IEC 23008-12 section 6.5). EXIF's word is taken only from files that have neither."""
    properties = data.partition(b"mdat")[0]
    turned = b"irot" in properties or b"imir" in properties
    return exif if isinstance(exif, int) and 1 <= exif <= 8 and not turned else 1


def main() -> None:
    """Read one file, answer once."""
    data = sys.stdin.buffer.read()
    _limit()
    try:
        answer = _answer(data, int(sys.argv[1]))
    except PictureRefused as refused:
        answer = b"R" + str(refused).encode()
    except MemoryError:
        answer = b"R" + _TOO_MUCH.encode()
    except Exception:  # decoders promise no exception type for damaged files
        answer = b"R" + _DAMAGED.encode()
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main()
