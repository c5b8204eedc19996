"""Masks: uniform words of a ring from AES-256-CTR, added and subtracted chunk by chunk.

A stream's key is used for one stream only, so the counter starts at zero. Masks are words modulo 2^32 or
2^64, uniform and independent; float noise would neither hide nor cancel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]

BLOCK_BYTES = 256 * 1024  # stays in the second-level cache, so that each word is written to memory once
_ZEROS = memoryview(bytes(BLOCK_BYTES))


def little_endian(words: Words) -> bytes:
    """The bytes of (k,) words that are sent and hashed, the same on every machine."""
    return words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes()


def words_sha256(words: Words) -> bytes:
    """(32,) bytes: sha256 of the `little_endian` bytes, without a copy where memory holds them already."""
    whole = hashlib.sha256()
    update_sha256(whole, words)
    return whole.digest()


def update_sha256(whole: hashlib._Hash, words: Words) -> None:
    """The same for words that come in chunks."""
    whole.update(np.ascontiguousarray(words, dtype=words.dtype.newbyteorder("<")).data)


@dataclass(frozen=True)
class SignedKey:
    """One mask: its key, and whether this site adds or subtracts it."""

    key: bytes = field(repr=False)
    add: bool


class Stream:
    """The key stream of one mask, read from front to back in the order of the parameters."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def read_into(self, block: memoryview) -> None:
        """The next bytes of the stream, written over `block`."""
        self._cipher.update_into(_ZEROS[: len(block)], block)


class Masker:
    """Applies several masks to words that come in chunks, in order. Keeps one block per call, no mask."""

    def __init__(self, keys: Iterable[SignedKey]) -> None:
        self._streams = [(Stream(signed.key), signed.add) for signed in keys]
        self._block = bytearray(BLOCK_BYTES)

    def apply(self, words: Words) -> None:
        """Add or subtract every mask in place, modulo the ring of `words` ((k,) uint32 or uint64)."""
        if words.dtype not in (np.uint32, np.uint64) or words.ndim != 1 or not words.flags.c_contiguous:
            raise ValueError("words are a contiguous (k,) array of uint32 or uint64")
        step = BLOCK_BYTES // words.dtype.itemsize
        stream_order = words.dtype.newbyteorder("<")  # the same words on every machine
        for start in range(0, len(words), step):
            part = words[start : start + step]
            block = memoryview(self._block)[: part.nbytes]
            mask = np.frombuffer(block, dtype=stream_order)
            for stream, add in self._streams:
                stream.read_into(block)
                (np.add if add else np.subtract)(part, mask, out=part)
