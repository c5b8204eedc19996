"""Who signed an HTTP request: RFC 9421 signatures with Ed25519 and an RFC 9530 digest of the body.

Covered are method, authority, path, query and body; `created`, `expires` (at most 300 s later), a nonce, the
signer's public key as `keyid` and a tag of our own are signed with them. The library does the signature base;
the rules about time, form and coverage are here. Whether the key belongs to anybody is the caller's question,
and so is whether the nonce was used before.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    VerifyResult,
    algorithms,
)

from federation.errors import InvalidMessage, NotAuthentic
from federation.identity import public_hex, public_key

TAG: Final = "gestaltweb-federation-1"
INVITATION: Final = "X-Federation-Invitation"
COVERED: Final = ("@method", "@authority", "@path", "@query", "content-digest")
LIFETIME: Final = dt.timedelta(seconds=300)
EARLY: Final = dt.timedelta(seconds=60)
NONCE_BYTES: Final = 16
_NONCE: Final = re.compile(rf"[0-9a-f]{{{2 * NONCE_BYTES}}}")
_NEEDED: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_LABEL: Final = "site"


@dataclass
class Message:
    """A request as the signature sees it: `url` is absolute, headers are text."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Signer:
    """Who signed a request and in which words: public key (64 hex), nonce, and until when it counts."""

    public_key: str
    nonce: str
    created: dt.datetime
    expires: dt.datetime


@dataclass(frozen=True)
class _OwnKey(HTTPSignatureKeyResolver):
    key: Ed25519PrivateKey = field(repr=False)

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return self.key


class _NamedKey(HTTPSignatureKeyResolver):
    """`keyid` is the public key itself."""

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        return public_key(key_id)


class _Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """Time is checked after the signature, by our own rules and the caller's clock."""


def request_sign(
    message: Message, *, body: bytes, key: Ed25519PrivateKey, now: dt.datetime, nonce: str = ""
) -> None:
    """Add Content-Digest, Signature-Input and Signature to `message.headers`.

    An invitation among the headers is covered too. `nonce` is drawn when none is given.
    """
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_OwnKey(key))
    signer.sign(
        message, key_id=public_hex(key), created=now, expires=now + LIFETIME, tag=TAG, label=_LABEL,
        nonce=nonce or secrets.token_hex(NONCE_BYTES), covered_component_ids=_covered(message.headers),
        body=body,
    )  # fmt: skip


def _covered(headers: Mapping[str, str]) -> tuple[str, ...]:
    invited = any(name.lower() == INVITATION.lower() for name in headers)
    return (*COVERED, INVITATION.lower()) if invited else COVERED


def request_verify(message: Message, *, body: bytes, now: dt.datetime) -> Signer:
    """Who signed exactly this request, or NotAuthentic with the reason. `now` is the coordinator's time."""
    names = {name.lower() for name in message.headers}
    if not {"signature", "signature-input"} <= names:
        raise NotAuthentic("The request is not signed. Send it from a member's site.", reason="missing")
    if "content-digest" not in names:
        raise NotAuthentic("The request has no digest of its body.", reason="missing")
    verifier = _Verifier(signature_algorithm=algorithms.ED25519, key_resolver=_NamedKey())
    result = _verified(verifier, message)
    _require_body(verifier, message, result, body)
    return _in_time(_signer(result), now)


def _verified(verifier: _Verifier, message: Message) -> VerifyResult:
    try:
        results = verifier.verify(
            message, max_age=None, expect_tag=TAG, require_components=_covered(message.headers)
        )
    except (HTTPMessageSignaturesException, ValueError, TypeError, RecursionError) as error:
        raise _refusal(error) from None
    if len(results) != 1:
        raise NotAuthentic("The request carries more than one signature.", reason="malformed")
    return results[0]


def _refusal(error: Exception) -> NotAuthentic:
    """The library names every refusal alike; what it came from tells a wrong signature from a wrong form."""
    if isinstance(error.__cause__, WrongSignature):
        return NotAuthentic(
            "The signature does not fit this request: it was made by another key, or for another method, "
            "address, path or body.",
            reason="forged",
        )
    if isinstance(error.__cause__, InvalidMessage):
        return NotAuthentic("The signature names no Ed25519 public key.", reason="malformed")
    return NotAuthentic("The signature is not in the federation's form.", reason="malformed")


def _require_body(verifier: _Verifier, message: Message, result: VerifyResult, body: bytes) -> None:
    """The digest is signed; the body must be the one it was taken of."""
    if "sha-256=" not in result.covered_components.get('"content-digest"', ""):
        raise NotAuthentic("The digest of the body is not SHA-256.", reason="malformed")
    try:
        verifier.verify_body(message, [result], body)
    except HTTPMessageSignaturesException:
        raise NotAuthentic("The body is not the one that was signed.", reason="altered") from None


def _signer(result: VerifyResult) -> Signer:
    found = result.parameters
    nonce = str(found.get("nonce", ""))
    if not found.keys() >= _NEEDED or _NONCE.fullmatch(nonce) is None:
        raise NotAuthentic("The signature lacks a time, a nonce, a key or a tag.", reason="malformed")
    try:
        created, expires = (
            dt.datetime.fromtimestamp(int(found[key]), dt.UTC) for key in ("created", "expires")
        )
    except (ValueError, OverflowError, OSError):
        raise NotAuthentic("The signature's time is no time.", reason="malformed") from None
    return Signer(str(found["keyid"]), nonce, created, expires)


def _in_time(signer: Signer, now: dt.datetime) -> Signer:
    if signer.expires - signer.created > LIFETIME or signer.expires <= signer.created:
        raise NotAuthentic("A signature counts for at most five minutes.", reason="lifetime")
    if signer.created - now > EARLY:
        raise NotAuthentic("The signature is from the future. Set this machine's clock.", reason="early")
    if signer.expires <= now:
        raise NotAuthentic("The signature has expired. Set this machine's clock.", reason="expired")
    return signer
