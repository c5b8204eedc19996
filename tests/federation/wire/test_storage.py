"""Files by hash: whatever is cut, lost, full, wrong or done by two at once, what is complete is right."""

from __future__ import annotations

import errno
import itertools
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wire_site import sha

from federation import storage
from federation.errors import Conflict, InvalidMessage, NoRoom, NotHere, TooLarge, Unreachable
from federation.models import Blob

DATA = bytes(range(256)) * 10
NAME = sha(DATA)
SIZE = len(DATA)


def put(offset: int, data: bytes, *, owner: str = "berlin", size: int = SIZE, name: str = NAME) -> Any:
    blob = storage.chunk_store(sha256=name, offset=offset, size=size, data=data, owner=owner)
    return storage.blob_complete(name) if blob.received == blob.size else blob


def folder(home: Path) -> Path:
    return home / "federation" / "blobs" / NAME[:2]


def files(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "federation" / "blobs").rglob("*") if path.is_file())


def make_stale(home: Path) -> None:
    old = time.time() - 601
    os.utime(folder(home) / f"{NAME}.part", (old, old))


def test_a_file_in_pieces_is_complete_private_and_readable(db: None, site_home: Path) -> None:
    for start in range(0, SIZE, 700):
        blob = put(start, DATA[start : start + 700])
    assert blob.complete and files(site_home) == [NAME]
    path = storage.blob_path(NAME)
    assert path.read_bytes() == DATA and path == folder(site_home) / NAME
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert storage.chunk_read(sha256=NAME, offset=SIZE - 3) == DATA[-3:]
    assert not put(0, b"anything").received - SIZE, "a complete file is left as it is"
    assert path.read_bytes() == DATA


def test_nothing_incomplete_can_be_read(db: None) -> None:
    put(0, DATA[:100])
    for read in (lambda: storage.blob_path(NAME), lambda: storage.chunk_read(sha256=NAME, offset=0),
                 lambda: storage.read_words(NAME, "<u4", 4)):  # fmt: skip
        with pytest.raises(NotHere):
            read()


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", NAME.upper(), NAME[:-1], NAME + "0", NAME + "\n", 7]
)
def test_a_name_is_a_hash_and_no_path(db: None, name: Any) -> None:
    for use in (storage.blob_state, storage.blob_path, storage.blob_complete, storage.blob_remove):
        with pytest.raises(InvalidMessage):
            use(name)
    with pytest.raises(InvalidMessage):
        put(0, DATA[:5], name=name)


def test_a_chunk_that_is_not_the_next_one_is_told_where_to_go_on(db: None) -> None:
    put(0, DATA[:1000])
    for offset in (0, 500, 1001, 2000):
        with pytest.raises(Conflict) as caught:
            put(offset, DATA[offset : offset + 10])
        assert caught.value.details == {"received": 1000}
    assert put(1000, DATA[1000:]).complete


def test_more_than_was_announced_or_allowed_is_refused(db: None, settings: Any) -> None:
    with pytest.raises(InvalidMessage):
        put(0, DATA + b"x")
    for size in (0, -1):
        with pytest.raises(InvalidMessage):
            put(0, b"", size=size)
    settings.FEDERATION_BLOB_MAX_BYTES = SIZE - 1
    with pytest.raises(TooLarge):
        put(0, DATA[:1])
    assert not Blob.objects.exists()


def test_each_site_has_a_quota(db: None, settings: Any) -> None:
    settings.FEDERATION_PEER_QUOTA_BYTES = SIZE + 99
    put(0, DATA[:1])
    with pytest.raises(NoRoom):
        put(0, b"1", size=100, name="0" * 64)
    put(0, b"1", size=99, name="0" * 64)
    put(0, b"1", size=100, name="1" * 64, owner="hamburg")
    storage.blob_remove("0" * 64)
    put(0, b"1", size=80, name="2" * 64)


def test_a_wrong_hash_is_discarded_and_the_right_file_may_follow(db: None, site_home: Path) -> None:
    put(0, DATA[:-1])
    with pytest.raises(InvalidMessage, match="hash"):
        put(SIZE - 1, b"?" if DATA[-1:] != b"?" else b"!")
    assert files(site_home) == [] and not Blob.objects.exists()
    assert put(0, DATA).complete


# --- crashes -----------------------------------------------------------------------------------------------


