"""The identity's key stays private and in form; a clock is corrected by ten minutes and not by more."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from diagnosis.errors import NotReady
from federation import clock, identity
from federation.errors import ClockWrong, InvalidMessage, NotAuthentic
from federation.models import Membership


def key_files(home: Path) -> list[Path]:
    return sorted((home / "keys" / "identity").iterdir())


def test_a_site_makes_one_identity_and_keeps_it(site_home: Path) -> None:
    with pytest.raises(NotReady):
        identity.identity_now()
    public = identity.identity_create()
    assert identity.identity_create() == public == identity.public_hex(identity.identity_now())
    (file,) = key_files(site_home)
    assert file.stat().st_mode & 0o777 == 0o600 and len(file.read_bytes()) == 32
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_rotation_uses_the_new_key_and_keeps_the_old_one(site_home: Path) -> None:
    first = identity.identity_create()
    second = identity.identity_rotate()
    assert first != second == identity.public_hex(identity.identity_now())
    assert identity.public_hex(identity.identity_of(1)) == first
    assert identity.identity_versions() == [1, 2]
    for _ in range(9):
        newest = identity.identity_rotate()
    assert identity.public_hex(identity.identity_now()) == newest, "11 comes after 9"


def test_a_damaged_or_missing_key_is_a_sentence(site_home: Path) -> None:
    identity.identity_create()
    (file,) = key_files(site_home)
    file.write_bytes(b"short")
    with pytest.raises(NotReady, match="damaged"):
        identity.identity_now()
    with pytest.raises(NotReady, match="missing"):
        identity.identity_of(7)


def test_the_fingerprint_is_short_stable_and_of_its_own_purpose() -> None:
    public = identity.public_hex(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    other = identity.public_hex(Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
    groups = identity.fingerprint(public).split(" ")
    assert [len(group) for group in groups] == [4] * 8
    assert identity.fingerprint(public) == identity.fingerprint(public) != identity.fingerprint(other)
    import hashlib

    assert "".join(groups) != hashlib.sha256(bytes.fromhex(public)).hexdigest()[:32]


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "AB" * 32, "zz" * 32, None, 7, "00" * 31 + "0\n"])
def test_what_is_no_public_key_is_refused(text: Any) -> None:
    with pytest.raises(InvalidMessage):
        identity.public_key(text)


def test_no_key_in_repr_or_log(site_home: Path, caplog: Any, db: None) -> None:
    from federation.signing import _OwnKey
    from federation.transport import Coordinator

    identity.identity_create()
    key = identity.identity_now()
    line = Coordinator(address="http://127.0.0.1:1", identity=key, name="berlin", clock=clock.Clock())
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("federation").warning("%r %r", line, _OwnKey(key))
    raw = key_files(site_home)[0].read_bytes()
    assert raw.hex() not in caplog.text and "PrivateKey" not in caplog.text and "berlin" in caplog.text


# --- clock -------------------------------------------------------------------------------------------------

NOON = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize("minutes", [10, -10, 3, 0])
def test_up_to_ten_minutes_are_corrected(minutes: int) -> None:
    at = clock.milliseconds(NOON + dt.timedelta(minutes=minutes))
    assert clock.offset_between(at=at, local=NOON, uncertain_ms=0) == minutes * 60_000


@pytest.mark.parametrize("minutes", [60, -60, 11, -11, 10**6])
def test_more_is_refused_with_a_sentence(minutes: int) -> None:
    at = clock.milliseconds(NOON) + minutes * 60_000
    with pytest.raises(ClockWrong, match=rf"{abs(minutes)} minutes.*Set the clock"):
        clock.offset_between(at=at, local=NOON, uncertain_ms=500)


def test_what_could_not_be_measured_better_never_stores_more_than_ten_minutes() -> None:
    at = clock.milliseconds(NOON) + 600_300
    assert clock.offset_between(at=at, local=NOON, uncertain_ms=400) == 600_000
    with pytest.raises(ClockWrong):
        clock.offset_between(at=at, local=NOON, uncertain_ms=200)


def test_the_offset_is_stored_and_moves_now(db: None) -> None:
    Membership.objects.create(pk=1, role="hospital", federation="0" * 64, name="a", title="A")
    own = clock.Clock()
    local = timezone.now()
    assert own.correct(at=clock.milliseconds(local) + 90_000, local=local, uncertain_ms=0) in (89_999, 90_000)
    assert Membership.objects.get().clock_offset_ms in (89_999, 90_000)
    for moved in (clock.now(), own.now(), clock.Clock().now()):
        assert abs((moved - timezone.now()).total_seconds() - 90) < 2
    with pytest.raises(ClockWrong):
        own.correct(at=clock.milliseconds(local) + 3_600_000, local=local, uncertain_ms=0)
    assert Membership.objects.get().clock_offset_ms in (89_999, 90_000), (
        "a refused correction changes nothing"
    )


def test_a_site_that_has_not_joined_keeps_its_offset_with_the_connection(db: None) -> None:
    own, local = clock.Clock(), timezone.now()
    own.correct(at=clock.milliseconds(local) - 300_000, local=local, uncertain_ms=0)
    assert abs((own.now() - timezone.now()).total_seconds() + 300) < 2


def test_the_time_is_signed_for_one_nonce_by_one_key() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = identity.public_hex(key)
    signature = clock.time_sign(key, nonce="a" * 32, at=5)
    clock.time_verify(public, nonce="a" * 32, at=5, signature=signature)
    wrong: list[dict[str, Any]] = [{"nonce": "b" * 32}, {"at": 6}, {"signature": ""}, {"signature": "zz"},
             {"signature": clock.time_sign(other, nonce="a" * 32, at=5)}, {"public": ""}]  # fmt: skip
    for change in wrong:
        fields: dict[str, Any] = {
            "public": public,
            "nonce": "a" * 32,
            "at": 5,
            "signature": signature,
        } | change
        with pytest.raises(NotAuthentic):
            clock.time_verify(fields.pop("public"), **fields)
