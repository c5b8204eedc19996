"""A ledger of every key over many attempts: dropouts, retries, restarts at every step, all purposes.

One label has one key and one key one label; a mask's key makes streams at its two sites, or at its site and
the coordinator, and each of them lays it over one plain input, however often it restarts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from itertools import combinations, count
from typing import Any

import numpy as np
import pytest
import secagg_story as story

from federation.secagg import keys, masks, server
from federation.secagg import site as site_module
from federation.secagg.masks import words_sha256
from federation.secagg.site import SiteSession

Label = tuple[str, tuple[bytes, ...]]
MASKS = ("self-mask", "pair-mask")


class Ledger:
    """labels, by key and back; streams: key → who laid it over which plain input (None: to unmask)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_label: dict[Label, set[str]] = defaultdict(set)
        self.by_key: dict[str, set[Label]] = defaultdict(set)
        self.streams: dict[str, set[tuple[str, bytes | None]]] = defaultdict(set)
        self.masking: tuple[str, bytes | None] = ("coordinator", None)
        self.masked = self.restarts = self.attempts = 0
        self._watch(monkeypatch)

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        derive, stream, masker = keys.derive, masks.Stream.__init__, SiteSession.masker

        def noted_derive(secret: bytes, purpose: str, *parts: bytes) -> bytes:
            key = derive(secret, purpose, *parts)
            found = hashlib.sha256(key).hexdigest()
            self.by_label[purpose, parts].add(found)
            self.by_key[found].add((purpose, parts))
            return key

        def noted_stream(made: masks.Stream, key: bytes) -> None:
            self.streams[hashlib.sha256(key).hexdigest()].add(self.masking)
            stream(made, key)

        def noted_masker(session: SiteSession, plain: bytes, store: Any) -> masks.Masker:
            self.masking = (f"{session.site} {session.context.digest().hex()}", plain)
            self.masked += 1
            try:
                return masker(session, plain, store)
            finally:
                self.masking = ("coordinator", None)

        monkeypatch.setattr(keys, "derive", noted_derive)
        monkeypatch.setattr(masks.Stream, "__init__", noted_stream)
        monkeypatch.setattr(SiteSession, "masker", noted_masker)
        assert site_module.k is keys is server.k  # what they call is what is watched


def restarted(world: Any, ledger: Ledger) -> None:
    """Every site dies and goes on from its dump."""
    for name, site in world.sites.items():
        world.sites[name] = SiteSession.load(
            site.dump(),
            site=name,
            identity=world.identities[name],
            roster=world.roster,
            context=world.context,
        )
        ledger.restarts += 1


def play(
    ledger: Ledger, n: int, gone: frozenset[str], *, words: dict[str, np.ndarray], **context: Any
) -> None:
    """One attempt in which every site restarts at each step, and once while it masks."""
    ledger.attempts += 1
    first = words["site00"]
    world = story.setting(n, words=len(first), bits=first.dtype.itemsize * 8, **context)
    story.exchange_keys(world)
    restarted(world, ledger)
    story.exchange_shares(world)
    restarted(world, ledger)
    for name in set(world.sites) - gone:  # masks, dies before it commits, masks the same input again
        world.sites[name].masker(words_sha256(words[name]), world.kept.append).apply(words[name].copy())
    restarted(world, ledger)
    story.upload(world, words, gone)
    restarted(world, ledger)
    story.confirm(world)
    expected = sum(words[name].astype(object) for name in world.server.survivors) % (1 << world.context.bits)
    assert story.total(world).tolist() == expected.tolist()


def runs(shapes: list[tuple[int, int]]) -> list[tuple[int, frozenset[str]]]:
    """shapes: (n, m) → n sites of which every set of at most m drops."""
    made = []
    for n, most in shapes:
        names = [f"site{index:02d}" for index in range(n)]
        made += [(n, frozenset(gone)) for size in range(most + 1) for gone in combinations(names, size)]
    return made


def play_all(ledger: Ledger, shapes: list[tuple[int, int]]) -> int:
    """All runs with inputs that differ, as attempts of one round; then other purposes and other rounds.

    Returns how many mask keys they must have made: a self mask per site that masked, and one per pair of
    sites of which one masked.
    """
    expected = 0
    settings = [(run, {"attempt": 1 + index}) for index, run in enumerate(runs(shapes))]
    settings += [((4, frozenset()), {"purpose": purpose}) for purpose in ("count", "statistics")]
    settings += [((4, frozenset()), {"round": name}) for name in ("r2", "r3")]
    for index, ((n, gone), context) in enumerate(settings):
        dtype = np.uint64 if context.get("purpose") == "statistics" else np.uint32
        words = {f"site{i:02d}": np.arange(6, dtype=dtype) + dtype(100 * index + i) for i in range(n)}
        play(ledger, n, gone, words=words, **context)
        stay = n - len(gone)
        expected += stay + stay * (stay - 1) // 2 + stay * len(gone)
    return expected


def problems(ledger: Ledger) -> list[str]:
    found = []
    if any(len(known) > 1 for known in ledger.by_key.values()):
        found.append("a key with two labels")
    for key, uses in ledger.streams.items():
        purposes = {purpose for purpose, _ in ledger.by_key[key]}
        sites = [who.split()[0] for who, plain in uses if plain is not None]
        if not purposes <= set(MASKS):
            found.append("a stream under a key of another purpose")
        if len(sites) > len(set(sites)):
            found.append("a stream over two inputs of one site")
        if len(set(sites)) > (2 if purposes == {"pair-mask"} else 1):
            found.append("a stream of more sites than its key's")
    return found


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(3, 0), (4, 1), (6, 1)], id="few"),
        pytest.param([(5, 1), (7, 2), (8, 2), (10, 1)], id="many", marks=pytest.mark.slow),
    ],
)
def test_one_key_one_label_one_input(shapes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(monkeypatch)
    expected = play_all(ledger, shapes)
    print(
        f"{ledger.attempts} attempts, {ledger.masked} maskings, {ledger.restarts} restarts: "
        f"{len(ledger.streams)} stream keys, {len(ledger.by_key)} keys in all"
    )
    assert problems(ledger) == []
    assert all(len(known) == 1 for known in ledger.by_label.values()), "a label with two keys"
    assert len(ledger.streams) == sum(label[0] in MASKS for label in ledger.by_label) == expected


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_stuck_generator_repeats_no_mask_because_labels_name_the_attempt(
    forgetful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger's negative: the same secrets in two attempts, with labels as they are and without attempt."""
    ledger = Ledger(monkeypatch)
    if forgetful:
        monkeypatch.setattr(keys, "self_key", lambda seed, context, site: keys.derive(seed, "self-mask"))
    for attempt in (1, 2):
        numbers = count(1)
        monkeypatch.setattr(keys.secrets, "token_bytes", lambda size: next(numbers).to_bytes(size, "big"))  # noqa: B023
        words = {f"site{i:02d}": np.full(6, 10 * attempt + i, np.uint32) for i in range(4)}
        play(ledger, 4, frozenset(), words=words, attempt=attempt)
    found = set(problems(ledger))
    assert found == ({"a stream over two inputs of one site"} if forgetful else set())
