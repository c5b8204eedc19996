"""How the session's secret reaches each hospital: sealed to one receiver, signed by the sender.

The first site draws the secret; whoever holds it may seal it to a newcomer whom its admin has approved. Each
receiver publishes an X25519 key signed with its identity; each parcel is sealed under a fresh X25519
agreement, HKDF-SHA256 and AES-256-GCM, and bound to sender, receiver, secret id and `context` (32 bytes:
the hash of what the admins approved). The coordinator relays what it can neither open nor readdress.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.kernel.errors import SecretRefused
from federation.secagg import keys, wire
from federation.secagg.errors import MessageRefused

SECRET_BYTES = 32
SEALED_BYTES = keys.NONCE_BYTES + SECRET_BYTES + 16
MAXIMUM_BYTES = 4096
_SIZES = {
    "context": 32, "signature": 64, "public": 32, "secret_id": 32, "key_digest": 32, "ephemeral": 32,
    "sealed": SEALED_BYTES,
}  # fmt: skip


@dataclass(frozen=True)
class SealingKey(wire.Signed):
    """A site's X25519 public key for this session."""

    public: bytes


@dataclass(frozen=True)
class SealedSecret(wire.Signed):
    """The secret for one receiver. key_digest: of the receiver's signed `SealingKey`."""

    receiver: str
    secret_id: bytes
    key_digest: bytes
    ephemeral: bytes
    sealed: bytes


def draw_secret() -> bytes:
    """(32,) bytes from the system's generator."""
    return secrets.token_bytes(SECRET_BYTES)


def require_secret(secret: bytes) -> None:
    """SecretRefused for anything but 32 bytes."""
    if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
        raise SecretRefused("A kernel secret has 32 bytes. Ask the site that founded the session for it.")


def secret_id(secret: bytes) -> str:
    """64 hex digits that name a secret in public without giving it away."""
    return keys.derive(secret, "kernel-secret-id").hex()


def advertise(site: str, private: bytes, context: bytes, identity: Ed25519PrivateKey) -> SealingKey:
    """This site's signed public key for X25519 key `private` (32 bytes, kept here)."""
    return SealingKey(site=site, context=context, signature=b"", public=keys.public_of(private)).sign(
        identity
    )


def seal_secret(
    secret: bytes, receiver: SealingKey, roster: dict[str, bytes], *,
    sender: str, context: bytes, identity: Ed25519PrivateKey,
) -> SealedSecret:  # fmt: skip
    """The secret for this receiver. roster: {site: Ed25519 public key} of the peers that the admin confirmed.

    SecretRefused unless the receiver's key is signed by a roster member for this very context.
    """
    require_secret(secret)
    _check(receiver, SealingKey, roster, context)
    name, ephemeral = bytes.fromhex(secret_id(secret)), secrets.token_bytes(keys.KEY_BYTES)
    binding = _binding(context, sender, receiver, name)
    key = keys.derive(_agree(ephemeral, receiver.public), "kernel-secret", binding)
    return SealedSecret(
        site=sender, context=context, signature=b"", receiver=receiver.site, secret_id=name,
        key_digest=_digest(receiver), ephemeral=keys.public_of(ephemeral),
        sealed=keys.seal_share(key, secret, binding),
    ).sign(identity)  # fmt: skip


def open_secret(
    parcel: SealedSecret, own: SealingKey, private: bytes, roster: dict[str, bytes], *, context: bytes
) -> bytes:
    """The secret in a parcel for this site, or SecretRefused. own, private: what this site advertised."""
    _check(parcel, SealedSecret, roster, context)
    if parcel.receiver != own.site or parcel.key_digest != _digest(own):
        raise SecretRefused("The kernel secret was sealed for another site or key. Ask for it again.")
    binding = _binding(context, parcel.site, own, parcel.secret_id)
    key = keys.derive(_agree(private, parcel.ephemeral), "kernel-secret", binding)
    try:
        secret = keys.open_share(key, parcel.sealed, binding)
    except MessageRefused:
        raise SecretRefused("The sealed kernel secret was altered on its way. Ask for it again.") from None
    if bytes.fromhex(secret_id(secret)) != parcel.secret_id:
        raise SecretRefused("The kernel secret is not the one that its parcel names. Ask for it again.")
    return secret


def encode(message: wire.Signed) -> bytes:
    """Bytes for the wire."""
    return wire.encode(message)


MessageT = TypeVar("MessageT", SealingKey, SealedSecret)


def decode(data: bytes, kind: type[MessageT]) -> MessageT:
    """The message of this kind in `data`; SecretRefused, and nothing else, for what is not exactly one."""
    try:
        if len(data) > MAXIMUM_BYTES:
            raise ValueError("long")
        outer = json.loads(data.decode("utf-8"))
        body = {key: _plain(key, value) for key, value in outer["body"].items()}
        message = kind(**body)
        _require_form(message)
        fits = wire.encode(message) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SecretRefused("A message of the kernel session is not in its form. Ask for it again.") from None
    if not fits:
        raise SecretRefused("A message of the kernel session is not in its canonical form. Ask again.")
    return message


def _plain(key: str, value: Any) -> Any:
    return bytes.fromhex(value) if key in _SIZES else value


def _require_form(message: wire.Signed) -> None:
    """ValueError unless every field has its type and length."""
    for entry in fields(message):
        value, size = getattr(message, entry.name), _SIZES.get(entry.name)
        if size is None:
            fits = isinstance(value, str) and 0 < len(value) <= 64
        else:
            fits = isinstance(value, bytes) and len(value) == size
        if not fits:
            raise ValueError(entry.name)


def _check(message: object, kind: type[wire.Signed], roster: dict[str, bytes], context: bytes) -> None:
    if type(message) is not kind:
        raise SecretRefused("Another message came than the kernel session expects. Ask for it again.")
    try:
        _require_form(message)
        message.verify(roster, context)
    except (ValueError, MessageRefused):
        raise SecretRefused("A message of the kernel session is not signed by a confirmed site.") from None


def _agree(private: bytes, public: bytes) -> bytes:
    try:
        return keys.agree(private, public)
    except MessageRefused:
        raise SecretRefused("A sealing key is not usable; its site must make a new one.") from None


def _digest(key: SealingKey) -> bytes:
    return hashlib.sha256(wire.encode(key)).digest()


def _binding(context: bytes, sender: str, receiver: SealingKey, name: bytes) -> bytes:
    """Associated data: session, secret, sender, receiver and the receiver's very key."""
    parts = (name, sender.encode(), receiver.site.encode(), _digest(receiver))
    return keys.derive(context, "kernel-secret-binding", *parts)
