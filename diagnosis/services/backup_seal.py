"""A folder as one sealed file, and back: a tar stream in chunks of AES-256-GCM.

The key is derived from the master key and a random salt in the header, so it is in the key folder and in no
backup. Nonce = chunk number (11 bytes) ‖ last (1 byte), associated data = the header: a chunk that is
changed, moved, left out, or a file cut off does not open (STREAM of Hoang, Reyhanitabar, Rogaway, Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015).
Sealed file: b"GWB1" ‖ length of header (4, big endian) ‖ header (JSON: site, salt, needs) ‖ chunks.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
from pathlib import Path
from typing import IO, Any, Final, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from diagnosis import vault
from diagnosis.errors import ClinicError

MARK: Final = b"GWB1"
CHUNK: Final = 1024 * 1024
TAG: Final = 16
LONGEST_HEADER: Final = 4096
NEEDS: Final = "the key folder of this site (GESTALTWEB_KEYS)"


class BackupError(ClinicError):
    """The backup or restore could not be done; the sentence says what to do."""


def folder_seal(folder: Path, target: Path) -> None:
    """Write everything under `folder` as a sealed tar to the new file `target` (0600), on disk when done."""
    header = json.dumps({"site": settings.SITE_SLUG, "salt": secrets.token_hex(16), "needs": NEEDS}).encode()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(MARK + len(header).to_bytes(4, "big") + header)
        sealer = _Sealer(stream, header)
        with tarfile.open(fileobj=cast(IO[bytes], sealer), mode="w|") as archive:
            archive.add(folder, arcname="backup")
        sealer.finish()
        stream.flush()
        os.fsync(stream.fileno())


def folder_open(source: Path, scratch: Path) -> Path:
    """Unpack a sealed file under `scratch` (tarfile's `data` filter) and return the folder.

    Every byte is authenticated before it is used. Raises BackupError with what to do.
    """
    with source.open("rb") as stream:
        opener = _Opener(stream, _header_read(stream, source.name))
        try:
            with tarfile.open(fileobj=cast(IO[bytes], opener), mode="r|") as archive:
                archive.extractall(scratch, filter="data")
            while opener.read(CHUNK):
                pass  # what follows the tar's end must be whole, too
        except (tarfile.TarError, OSError) as error:
            raise BackupError(f"{source.name} cannot be unpacked ({type(error).__name__}).") from None
    return scratch / "backup"


def _header_read(stream: IO[bytes], name: str) -> bytes:
    """The header's bytes, once they say that the file is a backup of this site."""
    start = stream.read(8)
    header = stream.read(min(int.from_bytes(start[4:], "big"), LONGEST_HEADER))
    try:
        facts = json.loads(header) if start[:4] == MARK else None
        site = facts["site"] if facts else None
    except (ValueError, KeyError, TypeError):
        site = None
    if site is None:
        raise BackupError(f"{name} is not a backup of GestaltWeb. Give the file that `backup` wrote.")
    if site != settings.SITE_SLUG:
        raise BackupError(
            f"This backup is of site '{site}', and here is '{settings.SITE_SLUG}': its seals "
            "would not open. Set GESTALTWEB_SLUG, or take the right backup."
        )
    return header


def _cipher(header: bytes) -> AESGCM:
    return AESGCM(vault.derive_key(f"backup/{json.loads(header)['salt']}"))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class _Sealer:
    """What tarfile writes to: collects chunks and seals each."""

    def __init__(self, stream: IO[bytes], header: bytes) -> None:
        self._stream, self._header, self._cipher = stream, header, _cipher(header)
        self._waiting, self._number = bytearray(), 0

    def write(self, data: bytes) -> int:
        self._waiting += data
        while len(self._waiting) > CHUNK:  # one chunk is always kept back: it may be the last
            self._put(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def finish(self) -> None:
        self._put(bytes(self._waiting), last=True)

    def _put(self, data: bytes, *, last: bool) -> None:
        self._stream.write(self._cipher.encrypt(_nonce(self._number, last), data, self._header))
        self._number += 1


class _Opener(io.RawIOBase):
    """What tarfile reads from: opens chunk after chunk; BackupError at the first that does not fit."""

    def __init__(self, stream: IO[bytes], header: bytes) -> None:
        self._stream, self._header, self._cipher = stream, header, _cipher(header)
        self._next, self._ready, self._number = stream.read(CHUNK + TAG), b"", 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready and (self._next or self._number == 0):
            self._ready = self._open_next()
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def _open_next(self) -> bytes:
        sealed, self._next = self._next, self._stream.read(CHUNK + TAG)
        try:
            opened = self._cipher.decrypt(_nonce(self._number, not self._next), sealed, self._header)
        except InvalidTag:
            raise BackupError(
                "The backup is damaged or cut off, or was sealed with other keys than those here. Take "
                "another copy, or mount the key folder it was made with."
            ) from None
        self._number += 1
        return opened