def test_bytes_after_what_was_counted_are_cut_off(db: None, site_home: Path) -> None:
    """A crash between the fsync and the commit leaves more in the file than the row says."""
    put(0, DATA[:1000])
    with (folder(site_home) / f"{NAME}.part").open("ab") as stream:
        stream.write(b"uncounted" * 300)
    assert storage.blob_state(NAME)["received"] == 1000
    assert put(1000, DATA[1000:]).complete and storage.blob_path(NAME).read_bytes() == DATA


@pytest.mark.parametrize("left", [400, 0, None])
def test_a_file_that_lost_bytes_goes_on_from_what_is_left(
    db: None, site_home: Path, left: int | None
) -> None:
    put(0, DATA[:1000])
    partial = folder(site_home) / f"{NAME}.part"
    partial.unlink() if left is None else os.truncate(partial, left)
    left = left or 0
    assert storage.blob_state(NAME)["received"] == left
    with pytest.raises(Conflict) as caught:
        put(1000, DATA[1000:])
    assert caught.value.details == {"received": left}
    assert put(left, DATA[left:]).complete


def test_death_before_the_hash_was_checked_is_made_up_for(db: None, site_home: Path) -> None:
    storage.chunk_store(sha256=NAME, offset=0, size=SIZE, data=DATA, owner="berlin")
    assert storage.blob_state(NAME) == {"size": SIZE, "received": SIZE, "complete": False}
    assert put(SIZE, b"").complete and files(site_home) == [NAME]


def test_death_between_the_name_and_the_row_is_made_up_for(db: None, site_home: Path) -> None:
    put(0, DATA)
    Blob.objects.update(complete=False)
    assert storage.blob_state(NAME) == {"size": SIZE, "received": SIZE, "complete": False}
    assert put(SIZE, b"").complete
    assert files(site_home) == [NAME] and storage.blob_path(NAME).read_bytes() == DATA


# --- two at once -------------------------------------------------------------------------------------------


def test_two_uploads_of_one_site_share_the_work(db: None) -> None:
    put(0, DATA[:1000])
    with pytest.raises(Conflict):
        put(0, DATA[:1000])
    put(1000, DATA[1000:2000])
    assert put(2000, DATA[2000:]).complete


def test_another_site_waits_and_takes_over_from_nothing_when_the_sender_has_stalled(
    db: None, site_home: Path
) -> None:
    put(0, b"\xff" * 1000)
    for offset in (0, 1000):
        with pytest.raises(Unreachable, match="Another site"):
            put(offset, DATA[:10], owner="hamburg")
    make_stale(site_home)
    with pytest.raises(Conflict) as caught:
        put(1000, DATA[1000:], owner="hamburg")
    assert caught.value.details == {"received": 0}, "what the other one sent is not built on"
    assert put(0, DATA, owner="hamburg").complete
    assert Blob.objects.get().owner == "hamburg" and storage.blob_path(NAME).read_bytes() == DATA


def test_another_size_begins_again(db: None) -> None:
    put(0, DATA[:1000], size=SIZE + 1)
    with pytest.raises(Conflict) as caught:
        put(1000, DATA[1000:])
    assert caught.value.details == {"received": 0}
    assert put(0, DATA).complete


def test_a_file_replaced_while_its_hash_was_taken_is_not_mistaken_for_it(db: None, site_home: Path) -> None:
    """Every writer holds the row's lock; what was hashed is known by its inode."""
    storage.chunk_store(sha256=NAME, offset=0, size=SIZE, data=DATA, owner="berlin")
    blob, partial = Blob.objects.get(), folder(site_home) / f"{NAME}.part"
    found, inode = storage._hash_and_inode(partial)
    other = partial.with_name("other")  # made while the old one still exists, so that it is another inode
    other.write_bytes(bytes(SIZE))
    other.replace(partial)
    storage._settle(blob, found, inode)
    assert not (folder(site_home) / NAME).exists() and partial.read_bytes() == bytes(SIZE)
    with pytest.raises(InvalidMessage):
        storage.blob_complete(NAME)


def test_two_checks_of_one_file_both_end_well(db: None, site_home: Path) -> None:
    storage.chunk_store(sha256=NAME, offset=0, size=SIZE, data=DATA, owner="berlin")
    blob, partial = Blob.objects.get(), folder(site_home) / f"{NAME}.part"
    seen = storage._hash_and_inode(partial)
    assert storage.blob_complete(NAME).complete
    storage._settle(blob, *seen)
    assert storage._hash_and_inode(partial) == ("", 0)
    assert storage.blob_complete(NAME).complete and files(site_home) == [NAME]


