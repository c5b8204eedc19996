"""What a signature covers, compared with one made by hand, and every way in which it can be wrong."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import NotAuthentic
from federation.identity import public_hex
from federation.signing import INVITATION, LIFETIME, Message, request_sign, request_verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NOW = dt.datetime(2026, 11, 25, 3, 0, tzinfo=dt.UTC)
URL = "https://coordinator.example/federation/v1/links?after=3&wait=20"
BODY = b'{"v":1}'


def signed(body: bytes = BODY, **options: Any) -> Message:
    message = Message("POST", URL, dict(options.pop("headers", {})))
    request_sign(message, body=body, **({"key": KEY, "now": NOW} | options))
    return message


def reason_of(message: Message, body: bytes = BODY, now: dt.datetime = NOW) -> str:
    with pytest.raises(NotAuthentic) as caught:
        request_verify(message, body=body, now=now)
    assert str(caught.value)[0].isupper() and str(caught.value).endswith(".")
    return caught.value.reason


def test_an_honest_request_says_who_signed_it_and_until_when() -> None:
    signer = request_verify(signed(nonce="ab" * 16), body=BODY, now=NOW)
    assert (signer.public_key, signer.nonce) == (public_hex(KEY), "ab" * 16)
    assert (signer.created, signer.expires) == (NOW, NOW + LIFETIME)


def test_the_signature_is_that_of_the_rfc_s_own_words() -> None:
    """Signature base by hand after RFC 9421 section 2.5, digest after RFC 9530."""
    headers = signed(headers={INVITATION: "token"}).headers
    label, parameters = headers["Signature-Input"].split("=", 1)
    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(BODY).digest()).decode() + ":"
    base = "\n".join(
        [
            '"@method": POST', '"@authority": coordinator.example', '"@path": /federation/v1/links',
            '"@query": ?after=3&wait=20', f'"content-digest": {digest}', '"x-federation-invitation": token',
            f'"@signature-params": {parameters}',
        ]
    )  # fmt: skip
    signature = base64.b64decode(headers["Signature"].removeprefix(f"{label}=:").removesuffix(":"))
    Ed25519PublicKey.from_public_bytes(KEY.public_key().public_bytes_raw()).verify(signature, base.encode())
    assert headers["Content-Digest"] == digest
    for part in (f"created={int(NOW.timestamp())}", f"expires={int(NOW.timestamp()) + 300}",
                 f'keyid="{public_hex(KEY)}"', 'alg="ed25519"', 'tag="gestaltweb-federation-1"'):  # fmt: skip
        assert part in parameters


def test_two_requests_never_share_a_nonce_and_no_key_is_shown() -> None:
    nonces = {request_verify(signed(), body=BODY, now=NOW).nonce for _ in range(50)}
    assert len(nonces) == 50
    assert KEY.private_bytes_raw().hex() not in repr(signed())


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"url": URL.replace("coordinator.", "other.")},
        {"url": URL.replace("coordinator.example", "coordinator.example:8443")},
        {"url": URL.replace("/links", "/entries")},
        {"url": URL.replace("after=3", "after=4")},
        {"url": URL.partition("?")[0]},
    ],
)
def test_another_method_authority_path_or_query_is_another_request(changed: dict[str, str]) -> None:
    message = signed()
    assert reason_of(Message(**(vars(message) | changed))) == "forged"


def test_the_default_port_and_the_case_of_a_host_are_no_difference() -> None:
    message = signed()
    message.url = URL.replace("https://coordinator.example", "https://Coordinator.Example:443")
    assert request_verify(message, body=BODY, now=NOW).public_key == public_hex(KEY)


@pytest.mark.parametrize("seconds, reason", [(300, "expired"), (86_400, "expired"), (-61, "early")])
def test_a_signature_counts_five_minutes_and_not_before_its_time(seconds: int, reason: str) -> None:
    assert reason_of(signed(), now=NOW + dt.timedelta(seconds=seconds)) == reason


@pytest.mark.parametrize("seconds", [299, 0, -60])
def test_within_its_time_it_counts(seconds: int) -> None:
    request_verify(signed(), body=BODY, now=NOW + dt.timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "lifetime", [dt.timedelta(seconds=301), dt.timedelta(days=1), dt.timedelta(0), dt.timedelta(seconds=-5)]
)
def test_a_longer_lifetime_is_refused_although_it_was_signed(
    monkeypatch: Any, lifetime: dt.timedelta
) -> None:
    monkeypatch.setattr("federation.signing.LIFETIME", lifetime)
    message = signed()
    monkeypatch.undo()
    assert reason_of(message) == "lifetime"


def header(name: str, old: str, new: str) -> Message:
    message = signed()
    assert re.search(old, message.headers[name])
    message.headers[name] = re.sub(old, new, message.headers[name], count=1)
    return message


def without(name: str) -> Message:
    message = signed()
    del message.headers[name]
    return message


def with_another_invitation() -> Message:
    message = signed(headers={INVITATION: "mine"})
    message.headers[INVITATION] = "yours"
    return message


def with_an_added_invitation() -> Message:
    message = signed()
    message.headers[INVITATION] = "uncovered"
    return message


def twice() -> Message:
    message, again = signed(), signed()
    for name in ("Signature", "Signature-Input"):
        message.headers[name] += ", " + again.headers[name].replace("site=", "more=", 1)
    return message


def resigned_with_key_named(key: Ed25519PrivateKey, named: str) -> Message:
    message = signed(key=key)
    message.headers["Signature-Input"] = message.headers["Signature-Input"].replace(public_hex(key), named)
    return message


def signed_without(component: str, monkeypatch: Any) -> Message:
    from federation import signing

    monkeypatch.setattr(signing, "COVERED", tuple(name for name in signing.COVERED if name != component))
    message = signed()
    monkeypatch.undo()
    return message


@pytest.mark.parametrize(
    "message, reason",
    [
        (without("Signature"), "missing"),
        (without("Signature-Input"), "missing"),
        (without("Content-Digest"), "missing"),
        (header("Signature", "site=:..", "site=:AA"), "forged"),
        (header("Signature", "site=:.*:", "site=::"), "forged"),
        (header("Signature", "site=:.*:", "site=?1"), "malformed"),
        (header("Signature", ".*", "}{"), "malformed"),
        (header("Signature", "^site", "other"), "malformed"),
        (header("Signature-Input", "^site=.*", "site=1"), "malformed"),
        (header("Signature-Input", ".*", ""), "malformed"),
        (header("Signature-Input", "created=1", "created=2"), "forged"),
        (header("Signature-Input", "created=[0-9]*", "created=999999999999999"), "forged"),
        (header("Signature-Input", "created=[0-9]*", "created=1.5"), "malformed"),
        (header("Signature-Input", "expires=1", "expires=2"), "forged"),
        (header("Signature-Input", 'nonce="..', 'nonce="zz'), "forged"),
        (header("Signature-Input", "federation-1", "federation-2"), "malformed"),
        (header("Signature-Input", "ed25519", "rsa-pss-sha512"), "malformed"),
        (header("Signature-Input", '"@method"', '"@method" "@method"'), "malformed"),
        (header("Signature-Input", '"@method"', '"@status"'), "malformed"),
        (header("Signature-Input", 'keyid="[0-9a-f]*"', 'keyid="berlin"'), "malformed"),
        (resigned_with_key_named(OTHER, public_hex(KEY)), "forged"),
        (header("Content-Digest", "sha-256=:..", "sha-256=:AA"), "forged"),
        (with_another_invitation(), "forged"),
        (with_an_added_invitation(), "malformed"),
        (twice(), "malformed"),
    ],
)  # fmt: skip
def test_everything_that_is_not_exactly_right_is_refused(message: Message, reason: str) -> None:
    assert reason_of(message) == reason


@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY[:-1], b"\x00" * len(BODY)])
def test_another_body_than_the_signed_one_is_refused(body: bytes) -> None:
    assert reason_of(signed(), body=body) == "altered"


@pytest.mark.parametrize("component", ["@method", "@authority", "@path", "@query"])
def test_a_signature_that_covers_less_is_refused(component: str, monkeypatch: Any) -> None:
    assert reason_of(signed_without(component, monkeypatch)) == "malformed"


@pytest.mark.parametrize("nonce", ["short", "AB" * 16, "0" * 33, "0" * 31])
def test_a_nonce_of_another_form_is_refused(nonce: str) -> None:
    assert reason_of(signed(nonce=nonce)) == "malformed"


def test_a_digest_of_another_kind_is_refused() -> None:
    digest = "sha-512=:" + base64.b64encode(hashlib.sha512(BODY).digest()).decode() + ":"
    message = Message("POST", URL, {"Content-Digest": digest})
    from http_message_signatures import HTTPMessageSigner, algorithms

    from federation.signing import COVERED, TAG, _OwnKey

    HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_OwnKey(KEY)).sign(
        message, key_id=public_hex(KEY), created=NOW, expires=NOW + LIFETIME, tag=TAG, label="site",
        nonce="0" * 32, covered_component_ids=COVERED, use_existing_digest=True,
    )  # fmt: skip
    assert reason_of(message) == "malformed"


TEXT = st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1"))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(one=TEXT, two=TEXT, three=TEXT)
def test_random_headers_are_refused_with_a_sentence_and_nothing_else(one: str, two: str, three: str) -> None:
    headers = {"Signature": one, "Signature-Input": two, "Content-Digest": three}
    assert reason_of(Message("POST", URL, headers)) in {"malformed", "missing"}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.data())
def test_a_random_cut_or_change_of_an_honest_header_is_refused(data: Any) -> None:
    message = signed()
    name = data.draw(st.sampled_from(["Signature", "Signature-Input", "Content-Digest"]))
    value = message.headers[name]
    at = data.draw(st.integers(0, len(value) - 1))
    letter = data.draw(st.characters(codec="latin-1").filter(lambda found: found != value[at]))
    new = data.draw(st.sampled_from([value[:at], value[:at] + letter + value[at + 1 :]]))
    message.headers[name] = new
    try:
        signer = request_verify(message, body=BODY, now=NOW)
    except NotAuthentic as refusal:
        assert refusal.reason in {"malformed", "missing", "forged", "altered"}
    else:  # only blanks and the unsigned label may differ; what is signed may not
        assert signer == request_verify(signed(nonce=signer.nonce), body=BODY, now=NOW)
