"""The federation's transcript: one append-only, hash-chained list of signed entries, the same for everybody.

A site signs what it says (`Entry`), the coordinator gives it a place (`Link`) and signs how far the list goes
(`Head`). Each entry also names the head its author had seen, so that two sites who were shown different lists
notice as soon as either reads the other (fork consistency; Mazières & Shasha, PODC 2002). So the coordinator
can delay what is said, but not change, drop, repeat, reorder or fork it unseen (docs/threat-model.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
MAXIMUM_BYTES: Final = 1 << 20
GENESIS: Final = "0" * 64
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


class EntryRefused(ValueError):
    """An entry, link or head that is not in form, not signed, or does not fit the list; says which."""


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")


def digest(label: str, value: Any) -> str:
    """Hex sha256 of canonical JSON under a purpose label."""
    return hashlib.sha256(f"gestaltweb/{label}/1\n".encode() + canonical(value)).hexdigest()


def _sign(key: Ed25519PrivateKey, label: str, value: Any) -> str:
    return key.sign(bytes.fromhex(digest(label, value))).hex()


def _verify(public_key: str, label: str, value: Any, signature: str, whose: str) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), bytes.fromhex(digest(label, value)))
    except (InvalidSignature, ValueError):
        raise EntryRefused(f"The signature of {whose} does not fit.") from None


def rotation_bytes(federation: str, site: str, public_key: str) -> bytes:
    """What a new key signs to show that the site holds it."""
    return bytes.fromhex(digest("rotation", [federation, site, public_key]))


@dataclass(frozen=True)
class Entry:
    """What one author says once. key: the author's idempotency key; seen, seen_sha256: its newest head."""

    federation: str
    author: str
    kind: str
    key: str
    seen: int
    seen_sha256: str
    body: dict[str, Any]
    signature: str = ""

    def _unsigned(self) -> dict[str, Any]:
        return asdict(replace(self, signature="")) | {"v": VERSION}

    def sign(self, identity: Ed25519PrivateKey) -> Entry:
        """The same entry with its signature."""
        return replace(self, signature=_sign(identity, "entry", self._unsigned()))

    def verify(self, public_key: str) -> None:
        """EntryRefused unless this key signed exactly this."""
        _verify(public_key, "entry", self._unsigned(), self.signature, self.author)

    def encode(self) -> bytes:
        """Bytes for the wire."""
        return canonical(asdict(self) | {"v": VERSION})


def decode_entry(data: bytes) -> Entry:
    """The entry in these bytes. EntryRefused for anything but one entry's canonical form."""
    if len(data) > MAXIMUM_BYTES:
        raise EntryRefused("An entry is larger than 1 MiB.")
    try:
        found = json.loads(data.decode("utf-8"))
        _require_text(found)
        version = found.pop("v")
        entry = Entry(**found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EntryRefused("An entry is not in the transcript's form.") from None
    if version != VERSION:
        raise EntryRefused("An entry has another version. Update the older site.")
    _require_form(entry)
    if entry.encode() != data:
        raise EntryRefused("An entry is not in its canonical form.")
    return entry


def _require_text(found: Any) -> None:
    """ValueError for half surrogates and NUL, which neither UTF-8 nor every database takes."""
    text = json.dumps(found, ensure_ascii=False)
    text.encode("utf-8")
    if "\\u0000" in text:
        raise ValueError("NUL")


def _require_form(entry: Entry) -> None:
    fits = (
        _matches(_HEX64, entry.federation) and _matches(_NAME, entry.author) and _matches(_NAME, entry.kind)
        and isinstance(entry.key, str) and 0 < len(entry.key) <= 200 and type(entry.seen) is int
        and 0 <= entry.seen < 1 << 53 and _matches(_HEX64, entry.seen_sha256) and isinstance(entry.body, dict)
        and _matches(_SIGNATURE, entry.signature)
    )  # fmt: skip
    if not fits:
        raise EntryRefused("A field of an entry is not in the transcript's form.")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


@dataclass(frozen=True)
class Link:
    """An entry in its place. at: the coordinator's time, whole milliseconds since 1970."""

    seq: int
    previous: str
    at: int
    entry: Entry

    @property
    def sha256(self) -> str:
        """Hex hash of this link, which covers all before it."""
        return digest("link", [self.seq, self.previous, self.at, asdict(self.entry)])

    def as_json(self) -> dict[str, Any]:
        return {"seq": self.seq, "previous": self.previous, "at": self.at,
                "entry": self.entry.encode().decode()}  # fmt: skip


def read_link(found: Mapping[str, Any]) -> Link:
    """The link in a decoded JSON object, or EntryRefused."""
    try:
        entry = decode_entry(found["entry"].encode("utf-8"))
        seq, previous, at = found["seq"], found["previous"], found["at"]
    except (KeyError, AttributeError, TypeError, UnicodeEncodeError):
        raise EntryRefused("A link is not in the transcript's form.") from None
    whole = type(seq) is int and type(at) is int and seq > 0 and 0 <= at < 1 << 53
    if not whole or not _matches(_HEX64, previous):
        raise EntryRefused("A link is not in the transcript's form.")
    return Link(seq, previous, at, entry)


@dataclass(frozen=True)
class Head:
    """How far the transcript goes, signed by the coordinator. at: its time, milliseconds since 1970."""

    federation: str
    seq: int
    sha256: str
    at: int
    signature: str = ""

    def _unsigned(self) -> list[Any]:
        return [self.federation, self.seq, self.sha256, self.at]

    def sign(self, identity: Ed25519PrivateKey) -> Head:
        return replace(self, signature=_sign(identity, "head", self._unsigned()))

    def verify(self, public_key: str) -> None:
        """EntryRefused unless the coordinator signed exactly this."""
        _verify(public_key, "head", self._unsigned(), self.signature, "the coordinator")


def read_head(found: Mapping[str, Any]) -> Head:
    """The head in a decoded JSON object, or EntryRefused; its signature is checked by `verify`."""
    try:
        head = Head(**found)
    except TypeError:
        raise EntryRefused("A head is not in the transcript's form.") from None
    numbers = type(head.seq) is int and type(head.at) is int and head.seq >= 0 and 0 <= head.at < 1 << 53
    texts = _matches(_HEX64, head.federation) and _matches(_HEX64, head.sha256)
    if not (numbers and texts and _matches(_SIGNATURE, head.signature)):
        raise EntryRefused("A head is not in the transcript's form.")
    return head


def require_next(link: Link, *, after: int, sha256: str) -> None:
    """EntryRefused unless `link` directly follows the link with this number and hash."""
    if link.seq != after + 1 or link.previous != sha256:
        raise EntryRefused(
            f"The coordinator's list does not continue what this site has read up to entry {after}."
        )
