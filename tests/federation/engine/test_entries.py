"""Entries are text that every database and UTF-8 take, in one form."""

from __future__ import annotations

import json
import typing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import kinds
from federation.transcript import Entry, EntryRefused, decode_entry


def entry(**fields):
    facts = {
        "federation": "0" * 64, "author": "a", "kind": "Leave", "key": "leave", "seen": 0, "seen_sha256": "0" * 64,
        "body": kinds.plain(kinds.Leave("done")),
    }  # fmt: skip
    return Entry(**(facts | fields)).sign(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def test_an_entry_travels_unchanged() -> None:
    made = entry()
    assert decode_entry(made.encode()) == made


@pytest.mark.parametrize("text", ["\ud800", "nul \x00"])
@pytest.mark.parametrize("field", ["key", "body"])
def test_text_that_cannot_be_stored_is_refused(text: str, field: str) -> None:
    made = entry(**{field: {"reason": text} if field == "body" else text})
    with pytest.raises(EntryRefused):
        decode_entry(made.encode())


def test_only_the_canonical_form_is_taken() -> None:
    data = json.dumps(json.loads(entry().encode()), indent=1).encode()
    with pytest.raises(EntryRefused, match="canonical"):
        decode_entry(data)


def test_every_kind_reads_what_it_wrote_and_nothing_else() -> None:
    def sample(hint):
        if typing.get_origin(hint) is typing.Literal:
            return typing.get_args(hint)[0]
        return {int: 1, str: "x"}.get(hint, ())

    for name, cls in kinds.KINDS.items():
        values = {field: sample(hint) for field, hint in typing.get_type_hints(cls).items()}
        body = cls(**values)
        assert kinds.read_body(name, kinds.plain(body)) == body
        with pytest.raises(kinds.BodyRefused):
            kinds.read_body(name, kinds.plain(body) | {"more": 1})
