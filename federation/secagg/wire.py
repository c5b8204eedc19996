"""The messages of one attempt, their canonical bytes and their signatures.

Canonical bytes are JSON with sorted keys, no spaces and hex for bytes, under a version marker. What matters
end to end is signed by the sending site's Ed25519 identity: the coordinator can delay it but not change it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.secagg.errors import MessageRefused

VERSION = 1


def canonical(kind: str, body: dict[str, Any]) -> bytes:
    """The one byte string of a message, which is what is hashed and signed."""
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in body.items()}
    text = json.dumps({"v": VERSION, "kind": kind, **plain}, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


@dataclass(frozen=True)
class Context:
    """What every key and signature of an attempt is bound to. Hashes are hex sha256."""

    federation: str
    round: str
    attempt: int
    purpose: str
    roster: str
    base_model: str
    plan: str
    quantiser: str

    def digest(self) -> bytes:
        """(32,) bytes."""
        return hashlib.sha256(canonical("context", asdict(self))).digest()


@dataclass(frozen=True)
class Signed:
    """A message with the site that sent it and its signature (64 bytes; empty before signing)."""

    site: str
    context: bytes
    signature: bytes

    def signed_bytes(self) -> bytes:
        body = asdict(self)
        del body["signature"]
        return canonical(type(self).__name__, body)

    def sign(self, identity: Ed25519PrivateKey) -> Self:
        """The same message with its signature."""
        return replace(self, signature=identity.sign(self.signed_bytes()))

    def verify(self, roster: dict[str, bytes], context: bytes) -> None:
        """Raise MessageRefused unless a roster member signed exactly this for exactly this attempt."""
        if self.context != context:
            raise MessageRefused(f"A message of {self.site} belongs to another attempt.")
        if self.site not in roster:
            raise MessageRefused(f"{self.site} is not on the roster.")
        try:
            Ed25519PublicKey.from_public_bytes(roster[self.site]).verify(self.signature, self.signed_bytes())
        except InvalidSignature:
            raise MessageRefused(f"The signature of {self.site} does not fit its message.") from None


@dataclass(frozen=True)
class KeyAdvert(Signed):
    """Round 0: a site's public keys of this attempt and the commitment to its self-mask seed."""

    mask_public: bytes
    share_public: bytes
    seed_commitment: bytes


@dataclass(frozen=True)
class SealedShare(Signed):
    """Round 1: one site's shares for one receiver, sealed; `keys` is the hash of the whole key list."""

    receiver: str
    keys: bytes
    sealed: bytes


@dataclass(frozen=True)
class MaskedCommitment(Signed):
    """Round 2: sha256 of the masked input and its length in words; the bytes travel as a blob."""

    sha256: bytes
    words: int


@dataclass(frozen=True)
class SurvivorSet(Signed):
    """Round 3: a survivor's signature under the set, the key list and all commitments."""

    survivors: list[str]
    keys: bytes
    commitments: bytes


@dataclass(frozen=True)
class UnmaskAnswer(Signed):
    """Round 4: per survivor a share of its seed, per dropped site a share of its mask key; never both."""

    seed_shares: dict[str, str]
    mask_shares: dict[str, str]


def keys_digest(adverts: dict[str, KeyAdvert]) -> bytes:
    """(32,) bytes over the key list in sorted order of sites, signatures included."""
    return _digest("keys", {site: advert.signature.hex() for site, advert in adverts.items()})


def commitments_digest(commitments: dict[str, MaskedCommitment]) -> bytes:
    """(32,) bytes over all masked-input commitments."""
    return _digest("commitments", {site: message.signature.hex() for site, message in commitments.items()})


def _digest(kind: str, body: dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical(kind, body)).digest()


_BYTES_FIELDS = {
    "context", "signature", "mask_public", "share_public", "seed_commitment", "keys", "sealed", "sha256",
    "commitments",
}  # fmt: skip
_KINDS: dict[str, type[Signed]] = {
    cls.__name__: cls for cls in (KeyAdvert, SealedShare, MaskedCommitment, SurvivorSet, UnmaskAnswer)
}


def encode(message: Signed) -> bytes:
    """Bytes of a message for the wire."""
    return canonical(type(message).__name__, asdict(message))


def decode(data: bytes) -> Signed:
    """The message in `data`; MessageRefused for anything that is not exactly one of ours."""
    try:
        body = json.loads(data.decode("utf-8"))
        if body.pop("v") != VERSION:
            raise MessageRefused("A message has another protocol version. Update the older site.")
        cls = _KINDS[body.pop("kind")]
        message = cls(**{key: _field(key, value) for key, value in body.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MessageRefused("A message is not in the protocol's form.") from error
    if encode(message) != data:
        raise MessageRefused("A message is not in its canonical form.")
    return message


def _field(key: str, value: Any) -> Any:
    return bytes.fromhex(value) if key in _BYTES_FIELDS else value
