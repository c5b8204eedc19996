"""Large files by their sha256: received in chunks, durable before they are counted, read in chunks.

A file lies at GESTALTWEB_HOME/federation/blobs/<2 hex>/<sha256>, and only once its hash has been checked;
what is still arriving lies beside it as <sha256>.part. A chunk is fsynced before its row says `received`, so
after a crash the file is at least as long as the row says, and the next chunk cuts off what was not counted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any, Final

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from federation.errors import Conflict, InvalidMessage, NoRoom, NotHere, TooLarge, Unreachable
from federation.models import Blob

CHUNK_BYTES: Final = 8 * 1024 * 1024
#: Defaults of the settings of the same names.
LIMITS: Final = {
    "FEDERATION_BLOB_MAX_BYTES": 4 * 1024**3,
    "FEDERATION_PEER_QUOTA_BYTES": 20 * 1024**3,
    "FEDERATION_DISK_RESERVE_BYTES": 256 * 1024**2,  # left for the database, which must never find it full
    "FEDERATION_STALLED_SECONDS": 600,
}
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def limit(name: str) -> int:
    """A limit from the settings, or its default."""
    return int(getattr(settings, name, LIMITS[name]))


def require_name(sha256: str) -> str:
    """The name, or InvalidMessage when it is no sha256 in lower-case hex."""
    if not isinstance(sha256, str) or _NAME.fullmatch(sha256) is None:
        raise InvalidMessage("A file is named by its SHA-256, 64 lower-case hex digits.")
    return sha256


def _final(sha256: str) -> Path:
    return Path(settings.GESTALTWEB_HOME) / "federation" / "blobs" / sha256[:2] / require_name(sha256)


def _partial(sha256: str) -> Path:
    return _final(sha256).with_name(f"{sha256}.part")


# --- receiving ---------------------------------------------------------------------------------------------


def blob_state(sha256: str) -> dict[str, Any]:
    """{"size", "received", "complete"}: zeros for a file nobody has begun to send."""
    blob = Blob.objects.filter(sha256=require_name(sha256)).first()
    if blob is None:
        return {"size": 0, "received": 0, "complete": False}
    return {"size": blob.size, "received": _received(blob), "complete": blob.complete}


def _received(blob: Blob) -> int:
    """Bytes to go on from: what the row says, unless the file has lost some."""
    if blob.complete:
        return int(blob.size)
    with contextlib.suppress(FileNotFoundError):
        return min(int(blob.received), _partial(blob.sha256).stat().st_size)
    return int(blob.received) if _final(blob.sha256).exists() else 0


def chunk_store(*, sha256: str, offset: int, size: int, data: bytes, owner: str) -> Blob:
    """Add one chunk of the file `sha256` of `size` bytes, sent by the site `owner`, at `offset`.

    Conflict with `received` when the file goes on elsewhere, Unreachable while another site is sending it,
    TooLarge beyond the caps, NoRoom when disk or quota is full. A complete file is left as it is.
    `blob_complete` must be called once received equals size.
    """
    if len(data) > CHUNK_BYTES:
        raise TooLarge("A chunk has at most 8 MiB.")
    _require_size(size)
    with transaction.atomic():
        blob = _row(sha256, size, owner)
        if blob.complete:
            return blob
        received = _prepare(blob, offset=offset, size=size, owner=owner)
        if offset != received:
            raise Conflict(f"This file goes on at byte {received}.", received=received)
        if offset + len(data) > size:
            raise InvalidMessage("The chunk reaches beyond the size that was announced.")
        if data:
            _require_disk(len(data))
            _write_at(_partial(sha256), offset, data)
        blob.received = offset + len(data)
        blob.save(update_fields=["received", "size", "owner"])
        return blob


def _require_size(size: int) -> None:
    if size > limit("FEDERATION_BLOB_MAX_BYTES"):
        raise TooLarge(f"A file has at most {limit('FEDERATION_BLOB_MAX_BYTES')} bytes here.")
    if size < 1:
        raise InvalidMessage("A file has at least one byte.")


def _row(sha256: str, size: int, owner: str) -> Blob:
    """The locked row of a file; a new one is made when disk and quota have room for all of it."""
    blob = Blob.objects.select_for_update().filter(sha256=require_name(sha256)).first()
    if blob is not None:
        return blob
    _require_quota(owner, size, sha256)
    _require_disk(size)
    made, _ = Blob.objects.get_or_create(sha256=sha256, defaults={"size": size, "owner": owner})
    return made


def _prepare(blob: Blob, *, offset: int, size: int, owner: str) -> int:
    """Where the file goes on for this sender; a new sender, or another size, begins again at nothing."""
    if blob.owner != owner and not _stalled(blob):
        raise Unreachable("Another site is sending this file just now. It is tried again by itself.")
    if blob.owner == owner and blob.size == size:
        return _received(blob)
    if offset == 0:
        _require_quota(owner, size, blob.sha256)
        _partial(blob.sha256).unlink(missing_ok=True)  # a new file: whoever checks the old one keeps that
        blob.size, blob.owner, blob.received = size, owner, 0
    return 0


def _stalled(blob: Blob) -> bool:
    """Whether its sender has sent nothing for some minutes, so that nobody can reserve a file for good."""
    with contextlib.suppress(FileNotFoundError):
        idle = time.time() - _partial(blob.sha256).stat().st_mtime
        return idle > limit("FEDERATION_STALLED_SECONDS")
    return True


def _require_quota(owner: str, size: int, sha256: str) -> None:
    held = Blob.objects.filter(owner=owner).exclude(sha256=sha256).aggregate(total=Sum("size"))["total"] or 0
    if held + size > limit("FEDERATION_PEER_QUOTA_BYTES"):
        raise NoRoom("This site has used its share of the coordinator's disk. Wait until rounds have ended.")


def _require_disk(size: int) -> None:
    folder = Path(settings.GESTALTWEB_HOME)
    if shutil.disk_usage(folder).free < size + limit("FEDERATION_DISK_RESERVE_BYTES"):
        raise NoRoom("The disk is full. Make room, then send again; what has arrived stays.")


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Write durably at `offset`, dropping what lay behind it. NoRoom leaves the first `offset` bytes."""
    with room():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_new = not path.exists()
        # Unbuffered: a buffer that does not fit on the disk would be tried again while the file is closed.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as stream:
            _append(stream, offset, data)
        if is_new:
            sync_folder(path.parent)


