"""The opened sum equals the plain sum, for every dropout pattern; below the threshold nothing opens."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import secagg_story as story
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.secagg import rules
from federation.secagg.errors import OutOfRange, TooFew
from federation.secagg.quantize import BLOCK_VALUES, StatisticsQuantiser, UpdateQuantiser


def words_for(n: int, k: int, dtype: type, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    high = np.iinfo(dtype).max
    return {f"site{index:02d}": generator.integers(0, high, k, dtype, endpoint=True) for index in range(n)}


def slow_sum(words: dict[str, np.ndarray], names: list[str], dtype: type) -> np.ndarray:
    """The definition: Python integers, added and reduced."""
    modulus = int(np.iinfo(dtype).max) + 1
    columns = zip(*(words[name].tolist() for name in names), strict=True)
    return np.array([sum(column) % modulus for column in columns], dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("n", [3, 4, 7])
def test_ring_sum_equals_python_integers(n: int, dtype: type) -> None:
    words = words_for(n, 257, dtype)
    opened, world = story.play(n, words)
    assert np.array_equal(opened, slow_sum(words, world.server.survivors, dtype))


PATTERNS = [
    (n, pattern)
    for n in (3, 4, 5, 6)
    for pattern in product("kdsa", repeat=n)
    if pattern == tuple(sorted(pattern))
]


@pytest.mark.parametrize(("n", "pattern"), PATTERNS, ids=[f"{n}-{''.join(p)}" for n, p in PATTERNS])
def test_every_dropout_pattern(n: int, pattern: tuple[str, ...]) -> None:
    """a: stays; k: no keys; d: drops before uploading; s: silent after uploading. All multisets, n ≤ 6."""
    names = [f"site{index:02d}" for index in range(n)]
    rolled = names[1:] + names[:1]  # so that the first site is not always the one that goes
    group = {
        kind: frozenset(name for name, k in zip(rolled, pattern, strict=True) if k == kind) for kind in "kds"
    }
    needed = max(rules.threshold(n), 3)
    enough = pattern.count("a") >= needed
    words = words_for(n, 33, np.uint32)
    play = lambda: story.play(n, words, no_keys=group["k"], dropped=group["d"], silent=group["s"])  # noqa: E731
    if not enough:
        with pytest.raises(TooFew):
            play()
        return
    opened, world = play()
    survivors = [name for name in names if name not in group["k"] | group["d"]]
    assert world.server.survivors == survivors
    assert np.array_equal(opened, slow_sum(words, survivors, np.uint32))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=st.integers(3, 20), k=st.integers(1, 10_000), limit=st.floats(1e-3, 1e3), seed=st.integers(0, 2**32))
def test_weighted_mean_equals_float64_to_1e_6_of_the_range(n: int, k: int, limit: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    updates = generator.uniform(-limit, limit, (n, k)).astype(np.float32)
    updates = np.clip(updates, -limit, limit).astype(np.float32)
    updates[np.abs(updates) > limit] = 0
    counts = generator.integers(1, 500, n)
    weights = counts / counts.sum()
    rule = UpdateQuantiser(limit, n)
    words = {f"site{index:02d}": rule.encode(updates[index], weights[index]) for index in range(n)}
    opened, _ = story.play(n, words)
    plain = (updates.astype(np.float64) * weights[:, None]).sum(axis=0)
    assert np.max(np.abs(rule.decode(opened) - plain)) <= 2.4e-9 * 2 * limit * n / 20 + 1e-12 * limit
    assert np.max(np.abs(rule.decode(opened) - plain)) <= 1e-6 * 2 * limit


def test_ten_million_parameters_end_to_end() -> None:
    """The size of a neck: the mean of three sites, against plain float64, in a mebibyte per site."""
    k, limit, weights = 10_000_000, 0.25, (0.5, 0.3, 0.2)
    updates = [(np.random.default_rng(i).random(k, np.float32) * 2 - 1) * np.float32(limit) for i in range(3)]
    rule = UpdateQuantiser(limit, 3)
    world = story.setting(3, words=k)
    story.exchange_keys(world)
    story.exchange_shares(world)
    words = {f"site{i:02d}": rule.encode(updates[i], weights[i]) for i in range(3)}
    story.upload(world, words, frozenset())
    story.confirm(world)
    opened = rule.decode(story.total(world, chunk=1 << 18))
    plain = sum(weight * update.astype(np.float64) for weight, update in zip(weights, updates, strict=True))
    assert opened.shape == (k,)
    assert np.max(np.abs(opened - plain)) <= 1e-6 * 2 * limit


@pytest.mark.parametrize("n", [3, 20, 1000])
def test_the_extreme_sum_does_not_wrap(n: int) -> None:
    rule = UpdateQuantiser(2.0, n)
    for value in (2.0, -2.0):
        total = np.zeros(1, np.uint32)
        for _ in range(n):
            total += rule.encode(np.array([value], np.float32), 1 / n)
        assert rule.decode(total)[0] == pytest.approx(value, abs=2.4e-9 * 4 * max(1, n / 20))


@pytest.mark.parametrize("n", [3, 20, 1000, 1 << 16])
def test_the_extreme_sum_of_statistics_does_not_wrap(n: int) -> None:
    """Three times 4,000,000 passes 2^23: it must be refused at the site, not come out negative."""
    rule = StatisticsQuantiser(n)
    for value in (rule.limit, -rule.limit):
        word = int(rule.encode(np.array([value]))[0])
        total = np.array([n * word % (1 << 64)], np.uint64)
        assert rule.decode(total)[0] == pytest.approx(n * value, rel=1e-9)
    for beyond in (np.nextafter(rule.limit, np.inf), 4_000_000.0 * 3 / n):
        with pytest.raises(OutOfRange):
            rule.encode(np.array([beyond]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.0000001, -3.0])
def test_nothing_is_clipped(bad: float) -> None:
    update = np.zeros(1000, np.float32)
    update[717] = bad
    with pytest.raises(OutOfRange):
        UpdateQuantiser(1.0, 3).encode(update, 0.5)
    if not np.isfinite(bad):
        with pytest.raises(OutOfRange):
            StatisticsQuantiser(3).encode(update)


def test_the_range_is_compared_exactly_and_in_every_block() -> None:
    """float32(0.1) is a little more than 0.1; and the last value of three blocks counts as the first."""
    with pytest.raises(OutOfRange):
        UpdateQuantiser(0.1, 3).encode(np.array([0.1], np.float32), 0.5)
    update = np.full(2 * BLOCK_VALUES + 1, 0.25, np.float32)
    words = UpdateQuantiser(1.0, 3).encode(update, 0.5)
    assert set(words.tolist()) == {round(0.125 * (2**31 - 4))}
    for bad in (1.5, -1.5, np.nan):
        update[-1] = bad
        with pytest.raises(OutOfRange):
            UpdateQuantiser(1.0, 3).encode(update, 0.5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    values=st.lists(st.floats(-1.0, 1.0, width=32), max_size=20), limit=st.floats(1.0, 1e6),
    weight=st.floats(0.0, 1.0), sites=st.integers(1, 1 << 16),
)  # fmt: skip
def test_words_are_the_definitions(values: list[float], limit: float, weight: float, sites: int) -> None:
    """Python numbers: round half to even of x · (p · S / r), modulo 2^32."""
    rule = UpdateQuantiser(limit, sites)
    words = rule.encode(np.array(values, np.float32), weight)
    factor = weight * (((1 << 31) - 1 - sites) / limit)
    assert words.tolist() == [round(value * factor) % (1 << 32) for value in values]


def test_statistics_keep_forty_binary_places() -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(0, 100, (4, 500))
    rule = StatisticsQuantiser(4)
    words = {f"site{index:02d}": rule.encode(row) for index, row in enumerate(values)}
    opened, _ = story.play(4, words)
    assert np.max(np.abs(rule.decode(opened) - values.sum(axis=0))) <= 4 * 2.0**-41 + 1e-11


def test_numbers_of_the_rules() -> None:
    """n: (t, c) worked by hand from t = ⌊2n/3⌋ + 1 and c = min(2t − n − 1, max(3, t) − 2)."""
    by_hand = {3: (3, 1), 4: (3, 1), 5: (4, 2), 10: (7, 3), 20: (14, 7)}
    assert {n: (rules.threshold(n), rules.colluders(n)) for n in by_hand} == by_hand
