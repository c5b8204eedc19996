"""Keys of one attempt and what is derived from them. Primitives are pyca/cryptography's, labels are ours.

Every key has a purpose label; one key feeds one stream once. Per attempt a site draws two X25519 pairs
(Bonawitz et al. 2017, round 0): one to agree on masks, one to seal shares.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.secagg.errors import MessageRefused

KEY_BYTES = 32
NONCE_BYTES = 12


def derive(secret: bytes, purpose: str, *parts: bytes) -> bytes:
    """(32,) bytes: HKDF-SHA256 (RFC 5869) of `secret` for one purpose and the length-prefixed `parts`."""
    info = b"gestaltweb/secagg/1/" + purpose.encode()
    for part in parts:
        info += len(part).to_bytes(4, "big") + part
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


@dataclass(frozen=True)
class AttemptKeys:
    """The secrets of one site in one attempt. Never sent, never in a backup."""

    mask_private: bytes = field(repr=False)
    share_private: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @staticmethod
    def draw() -> AttemptKeys:
        """Fresh keys and a fresh self-mask seed from the system's generator."""
        return AttemptKeys(*(secrets.token_bytes(KEY_BYTES) for _ in range(3)))

    @property
    def mask_public(self) -> bytes:
        return public_of(self.mask_private)

    @property
    def share_public(self) -> bytes:
        return public_of(self.share_private)


def public_of(private: bytes) -> bytes:
    """(32,) bytes X25519 public key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    """(32,) bytes shared secret; MessageRefused for a low-order point (RFC 7748 section 6.1)."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        raise MessageRefused("A public key is not usable; its site must start again.") from None


def require_usable(public: bytes) -> None:
    """MessageRefused for a key of another length or a low-order point, with which nobody can agree.

    A low-order point gives zeros with every private key, so any private key finds it.
    """
    agree(bytes(KEY_BYTES), public)


def pair_key(private: bytes, public: bytes, context: bytes, first: str, second: str) -> bytes:
    """Key of the zero-sum mask that two sites share; both derive the same, named in sorted order."""
    low, high = sorted((first, second))
    return derive(agree(private, public), "pair-mask", context, low.encode(), high.encode())


def self_key(seed: bytes, context: bytes, site: str) -> bytes:
    """Key of a site's own mask, opened for survivors only."""
    return derive(seed, "self-mask", context, site.encode())


def commitment(seed: bytes, context: bytes, site: str) -> bytes:
    """(32,) bytes binding, hiding commitment to a random 256-bit seed."""
    return hashlib.sha256(b"gestaltweb/seed/1" + context + site.encode() + b"\0" + seed).digest()


def share_hash(share: bytes, kind: str, context: bytes, sender: str, receiver: str) -> bytes:
    """(32,) bytes binding, hiding commitment to one uniform share; kind is "seed" or "mask"."""
    label = f"gestaltweb/share/1/{kind}/{sender}/{receiver}/"  # names hold no slash
    return hashlib.sha256(label.encode() + context + share).digest()


def seal_share(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """nonce (12) ‖ AES-256-GCM ciphertext and tag."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, associated)


def open_share(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plain share, or MessageRefused when it was altered or is for somebody else."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except Exception as error:  # InvalidTag, or a nonce that is too short
        raise MessageRefused("A sealed share was altered or is for another attempt.") from error
