"""What no fault may change, noted while runs go on: keys of mask streams, masked bytes, what was said."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

#: run, round, purpose, attempt, "self-mask" or "pair-mask", the sites it belongs to
Label = tuple[int, str, str, int, str, tuple[str, ...]]


@dataclass
class Watch:
    """One for all runs of a test process. Keys are kept as their sha256 only."""

    run: int = 0
    contexts: dict[bytes, tuple[str, str, int]] = field(default_factory=dict)
    labels: dict[str, set[Label]] = field(default_factory=lambda: defaultdict(set))
    #: key → {(masking site, sha256 of the plain words)}
    masked_by: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    used: set[str] = field(default_factory=set)
    streams: int = 0
    masking: tuple[str, str] | None = None
    #: (run, site, sum) → hashes of masked bytes; (run, site, key) → what was said under it
    sent: dict[tuple[int, str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    said: dict[tuple[int, str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))

    # --- noting ---

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from federation.secagg import keys, masks, site, wire

        derive, digest, masker = keys.derive, wire.Context.digest, site.SiteSession.masker
        begin = masks.Stream.__init__

        def derived(secret: bytes, purpose: str, *parts: bytes) -> bytes:
            key = derive(secret, purpose, *parts)
            if purpose in ("self-mask", "pair-mask"):
                sites = tuple(part.decode() for part in parts[1:])
                self.labels[_sha(key)].add((self.run, *self.contexts[parts[0]], purpose, sites))
            return key

        def digested(context: Any) -> bytes:
            found = digest(context)
            self.contexts[found] = (context.round, context.purpose, context.attempt)
            return found

        def masking(session: Any, plain: bytes, store: Any) -> Any:
            self.masking = (session.site, plain.hex())
            try:
                return masker(session, plain, store)
            finally:
                self.masking = None

        def streaming(stream: Any, key: bytes) -> None:
            self.streams += 1
            self.used.add(_sha(key))
            if self.masking is not None:
                self.masked_by[_sha(key)].add(self.masking)
            begin(stream, key)

        monkeypatch.setattr(keys, "derive", derived)
        monkeypatch.setattr(wire.Context, "digest", digested)
        monkeypatch.setattr(site.SiteSession, "masker", masking)
        monkeypatch.setattr(masks.Stream, "__init__", streaming)

    def hear(self, name: str, what: str, data: bytes) -> None:
        """Everything a site sends."""
        if what != "entry":
            return
        entry = json.loads(data)
        self.said[self.run, name, entry["key"]].add(data)
        if entry["kind"] == "Masked":
            message = json.loads(entry["body"]["message"])
            self.sent[self.run, name, entry["body"]["sum"]].add(json.dumps(message, sort_keys=True))

    # --- holding it against the protocol ---

    def check(self) -> str:
        """AssertionError where a key served two streams or two inputs; else the counts in a sentence."""
        by_label: dict[Label, set[str]] = defaultdict(set)
        for key in self.used:
            assert len(self.labels[key]) == 1, "a key has two labels"
            for label in self.labels[key]:
                by_label[label].add(key)
        assert all(len(keys) == 1 for keys in by_label.values()), "a label has two keys"
        for key, uses in self.masked_by.items():
            (label,) = self.labels[key]
            sites = [site for site, _ in uses]
            assert len(set(sites)) == len(sites), "a key masked two different inputs of one site"
            assert set(sites) <= set(label[-1]), "a key was used by a site that it does not belong to"
        assert all(len(texts) == 1 for texts in self.said.values()), "two things said under one key"
        assert all(len(hashes) == 1 for hashes in self.sent.values()), "two masked inputs of one sum"
        return (
            f"{self.streams} streams of {len(self.used)} keys under {len(by_label)} labels in {self.run} runs; "
            f"{len(self.sent)} masked inputs and {len(self.said)} entries, each with one content"
        )


def _sha(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
