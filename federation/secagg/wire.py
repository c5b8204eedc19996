"""The messages of one attempt, their canonical bytes and their signatures.

Canonical bytes are JSON with sorted keys, no spaces and hex for bytes, under a version marker. What matters
end to end is signed by the sending site's Ed25519 identity: the coordinator can delay it but not change it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.secagg.errors import MessageRefused

VERSION = 2
#: An answer of a thousand sites has 140 KB; nothing longer than this is parsed.
MAXIMUM_BYTES = 1 << 20
MAXIMUM_WORDS = 1 << 32
SHARE_BYTES = 64  # of the seed and of the mask key
SEALED_BYTES = 12 + SHARE_BYTES + 16  # nonce, AES-256-GCM ciphertext, tag
_SITE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEX32 = re.compile(r"[0-9a-f]{64}")


def canonical(kind: str, body: dict[str, Any]) -> bytes:
    """The one byte string of a message, which is what is hashed and signed."""
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in body.items()}
    # The body is nested, so that no site's name can stand for the version or the kind.
    text = json.dumps({"v": VERSION, "kind": kind, "body": plain}, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


@dataclass(frozen=True)
class Context:
    """What every key and signature of an attempt is bound to. Hashes are hex sha256.

    roster: `roster_digest` of the sites' identities. words, bits: length of every input and its ring, 2^32
    or 2^64.
    """

    federation: str
    round: str
    attempt: int
    purpose: str
    roster: str
    base_model: str
    plan: str
    quantiser: str
    words: int
    bits: int

    def __post_init__(self) -> None:
        if not _is_count(self.words) or self.bits not in (32, 64):
            raise ValueError("an input has 1 to 2^32 words of 32 or 64 bits")

    def digest(self) -> bytes:
        """(32,) bytes."""
        return hashlib.sha256(canonical("context", asdict(self))).digest()


def roster_digest(roster: dict[str, bytes]) -> str:
    """Hex sha256 of a roster {site: Ed25519 public key (32,)}: what `Context.roster` holds."""
    return hashlib.sha256(canonical("roster", dict(roster))).hexdigest()


def require_roster(roster: dict[str, bytes], context: Context) -> None:
    """MessageRefused unless names and keys are in form and `context` was made for exactly this roster."""
    if not all(_is_site(site) and _is_bytes(key, 32) for site, key in roster.items()):
        raise MessageRefused("The roster holds a name or a key that is not in the protocol's form.")
    if context.roster != roster_digest(roster):
        raise MessageRefused("The plan was signed for another roster. Ask for a new plan.")


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
    """Round 1: one site's shares for one receiver, sealed; `keys` is the hash of the whole key list.

    The hashes commit the dealer to both shares: the receiver checks what it opens, the coordinator what is
    answered, so that a wrong share is known as one and by whose fault.
    """

    receiver: str
    keys: bytes
    sealed: bytes
    seed_share_hash: bytes
    mask_share_hash: bytes


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

    seed_shares: dict[str, str] = field(repr=False)
    mask_shares: dict[str, str] = field(repr=False)


def keys_digest(adverts: dict[str, KeyAdvert]) -> bytes:
    """(32,) bytes over the key list in sorted order of sites, whole messages with signatures."""
    return _digest("keys", {site: encode(advert).decode() for site, advert in adverts.items()})


def commitments_digest(commitments: dict[str, MaskedCommitment]) -> bytes:
    """(32,) bytes over all masked-input commitments."""
    return _digest("commitments", {site: encode(message).decode() for site, message in commitments.items()})


def _digest(kind: str, body: dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical(kind, body)).digest()


# --- form -----------------------------------------------------------------------------------------------


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


def _is_site(value: object) -> bool:
    return isinstance(value, str) and _SITE.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAXIMUM_WORDS  # bool is an int, and no count


def _is_site_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_site, value)) and value == sorted(set(value))


def _is_share_map(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_site(site) and isinstance(share, str) and _HEX32.fullmatch(share) is not None
        for site, share in value.items()
    )


_BYTES_FIELDS = {
    "context": 32, "signature": 64, "mask_public": 32, "share_public": 32, "seed_commitment": 32, "keys": 32,
    "sealed": SEALED_BYTES, "seed_share_hash": 32, "mask_share_hash": 32, "sha256": 32, "commitments": 32,
}  # fmt: skip
_OTHER_FIELDS: dict[str, Callable[[object], bool]] = {
    "site": _is_site, "receiver": _is_site, "words": _is_count, "survivors": _is_site_list,
    "seed_shares": _is_share_map, "mask_shares": _is_share_map,
}  # fmt: skip
_KINDS: dict[str, type[Signed]] = {
    cls.__name__: cls for cls in (KeyAdvert, SealedShare, MaskedCommitment, SurvivorSet, UnmaskAnswer)
}


def _require_form(message: Signed) -> None:
    """MessageRefused unless every field has its type, length and alphabet."""
    for entry in fields(message):
        value, size = getattr(message, entry.name), _BYTES_FIELDS.get(entry.name)
        if not (_OTHER_FIELDS[entry.name](value) if size is None else _is_bytes(value, size)):
            raise MessageRefused(f"The field {entry.name} of a message is not in the protocol's form.")


MessageT = TypeVar("MessageT", bound=Signed)


def check(message: object, kind: type[MessageT], roster: dict[str, bytes], context: bytes) -> MessageT:
    """The message, once it is of this kind, in form, and signed by a roster member for this attempt.

    Everything that comes from outside passes here before any of its fields is used.
    """
    if type(message) is not kind:
        raise MessageRefused(f"A {kind.__name__} was expected, and another message came.")
    _require_form(message)
    message.verify(roster, context)
    return message


def encode(message: Signed) -> bytes:
    """Bytes of a message for the wire."""
    return canonical(type(message).__name__, asdict(message))


def decode(data: bytes) -> Signed:
    """The message in `data`; MessageRefused, and nothing else, for what is not exactly one of ours."""
    if len(data) > MAXIMUM_BYTES:
        raise MessageRefused("A message is longer than any of the protocol.")
    try:
        outer = json.loads(data.decode("utf-8"))
        if outer["v"] != VERSION:
            raise MessageRefused("A message has another protocol version. Update the older site.")
        cls = _KINDS[outer["kind"]]
        message = cls(**{key: _field(key, value) for key, value in outer["body"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MessageRefused("A message is not in the protocol's form.") from error
    _require_form(message)
    if encode(message) != data:
        raise MessageRefused("A message is not in its canonical form.")
    return message


def _field(key: str, value: Any) -> Any:
    return bytes.fromhex(value) if key in _BYTES_FIELDS else value
