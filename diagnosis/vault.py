"""Sealed files and fields. Every photo and every patient has an own data key; destroying it erases.

Layout: a data key (32 random bytes) lies in GESTALTWEB_KEYS/data/<2 hex>/<uuid>, wrapped by a versioned
master key GESTALTWEB_KEYS/master/<version>. Keys stay outside database, files and backups, so a backup
holds nothing readable of a patient who has withdrawn (crypto-erasure; NIST SP 800-88r1 section 2.5).
Sealing is AES-256-GCM with a random 96-bit nonce; the associated data names site, key and purpose, so a
blob moved to another photo or another purpose does not open.
Sealed bytes: b"GW1" ‖ nonce (12) ‖ ciphertext ‖ tag (16).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from diagnosis.errors import NotReady, Unreadable

MARK = b"GW1"
NONCE_BYTES = 12
KEY_BYTES = 32


def write_private(path: Path, data: bytes) -> None:
    """Write durably with mode 0600; the name appears only when the content is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:  # a full disk must not be kept full, and with a secret, by what was begun
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- master keys -----------------------------------------------------------------------------------


def _master_folder() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "master"


def create_master_key() -> int:
    """Add the next master key version and return it. Old versions stay for what they wrapped."""
    version = max(master_versions(), default=0) + 1
    write_private(_master_folder() / str(version), secrets.token_bytes(KEY_BYTES))
    return version


def master_versions() -> list[int]:
    """Versions of the master keys on this machine, oldest first."""
    folder = _master_folder()
    return (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []
    )


def _newest_master() -> int:
    """NotReady without one: a new key in the mount point of a missing folder would seal data for nobody."""
    versions = master_versions()
    if not versions:
        raise NotReady(
            "The site's key folder is empty or not mounted. Mount it, or run `manage.py init_site`."
        )
    return versions[-1]


def master_fingerprint() -> str:
    """Hex hash that names the first master key and tells nothing of it."""
    return keyed_hash("master-fingerprint", b"")


def fingerprint_path() -> Path:
    """Where this site notes which master key it was set up with: beside database and files, not the keys."""
    return Path(settings.GESTALTWEB_HOME) / "master-key-fingerprint"


def require_own_master_key() -> None:
    """NotReady when the key folder is not the one this site was set up with; notes it the first time."""
    path, found = fingerprint_path(), master_fingerprint()
    if not path.exists():
        write_private(path, found.encode())
    elif path.read_text("utf-8") != found:
        raise NotReady("The key folder holds another site's master key. Mount this site's own key folder.")


def _master_key(version: int) -> bytes:
    try:
        return (_master_folder() / str(version)).read_bytes()
    except FileNotFoundError:
        raise NotReady("The site's master key is missing. Run `manage.py init_site`.") from None


def derive_key(purpose: str) -> bytes:
    """(32,) bytes for one purpose from the first master key (HKDF-SHA256, RFC 5869); never stored."""
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"gestaltweb/{purpose}".encode())
    return kdf.derive(_master_key(1))


def keyed_hash(purpose: str, data: bytes) -> str:
    """Hex HMAC-SHA256 under a key of its own purpose: finds equals here and says nothing elsewhere."""
    return hmac.new(derive_key(purpose), data, hashlib.sha256).hexdigest()


# --- data keys -------------------------------------------------------------------------------------


def _key_path(key: uuid.UUID) -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "data" / key.hex[:2] / key.hex


def create_key(key: uuid.UUID) -> None:
    """Make the data key `key`, wrapped by the newest master key. Creating it twice is an error."""
    if _key_path(key).exists():
        raise FileExistsError(f"data key {key} exists")
    version = _newest_master()
    nonce = secrets.token_bytes(NONCE_BYTES)
    wrapped = AESGCM(_master_key(version)).encrypt(nonce, secrets.token_bytes(KEY_BYTES), key.bytes)
    write_private(_key_path(key), version.to_bytes(4, "big") + nonce + wrapped)


def has_key(key: uuid.UUID) -> bool:
    """Whether what is sealed under `key` can still be read."""
    return _key_path(key).exists()


def destroy_key(key: uuid.UUID) -> None:
    """Overwrite and remove a data key: everything sealed under it is unreadable from now on."""
    path = _key_path(key)
    with contextlib.suppress(FileNotFoundError):
        size = path.stat().st_size
        with path.open("r+b") as stream:
            stream.write(secrets.token_bytes(size))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
        _sync_folder(path.parent)


def _data_key(key: uuid.UUID) -> bytes:
    try:
        stored = _key_path(key).read_bytes()
    except FileNotFoundError:
        raise Unreadable("This was erased and cannot be read any more.") from None
    version, nonce, wrapped = int.from_bytes(stored[:4], "big"), stored[4:16], stored[16:]
    try:
        return AESGCM(_master_key(version)).decrypt(nonce, wrapped, key.bytes)
    except InvalidTag:
        raise Unreadable("The key of this file is damaged. Restore the key folder.") from None


# --- sealing ---------------------------------------------------------------------------------------


def _associated(key: uuid.UUID, purpose: str) -> bytes:
    return f"gestaltweb/{settings.SITE_SLUG}/{key.hex}/{purpose}".encode()


def seal(key: uuid.UUID, data: bytes, *, purpose: str) -> bytes:
    """Encrypt under the data key. `purpose` (original, crop, embedding, …) must be given again to open."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return MARK + nonce + AESGCM(_data_key(key)).encrypt(nonce, data, _associated(key, purpose))


def unseal(key: uuid.UUID, sealed: bytes, *, purpose: str) -> bytes:
    """Decrypt what `seal` made, or raise Unreadable."""
    sealed = bytes(sealed)
    if sealed[:3] != MARK:
        raise Unreadable("This is not a sealed file of this site.")
    nonce, body = sealed[3 : 3 + NONCE_BYTES], sealed[3 + NONCE_BYTES :]
    try:
        return AESGCM(_data_key(key)).decrypt(nonce, body, _associated(key, purpose))
    except InvalidTag:
        raise Unreadable("This file is damaged or was sealed for something else.") from None


# --- sealed blobs ----------------------------------------------------------------------------------


def blob_name(purpose: str) -> str:
    """A new name for a blob (random: it tells nothing). Kept in a row before the blob is written, it makes
    sure that a crash in between leaves nothing an erasure would not find."""
    return f"{purpose}/{secrets.token_hex(2)}/{uuid.uuid4().hex}"


def blob_write(key: uuid.UUID, data: bytes, *, purpose: str, name: str = "") -> str:
    """Seal `data` into a new blob, or anew into the blob `name`, and return its name."""
    if name:
        default_storage.delete(name)
    content = ContentFile(seal(key, data, purpose=purpose))
    return str(default_storage.save(name or blob_name(purpose), content))


def blob_read(key: uuid.UUID, name: str, *, purpose: str) -> bytes:
    """The plain bytes of a blob, or Unreadable."""
    try:
        with default_storage.open(name, "rb") as stream:
            return unseal(key, stream.read(), purpose=purpose)
    except FileNotFoundError:
        raise Unreadable("This file was erased.") from None


def blob_delete(name: str) -> None:
    """Remove a blob; removing it twice is fine."""
    if name:
        default_storage.delete(name)