def _append(stream: RawIOBase, offset: int, data: bytes) -> None:
    stream.truncate(offset)
    stream.seek(offset)
    try:
        write_all(stream, data)
    except OSError:
        with contextlib.suppress(OSError):
            stream.truncate(offset)
        raise


def write_all(stream: RawIOBase, data: bytes) -> None:
    """Write all of `data` to an unbuffered stream, durably."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    os.fsync(stream.fileno())


@contextlib.contextmanager
def room() -> Iterator[None]:
    """NoRoom instead of the system's error when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoRoom("The disk is full. Make room, then send again; what has arrived stays.") from None


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def blob_complete(sha256: str) -> Blob:
    """Check the hash of a file whose bytes are all here. InvalidMessage, and the file is gone, if it differs.

    The hash is taken outside any transaction: of gigabytes it takes seconds, and SQLite has one writer.
    """
    blob = Blob.objects.filter(sha256=require_name(sha256)).first()
    if blob is None:
        raise NotHere("This file is not here.")
    if blob.complete or _received(blob) != blob.size:
        return blob
    if not _final(sha256).exists():
        _settle(blob, *_hash_and_inode(_partial(sha256)))
    if _final(sha256).exists():  # its name says that its hash was checked
        Blob.objects.filter(pk=blob.pk).update(complete=True)
    return Blob.objects.filter(pk=blob.pk).first() or blob