# --- a full disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("point", ["write", "fsync"])
def test_a_full_disk_is_a_sentence_and_loses_nothing(
    db: None, site_home: Path, monkeypatch: Any, code: int, point: str
) -> None:
    put(0, DATA[:1000])

    def full(*args: Any) -> None:
        raise OSError(code, "full")

    if point == "fsync":
        monkeypatch.setattr(storage.os, "fsync", full)
    else:
        real = storage.write_all
        monkeypatch.setattr(storage, "write_all", lambda stream, data: (real(stream, data[:300]), full()))
    with pytest.raises(NoRoom, match="full"):
        put(1000, DATA[1000:])
    monkeypatch.undo()
    assert storage.blob_state(NAME)["received"] == 1000
    assert (folder(site_home) / f"{NAME}.part").stat().st_size == 1000, "the room is given back"
    assert put(1000, DATA[1000:]).complete and storage.blob_path(NAME).read_bytes() == DATA


def test_another_trouble_of_the_disk_is_not_called_a_full_one(db: None, monkeypatch: Any) -> None:
    def broken(*args: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(storage.os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        put(0, DATA)


def test_room_is_kept_for_the_database(db: None, monkeypatch: Any, settings: Any, site_home: Path) -> None:
    free = 10_000
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    settings.FEDERATION_DISK_RESERVE_BYTES = free - SIZE + 1
    for add in (lambda: put(0, DATA[:1]), lambda: storage.blob_add(DATA)):
        with pytest.raises(NoRoom):
            add()
    assert not Blob.objects.exists() and files_or_none(site_home) == []
    settings.FEDERATION_DISK_RESERVE_BYTES = free - SIZE
    assert put(0, DATA).complete


def files_or_none(home: Path) -> list[str]:
    return files(home) if (home / "federation").exists() else []


# --- own files and reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_own_files_are_added_once(db: None, site_home: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "own"
    source.write_bytes(DATA)
    for _ in range(2):
        assert storage.blob_add(DATA if kind == "bytes" else source, owner="coordinator") == NAME
    assert files(site_home) == [NAME] and storage.blob_path(NAME).stat().st_mode & 0o777 == 0o600
    row = Blob.objects.get()
    assert (row.size, row.received, row.complete, row.owner) == (SIZE, SIZE, True, "coordinator")


def test_an_own_file_settles_what_somebody_was_still_sending(db: None, site_home: Path) -> None:
    put(0, b"\xff" * 1000)
    storage.blob_add(DATA)
    assert files(site_home) == [NAME] and storage.blob_path(NAME).read_bytes() == DATA
    assert put(1000, b"\xff" * 10).complete, "a late chunk changes nothing"
    assert storage.blob_path(NAME).read_bytes() == DATA


def test_a_full_disk_leaves_no_half_of_an_own_file(db: None, site_home: Path, monkeypatch: Any) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(NoRoom):
        storage.blob_add(DATA)
    assert files(site_home) == [] and not Blob.objects.exists()


def test_forgetting_a_file_is_final_and_repeatable(db: None, site_home: Path) -> None:
    storage.blob_add(DATA)
    put(0, b"half", name="0" * 64)
    for name in (NAME, "0" * 64, NAME):
        storage.blob_remove(name)
    assert files(site_home) == [] and not Blob.objects.exists()


@pytest.mark.parametrize("dtype, chunk", list(itertools.product(["<u4", "<u8"], [1, 7, 320, 10_000])))
def test_words_come_in_chunks_and_are_those_of_the_file(db: None, dtype: str, chunk: int) -> None:
    storage.blob_add(DATA)
    pieces = list(storage.read_words(NAME, dtype, chunk))
    assert np.array_equal(np.concatenate(pieces), np.frombuffer(DATA, dtype))
    assert all(len(piece) == chunk for piece in pieces[:-1]) and 0 < len(pieces[-1]) <= chunk
    assert pieces[0].dtype == np.dtype(dtype)


def test_half_a_word_is_refused_before_anything_is_read(db: None) -> None:
    name = storage.blob_add(DATA[:-1])
    with pytest.raises(InvalidMessage, match="whole number"):
        storage.read_words(name, "<u4", 10)
    with pytest.raises(InvalidMessage):
        storage.read_words(storage.blob_add(DATA), "<u4", 0)


def test_memory_holds_one_chunk_at_a_time(db: None) -> None:
    import tracemalloc

    name = storage.blob_add(bytes(32 * 2**20))
    tracemalloc.start()
    total = sum(int(piece.size) for piece in storage.read_words(name, "<u4", 2**18))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 8 * 2**20 and peak < 4 * 2**20
