"""The vault: what is sealed opens only here, for its own key and purpose, and never after erasure."""

from __future__ import annotations

import stat
import uuid

import pytest

from diagnosis import vault
from diagnosis.errors import NotReady, Unreadable

SECRET = b"a canary that must not lie anywhere in plain " * 3


@pytest.fixture
def key() -> uuid.UUID:
    key = uuid.uuid4()
    vault.create_key(key)
    return key


def test_what_is_sealed_opens_again_and_looks_random(key) -> None:
    first, second = (vault.seal(key, SECRET, purpose="crop") for _ in range(2))
    assert vault.unseal(key, first, purpose="crop") == SECRET
    assert first != second and SECRET[:16] not in first


def test_another_purpose_key_or_site_does_not_open(key, settings) -> None:
    other = uuid.uuid4()
    vault.create_key(other)
    sealed = vault.seal(key, SECRET, purpose="crop")
    for wrong_key, purpose in ((key, "original"), (other, "crop")):
        with pytest.raises(Unreadable):
            vault.unseal(wrong_key, sealed, purpose=purpose)
    settings.SITE_SLUG = "elsewhere"
    with pytest.raises(Unreadable):
        vault.unseal(key, sealed, purpose="crop")


@pytest.mark.parametrize("position", [0, 3, 14, 20, -1])
def test_one_flipped_bit_is_noticed(key, position) -> None:
    sealed = bytearray(vault.seal(key, SECRET, purpose="crop"))
    sealed[position] ^= 1
    with pytest.raises(Unreadable):
        vault.unseal(key, bytes(sealed), purpose="crop")


def test_destroying_the_key_erases_and_leaves_no_key_file(key, site_home) -> None:
    name = vault.blob_write(key, SECRET, purpose="original")
    vault.destroy_key(key)
    assert not vault.has_key(key)
    with pytest.raises(Unreadable):
        vault.blob_read(key, name, purpose="original")
    assert not list((site_home / "keys" / "data").rglob(key.hex))
    vault.destroy_key(key)  # twice is fine


def test_nothing_plain_on_disk_and_private_modes(key, site_home) -> None:
    name = vault.blob_write(key, SECRET, purpose="original")
    files = [path for path in site_home.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert SECRET[:20] not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    vault.blob_delete(name)
    with pytest.raises(Unreadable):
        vault.blob_read(key, name, purpose="original")


def test_a_new_master_key_wraps_new_keys_and_old_ones_still_open(key) -> None:
    sealed = vault.seal(key, SECRET, purpose="crop")
    assert vault.create_master_key() == 2
    newer = uuid.uuid4()
    vault.create_key(newer)
    assert vault.unseal(key, sealed, purpose="crop") == SECRET
    assert vault.unseal(newer, vault.seal(newer, SECRET, purpose="crop"), purpose="crop") == SECRET


def test_a_key_is_never_overwritten_and_a_missing_master_is_said(key, site_home) -> None:
    with pytest.raises(FileExistsError):
        vault.create_key(key)
    (site_home / "keys" / "master" / "1").unlink()
    with pytest.raises(NotReady, match="init_site"):
        vault.seal(key, SECRET, purpose="crop")


def test_keyed_hashes_differ_by_purpose() -> None:
    assert vault.keyed_hash("a", b"x") == vault.keyed_hash("a", b"x") != vault.keyed_hash("b", b"x")


def test_an_empty_key_folder_is_never_filled_by_itself(site_home) -> None:
    (site_home / "keys" / "master" / "1").unlink()
    with pytest.raises(NotReady, match="not mounted"):
        vault.create_key(uuid.uuid4())
    assert vault.master_versions() == []


def test_another_sites_key_folder_is_noticed(site_home) -> None:
    vault.require_own_master_key()
    vault.require_own_master_key()
    (site_home / "keys" / "master" / "1").unlink()
    vault.create_master_key()
    with pytest.raises(NotReady, match="another site"):
        vault.require_own_master_key()
