"""t-of-n secret sharing of 32-byte secrets (Shamir 1979) with pycryptodome's field arithmetic.

pycryptodome shares 16 bytes over GF(2^128), so both halves are shared under the same index.
"""

from __future__ import annotations

from Crypto.Protocol.SecretSharing import Shamir

HALF = 16


def split(secret: bytes, *, threshold: int, shares: int) -> list[bytes]:
    """`shares` shares of 32 bytes; share i (0-based) belongs to index i + 1."""
    if len(secret) != 2 * HALF:
        raise ValueError("a secret has 32 bytes")
    first = Shamir.split(threshold, shares, secret[:HALF])
    second = Shamir.split(threshold, shares, secret[HALF:])
    return [bytes(low) + bytes(high) for (_, low), (_, high) in zip(first, second, strict=True)]


def combine(shares: dict[int, bytes]) -> bytes:
    """The secret from {index (1-based): share of 32 bytes}; with wrong shares, other bytes."""
    low = [(index, share[:HALF]) for index, share in shares.items()]
    high = [(index, share[HALF:]) for index, share in shares.items()]
    return bytes(Shamir.combine(low)) + bytes(Shamir.combine(high))
