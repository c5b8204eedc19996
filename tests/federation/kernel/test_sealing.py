"""The session's secret: for its receiver alone, from a confirmed site, of this very session."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.kernel import sealing
from federation.kernel.errors import SecretRefused

CONTEXT = hashlib.sha256(b"the approved session").digest()
IDENTITIES = {site: Ed25519PrivateKey.from_private_bytes(site.encode() * 32) for site in "abc"}
ROSTER = {site: key.public_key().public_bytes_raw() for site, key in IDENTITIES.items()}
PRIVATE = {site: hashlib.sha256(site.encode()).digest() for site in "abc"}
KEYS = {site: sealing.advertise(site, PRIVATE[site], CONTEXT, IDENTITIES[site]) for site in "abc"}
SECRET = sealing.draw_secret()


def seal(receiver: sealing.SealingKey, **changes: object) -> sealing.SealedSecret:
    fields = {"sender": "a", "context": CONTEXT, "identity": IDENTITIES["a"]} | changes
    return sealing.seal_secret(SECRET, receiver, ROSTER, **fields)


def test_each_member_opens_its_own_parcel() -> None:
    for site in "abc":
        parcel = sealing.decode(sealing.encode(seal(KEYS[site])), sealing.SealedSecret)
        own = sealing.decode(sealing.encode(KEYS[site]), sealing.SealingKey)
        assert sealing.open_secret(parcel, own, PRIVATE[site], ROSTER, context=CONTEXT) == SECRET


def test_nobody_else_opens_it_and_nothing_of_it_can_be_changed() -> None:
    parcel = seal(KEYS["b"])
    with pytest.raises(SecretRefused):
        sealing.open_secret(parcel, KEYS["c"], PRIVATE["c"], ROSTER, context=CONTEXT)
    with pytest.raises(SecretRefused):
        sealing.open_secret(parcel, KEYS["b"], PRIVATE["c"], ROSTER, context=CONTEXT)
    with pytest.raises(SecretRefused):
        sealing.open_secret(parcel, KEYS["b"], PRIVATE["b"], ROSTER, context=bytes(32))
    for field in ("receiver", "secret_id", "key_digest", "ephemeral", "sealed", "site"):
        value = getattr(parcel, field)
        other = "c" if isinstance(value, str) else bytes([value[0] ^ 1]) + value[1:]
        with pytest.raises(SecretRefused):
            sealing.open_secret(
                replace(parcel, **{field: other}), KEYS["b"], PRIVATE["b"], ROSTER, context=CONTEXT
            )


def test_a_member_that_signs_a_changed_parcel_is_refused_too() -> None:
    """The receiver's key, the sender and the secret's name are bound inside, not by the signature alone."""
    parcel = seal(KEYS["b"])
    for changes in ({"site": "c"}, {"secret_id": bytes(32)}, {"context": bytes(32)}):
        forged = replace(parcel, **changes).sign(IDENTITIES[changes.get("site", "a")])
        with pytest.raises(SecretRefused):
            sealing.open_secret(forged, KEYS["b"], PRIVATE["b"], ROSTER, context=forged.context)
    new = sealing.advertise("b", bytes([9]) * 32, CONTEXT, IDENTITIES["b"])
    with pytest.raises(SecretRefused):
        sealing.open_secret(parcel, new, bytes([9]) * 32, ROSTER, context=CONTEXT)


def test_a_key_that_no_confirmed_site_signed_gets_no_secret() -> None:
    stranger = Ed25519PrivateKey.generate()
    for receiver in (
        sealing.advertise("d", PRIVATE["b"], CONTEXT, stranger),
        sealing.advertise("b", PRIVATE["b"], CONTEXT, stranger),
        sealing.advertise("b", PRIVATE["b"], bytes(32), IDENTITIES["b"]),
        replace(KEYS["b"], public=bytes(32)),
        replace(KEYS["b"], public=bytes(32)).sign(IDENTITIES["b"]),  # a low-order point
    ):
        with pytest.raises(SecretRefused):
            seal(receiver)


def test_parcels_hide_the_secret_and_differ() -> None:
    first, second = sealing.encode(seal(KEYS["b"])), sealing.encode(seal(KEYS["b"]))
    assert first != second
    assert SECRET.hex() not in first.decode() and SECRET.hex() not in sealing.secret_id(SECRET)
    assert SECRET.hex() not in repr(seal(KEYS["b"]))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"v":2,"kind":"SealedSecret","body":{}}', b"0" * 5000]
)
def test_what_is_not_a_message_is_refused(data: bytes) -> None:
    for kind in (sealing.SealedSecret, sealing.SealingKey):
        with pytest.raises(SecretRefused):
            sealing.decode(data, kind)


def test_another_kind_or_form_is_refused() -> None:
    data = sealing.encode(KEYS["b"])
    with pytest.raises(SecretRefused):
        sealing.decode(data, sealing.SealedSecret)
    with pytest.raises(SecretRefused):
        sealing.decode(data + b" ", sealing.SealingKey)
    with pytest.raises(SecretRefused):
        sealing.require_secret(b"short")