def _hash_and_inode(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:  # another request has just completed or discarded it
        return "", 0


def _settle(blob: Blob, found: str, inode: int) -> None:
    """Give the file its name, or discard it; under the row's lock, and only if it is the file checked."""
    partial = _partial(blob.sha256)
    with transaction.atomic():
        row = Blob.objects.select_for_update().filter(pk=blob.pk).first()
        if row is None or not partial.exists() or partial.stat().st_ino != inode:
            return
        if found == blob.sha256:
            partial.replace(_final(blob.sha256))
            sync_folder(partial.parent)
            return
        partial.unlink()
        row.delete()
    raise InvalidMessage("The file does not have the hash it was announced with; it was discarded.")


# --- own files ---------------------------------------------------------------------------------------------


def blob_add(source: Path | bytes, *, owner: str = "") -> str:
    """Keep a file of this site's own, and return its sha256. Adding it again changes nothing."""
    folder = Path(settings.GESTALTWEB_HOME) / "federation" / "blobs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    incoming = folder / f".{secrets.token_hex(8)}"
    _require_disk(len(source) if isinstance(source, bytes) else source.stat().st_size)
    try:
        with room():
            sha256, size = _copy(source, incoming)
        _final(sha256).parent.mkdir(exist_ok=True, mode=0o700)
        incoming.replace(_final(sha256))
    finally:
        incoming.unlink(missing_ok=True)
    sync_folder(_final(sha256).parent)
    done = {"size": size, "received": size, "complete": True, "owner": owner}
    with transaction.atomic():
        blob, made = Blob.objects.select_for_update().get_or_create(sha256=sha256, defaults=done)
        if not made and not blob.complete:
            Blob.objects.filter(pk=blob.pk).update(**done)
            _partial(sha256).unlink(missing_ok=True)
    return sha256


def _copy(source: Path | bytes, target: Path) -> tuple[str, int]:
    """(sha256, size) of a durable private copy."""
    hasher, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as stream:
        for chunk in _chunks(source):
            write_all(stream, chunk)
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        yield from iter(lambda: stream.read(CHUNK_BYTES), b"")


def blob_remove(sha256: str) -> None:
    """Forget a file. Forgetting it twice is fine."""
    with transaction.atomic():
        Blob.objects.filter(sha256=require_name(sha256)).delete()
        for path in (_partial(sha256), _final(sha256)):
            path.unlink(missing_ok=True)


# --- reading -----------------------------------------------------------------------------------------------


def blob_path(sha256: str) -> Path:
    """Where a complete file lies. NotHere otherwise."""
    if not Blob.objects.filter(sha256=require_name(sha256), complete=True).exists():
        raise NotHere("This file is not here.")
    return _final(sha256)


def blob_bytes(sha256: str) -> bytes:
    """All of a complete file. NotHere otherwise."""
    return blob_path(sha256).read_bytes()


def chunk_read(*, sha256: str, offset: int) -> bytes:
    """At most 8 MiB from `offset` of a complete file."""
    path = blob_path(sha256)
    if not 0 <= offset < path.stat().st_size:
        raise InvalidMessage("The file ends before this byte.")
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(CHUNK_BYTES)


def read_words(sha256: str, dtype: np.dtype | str, chunk_words: int) -> Iterator[np.ndarray]:
    """A complete file as arrays of `chunk_words` words (the last one shorter), one in memory at a time.

    InvalidMessage, before the first, when the file is not a whole number of words.
    """
    path, word = blob_path(sha256), np.dtype(dtype)
    if chunk_words < 1 or path.stat().st_size % word.itemsize:
        raise InvalidMessage("The file is not a whole number of words.")
    return _words(path, word, chunk_words)


def _words(path: Path, word: np.dtype, chunk_words: int) -> Iterator[np.ndarray]:
    with path.open("rb") as stream:
        while (chunk := np.fromfile(stream, dtype=word, count=chunk_words)).size:
            yield chunk
