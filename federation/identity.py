"""This site's Ed25519 identity. The private key is made here, stays in the key folder and is never shown.

The folder GESTALTWEB_KEYS/identity holds <n>.key, raw 32 bytes with mode 0600; the highest n is in use. Older
keys stay, so that a rotation which was announced but not yet accepted can still be signed by the old key.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings

from diagnosis.errors import NotReady
from diagnosis.vault import write_private
from federation.errors import InvalidMessage

KEY_BYTES: Final = 32
_PURPOSE: Final = b"gestaltweb/federation/identity-fingerprint/1\x00"
_HEX64: Final = re.compile(r"[0-9a-f]{64}")


def _folder() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "identity"


def identity_versions() -> list[int]:
    """Numbers of this site's identity keys, oldest first."""
    if not _folder().is_dir():
        return []
    return sorted(int(path.stem) for path in _folder().glob("*.key") if path.stem.isdigit())


def identity_create() -> str:
    """Make this site's first key and return its public half (64 hex digits); later calls change nothing."""
    return public_hex(identity_now()) if identity_versions() else _add(1)


def identity_rotate() -> str:
    """Make the next key, use it from now on, and return its public half. The old one stays on disk."""
    return _add(identity_versions()[-1] + 1 if identity_versions() else 1)


def _add(version: int) -> str:
    key = Ed25519PrivateKey.generate()
    write_private(_folder() / f"{version}.key", key.private_bytes_raw())
    return public_hex(key)


def identity_now() -> Ed25519PrivateKey:
    """The key in use. NotReady without one, or when its file is damaged."""
    if not identity_versions():
        raise NotReady("This site has no identity for a federation yet. Join or found a federation first.")
    return identity_of(identity_versions()[-1])


def identity_of(version: int) -> Ed25519PrivateKey:
    """The key with this number. NotReady when it is missing or damaged."""
    try:
        raw = (_folder() / f"{version}.key").read_bytes()
    except FileNotFoundError:
        raise NotReady("The site's identity key is missing. Restore the key folder.") from None
    if len(raw) != KEY_BYTES:
        raise NotReady("The site's identity key is damaged. Restore the key folder.")
    return Ed25519PrivateKey.from_private_bytes(raw)


def public_hex(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """64 lower-case hex digits of the public key."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes_raw().hex()


def public_key(text: str) -> Ed25519PublicKey:
    """The key behind 64 lower-case hex digits, or InvalidMessage."""
    if not isinstance(text, str) or _HEX64.fullmatch(text) is None:
        raise InvalidMessage("A public key has 64 lower-case hex digits.")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def fingerprint(public: str) -> str:
    """8 groups of 4 hex digits (128 bits of SHA-256 under a label of its own), to compare by telephone."""
    digest = hashlib.sha256(_PURPOSE + public_key(public).public_bytes_raw()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 32, 4))
