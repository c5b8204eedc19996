"""Hostile and odd files, made from a seed: the same on every machine."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

Named = tuple[str, bytes]


def scene(width: int = 120, height: int = 90, channels: int = 3) -> np.ndarray:
    """(height, width, channels) uint8: gradients, so that every format compresses it well."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, y * 255 // height, (x + y) % 256, np.full_like(x, 200)]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(
    width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b"", body: bytes = b""
) -> bytes:
    """A PNG whose header promises any size, with whatever data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def heif(image: Image.Image, **options: object) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(image, "HEIF", quality=80, **options)


def exif(orientation: int = 1) -> Image.Exif:
    """EXIF with an orientation, a camera, a position and an owner."""
    data = Image.Exif()
    data[0x0112], data[0x010F], data[0x9C9D] = orientation, "CanaryCamera", "CanaryOwner".encode("utf-16le")
    data.get_ifd(0x8825).update({1: "N", 2: (48.0, 46.0, 34.0), 3: "E", 4: (11.0, 11.0, 1.0)})
    return data


def good_files() -> dict[str, bytes]:
    """One ordinary file of every accepted shape."""
    rgb = Image.fromarray(scene())
    rgba = Image.fromarray(scene(channels=4), "RGBA")
    grey16 = Image.fromarray((np.arange(90 * 120).reshape(90, 120) * 6).astype(np.uint16))
    return {
        "jpeg": saved(rgb, "JPEG", exif=exif()), "jpeg progressive": saved(rgb, "JPEG", progressive=True),
        "jpeg grey": saved(rgb.convert("L"), "JPEG"), "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "png": saved(rgb, "PNG", exif=exif()), "png alpha": saved(rgba, "PNG"),
        "png palette": saved(rgb.convert("P"), "PNG", transparency=3),
        "png 1 bit": saved(rgb.convert("1"), "PNG"),
        "png grey": saved(rgb.convert("L"), "PNG"), "png grey alpha": saved(rgba.convert("LA"), "PNG"),
        "png 16 bit grey": saved(grey16, "PNG"),
        "png 16 bit": png_of(120, 90, depth=16, body=b"".join(b"\0" + bytes(720) for _ in range(90))),
        "webp": saved(rgb, "WEBP", exif=exif()), "webp lossless": saved(rgba, "WEBP", lossless=True),
        "heic": heif(rgb),
    }  # fmt: skip


def refused_files() -> dict[str, bytes]:
    """Files that must be refused with a sentence, each for its own reason."""
    rgb = Image.fromarray(scene())
    frames = [Image.fromarray(scene() + shade) for shade in (0, 40, 80)]
    jpeg, progressive = saved(rgb, "JPEG"), saved(rgb, "JPEG", progressive=True)
    size_at = jpeg.index(b"\xff\xc0") + 5
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 100}
    zeros = zlib.compress(bytes(64 << 20))
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    return {
        "empty": b"", "one byte": b"\xff", "svg": svg, "svg with bom": b"\xef\xbb\xbf" + svg,
        "html": b"<!doctype html><script>alert(1)</script>", "gif": saved(rgb, "GIF"),
        "gif animated": saved(frames[0], "GIF", **animated), "tiff": saved(rgb, "TIFF"),
        "bmp": saved(rgb, "BMP"), "ico": saved(rgb.resize((64, 64)), "ICO"), "pdf": b"%PDF-1.7\n1 0 obj",
        "zip": b"PK\x03\x04" + bytes(40),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30), "jxl": b"\xff\x0a" + bytes(30),
        "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(80),
        "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(80),
        "heic sequence": b"\0\0\0\x18ftyphevc\0\0\0\0mif1hevc" + bytes(80),
        "script": b"#!/bin/sh\nrm -rf /\n", "text": b"hello", "random": np.random.default_rng(1).bytes(5000),
        "webp animated": saved(frames[0], "WEBP", **animated),
        "png animated": saved(frames[0], "PNG", **animated),
        "1x1 jpeg": saved(rgb.resize((1, 1)), "JPEG"), "1x1 png": saved(rgb.resize((1, 1)), "PNG"),
        "1x1 webp": saved(rgb.resize((1, 1)), "WEBP"), "thin": saved(rgb.resize((4000, 8)), "PNG"),
        "100 MP png": png_of(10_000, 10_000, body=bytes(1000)),
        "400 MP 1 bit bomb": png_of(20_000, 20_000, depth=1, colour=0, body=bytes(20_000 * 2501)),
        "png of 2^31": png_of(2**31 - 1, 2**31 - 1), "png of 0": png_of(0, 0),
        "100 MP jpeg": jpeg[:size_at] + struct.pack(">HH", 10_000, 10_000) + jpeg[size_at + 4 :],
        "65535² jpeg": jpeg[:size_at] + b"\xff\xff\xff\xff" + jpeg[size_at + 4 :],
        "scan bomb": progressive[:-2] + scan * 5000 + b"\xff\xd9",
        "text bomb": png_of(120, 90, extra=chunk(b"zTXt", b"Comment\0\0" + zeros), body=bytes(90 * 361)),
        "profile bomb": png_of(120, 90, extra=chunk(b"iCCP", b"icc\0\0" + zeros), body=b""),
        "data bomb": png_of(120, 90, body=b"")[:-12] + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "truncated jpeg": jpeg[: len(jpeg) // 2], "truncated png": saved(rgb, "PNG")[:-40],
        "truncated webp": saved(rgb, "WEBP")[:200], "truncated heic": heif(rgb)[:600],
        "heic header only": heif(rgb)[:40], "jpeg markers only": b"\xff\xd8\xff\xd9",
    }  # fmt: skip


def polyglots() -> dict[str, bytes]:
    """Good photos with something else behind or inside; they may be read, but nothing else may survive."""
    rgb = Image.fromarray(scene())
    jpeg, png = saved(rgb, "JPEG"), saved(rgb, "PNG")
    payload = b"<script>CanaryPayload</script>PK\x03\x04CanaryPayload"
    comment = b"\xff\xfe" + struct.pack(">H", len(payload) + 2) + payload
    return {
        "jpeg and zip": jpeg + payload, "png and html": png + payload,
        "jpeg with comment": jpeg[:2] + comment + jpeg[2:],
        "png with text": png[:33] + chunk(b"tEXt", b"Comment\0" + payload) + png[33:],
        "png with private chunk": png[:33] + chunk(b"paYl", payload) + png[33:],
    }  # fmt: skip


def mutants(files: dict[str, bytes], each: int, seed: int) -> Iterator[Named]:
    """`each` damaged copies of every file: bits flipped, bytes cut out, doubled, overwritten, cut off."""
    random = np.random.default_rng(seed)
    for name, data in files.items():
        for number in range(each):
            yield f"{name} #{number}", mutate(data, random)


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    way = random.integers(0, 6)
    if way == 0:  # cut off
        return bytes(damaged[: random.integers(1, len(damaged))])
    if way == 1:  # cut out
        start = random.integers(0, len(damaged))
        del damaged[start : start + random.integers(1, 64)]
    elif way == 2:  # doubled
        start = random.integers(0, len(damaged))
        damaged[start:start] = damaged[start : start + random.integers(1, 256)]
    elif way == 3:  # a length or size turned extreme
        at = random.integers(8, len(damaged) - 4)
        damaged[at : at + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"][random.integers(0, 3)]
    else:  # bits flipped, mostly near the start, where the structure is
        reach = len(damaged) if way == 4 else min(len(damaged), 200)
        for _ in range(random.integers(1, 12)):
            damaged[random.integers(0, reach)] ^= 1 << random.integers(0, 8)
    return bytes(damaged)


def turned_heic(data: bytes, quarter_turns: int) -> bytes:
    """A HEIC with an irot property (ISO/IEC 23008-12 section 6.5.10) for its item, as cameras write it.

    The property goes to the end of ipco and its index to the end of the first ipma entry; the boxes around
    grow, and iloc's offsets move with the pixel data.
    """
    changed = bytearray(data)
    irot = b"\0\0\0\x09irot" + bytes([quarter_turns])
    ipco, ipma = data.index(b"ipco") - 4, data.index(b"ipma") - 4
    boxes, at, end = 0, ipco + 8, ipco + int.from_bytes(data[ipco : ipco + 4], "big")
    while at < end:
        boxes, at = boxes + 1, at + int.from_bytes(data[at : at + 4], "big")
    entry = ipma + 16  # size, type, version and flags, number of entries; then item, number, indices
    changed[entry + 2] += 1
    indices = entry + 3 + data[entry + 2]
    for name, more in (
        (b"ipma", 1),
        (b"ipco", len(irot)),
        (b"iprp", len(irot) + 1),
        (b"meta", len(irot) + 1),
    ):
        start = data.index(name) - 4
        changed[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + more).to_bytes(
            4, "big"
        )
    offset = data.index(b"mdat") + 4
    for place in _offsets_in_iloc(data, offset):
        old = int.from_bytes(data[place : place + 4], "big")
        changed[place : place + 4] = (old + len(irot) + 1).to_bytes(4, "big")
    changed[indices:indices] = bytes([0x80 | (boxes + 1)])
    changed[end:end] = irot
    return bytes(changed)


def _offsets_in_iloc(data: bytes, lowest: int) -> list[int]:
    """Where in iloc 4-byte numbers stand that point into mdat."""
    start = data.index(b"iloc") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    places = range(start + 12, end - 3)
    return [place for place in places if lowest <= int.from_bytes(data[place : place + 4], "big") < len(data)]
