"""Every way in which sites can go missing: the sum over the survivors opens, or nothing does.

Keys, shares and masked inputs do not depend on who goes missing afterwards, so they are made once per set of
sites that never came; from there each pattern has a coordinator and sessions of its own, which go on from
their dumps as after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import secagg_story as story

from federation.secagg import rules
from federation.secagg.errors import TooFew
from federation.secagg.server import ServerSession
from federation.secagg.site import SiteSession

KINDS = "kdsa"  # no keys, dropped before uploading, silent after uploading, stays
Groups = dict[str, frozenset[str]]


def groups_of(names: list[str], pattern: Iterable[str]) -> Groups:
    placed = list(zip(names, pattern, strict=True))
    return {kind: frozenset(name for name, found in placed if found == kind) for kind in KINDS}


def uploaded(n: int, no_keys: frozenset[str], words: dict[str, np.ndarray]) -> SimpleNamespace | None:
    """Everybody who sent keys has masked its words; None where too few came for a key list."""
    world = story.setting(n, words=len(words["site00"]))
    story.exchange_keys(world, no_keys)
    if n - len(no_keys) < max(rules.threshold(n), 3):
        with pytest.raises(TooFew):
            world.server.close_keys()
        return None
    story.exchange_shares(world)
    story.upload(world, words, frozenset())
    world.dumps = {name: site.dump() for name, site in world.sites.items()}
    return world


def branch(world: SimpleNamespace, groups: Groups) -> SimpleNamespace:
    """The same attempt from here on: inputs of the dropped never came, those who stay live on."""
    made = SimpleNamespace(**vars(world))
    made.sites = {
        name: SiteSession.load(
            world.dumps[name], site=name, identity=world.identities[name], roster=world.roster,
            context=world.context,
        )
        for name in groups["a"]
    }  # fmt: skip
    made.server = fresh(world, groups)
    return made


def fresh(world: SimpleNamespace, groups: Groups) -> ServerSession:
    """The coordinator before it names the survivors."""
    seen = {name: world.server.commitments[name] for name in sorted(groups["s"] | groups["a"])}
    return replace(world.server, commitments=seen, survivors=[], signatures={}, answers={})


def outcome(world: SimpleNamespace, groups: Groups, words: dict[str, np.ndarray]) -> str:
    """Plays the rest of one pattern and checks all that must hold."""
    n, survivors = len(words), sorted(groups["s"] | groups["a"])
    needed = max(rules.threshold(n), 3)
    if len(survivors) < needed:
        with pytest.raises(TooFew):
            fresh(world, groups).close()
        return "too few inputs"
    made = branch(world, groups)
    if len(groups["a"]) < needed:
        with pytest.raises(TooFew):
            story.confirm(made, groups["s"])
        assert not made.server.answers
        return "too few signatures"
    story.confirm(made, groups["s"])
    expected = sum(words[name].astype(np.uint64) for name in survivors) % (1 << 32)
    assert made.server.survivors == survivors
    assert np.array_equal(story.total(made), expected.astype(np.uint32))
    return "opened"


def play(n: int, patterns: Iterable[tuple[str, ...]]) -> Counter[str]:
    """Outcome → how many patterns. Patterns may come in any order."""
    names = [f"site{index:02d}" for index in range(n)]
    generator = np.random.default_rng(n)
    words = {name: generator.integers(0, 2**32, 5, dtype=np.uint32) for name in names}
    worlds: dict[frozenset[str], SimpleNamespace | None] = {}
    found: Counter[str] = Counter()
    for pattern in patterns:
        groups = groups_of(names, pattern)
        if groups["k"] not in worlds:
            worlds[groups["k"]] = uploaded(n, groups["k"], words)
        world = worlds[groups["k"]]
        found["too few keys" if world is None else outcome(world, groups, words)] += 1
    print(f"n = {n}: {found.total():,} patterns, {dict(found)}")
    return found


def opened_by_hand(n: int) -> int:
    """Patterns in which at least max(t, 3) sites stay; each of the others goes in one of three ways."""
    needed = max(rules.threshold(n), 3)
    return sum(1 for pattern in product(KINDS, repeat=n) if pattern.count("a") >= needed)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_every_dropout_pattern_opens_the_survivors_sum_or_nothing(n: int) -> None:
    found = play(n, product(KINDS, repeat=n))
    assert found.total() == 4**n
    assert found["opened"] == opened_by_hand(n)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [7, 8])
def test_every_dropout_pattern_of_more_sites(n: int) -> None:
    found = play(n, product(KINDS, repeat=n))
    assert found.total() == 4**n
    assert found["opened"] == opened_by_hand(n)


def sampled(n: int, count: int) -> Iterator[tuple[str, ...]]:
    """Around the threshold, where it matters: usually one site more or fewer than needed stays."""
    generator = np.random.default_rng(n)
    for _ in range(count):
        stay = min(n, rules.threshold(n) + int(generator.integers(-1, 3)))
        pattern = ["a"] * stay + generator.choice(list("kds"), n - stay).tolist()
        yield tuple(generator.permutation(pattern).tolist())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [9, 10, 13, 16, 20])
def test_sampled_dropout_patterns_of_many_sites(n: int) -> None:
    patterns = list(sampled(n, 20 if n < 13 else 10))
    found = play(n, patterns)
    enough = sum(pattern.count("a") >= rules.threshold(n) for pattern in patterns)
    assert found["opened"] == enough
    assert 0 < enough < len(patterns)
