"""What travels says nothing: one battery of tests that masked words pass and masks of float noise fail.

Each statistic has a threshold that uniform, independent bytes exceed with a probability below 1e-9, so that
over all cases here a false alarm is a matter of one run in a million.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import secagg_story as story

from federation.secagg.quantize import UpdateQuantiser

SITES, VALUES = 4, 40_000
CHI_SQUARE_255 = 414.6  # exceeded with probability 1e-9
SIX_SIGMA = 6.2  # |normal| exceeds this with probability 6e-10


def update_of(site: int, spread: float) -> np.ndarray:
    """A layer's update as training gives it: small numbers around zero, a few large ones."""
    generator = np.random.default_rng(site)
    return np.clip(spread * generator.standard_t(3, VALUES), -1, 1).astype(np.float32)


def chi_squares(data: bytes, width: int) -> list[float]:
    """One per byte of a word: the exponent of a float is not uniform, even where its low bits are."""
    columns = np.frombuffer(data, np.uint8).reshape(-1, width)
    expected = len(columns) / 256
    return [
        float(((np.bincount(column, minlength=256) - expected) ** 2 / expected).sum()) for column in columns.T
    ]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r in standard errors, 1 / √k."""
    return float(np.corrcoef(first, second)[0, 1] * np.sqrt(len(first)))


def failures(data: bytes, numbers: np.ndarray, secret: np.ndarray) -> list[str]:
    """What gives masked `data` away; numbers (k,): its words or floats, secret (k,): the update in it."""
    found = []
    if max(chi_squares(data, len(data) // len(numbers))) > CHI_SQUARE_255:
        found.append("bytes")
    exact = numbers.astype(np.float64)
    if abs(correlation(exact[:-1], exact[1:])) > SIX_SIGMA:
        found.append("neighbours")
    if secret.std() > 0 and abs(correlation(exact, secret)) > SIX_SIGMA:
        found.append("update")
    return found


def ours(updates: list[np.ndarray], **drop: frozenset[str]) -> dict[str, np.ndarray]:
    rule = UpdateQuantiser(1.0, len(updates))
    words = {f"site{i:02d}": rule.encode(update, 1 / len(updates)) for i, update in enumerate(updates)}
    return story.play(len(updates), words, **drop)[1].inputs


INPUTS: dict[str, Callable[[int], np.ndarray]] = {
    "zeros": lambda site: np.zeros(VALUES, np.float32),
    "all at the range's end": lambda site: np.full(VALUES, 1 - 2 * (site % 2), np.float32),
    "small": lambda site: update_of(site, 1e-4),
    "large": lambda site: update_of(site, 0.2),
    "the same at every site": lambda site: update_of(7, 0.05),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("dropped", [frozenset(), frozenset({"site03"})], ids=["all stay", "one drops"])
def test_masked_words_pass_whatever_is_in_them(kind: str, dropped: frozenset[str]) -> None:
    updates = [INPUTS[kind](site) for site in range(SITES)]
    masked = ours(updates, dropped=dropped)
    assert len(masked) == SITES - len(dropped)
    for name, words in masked.items():
        secret = updates[int(name[-2:])]
        assert failures(words.astype("<u4").tobytes(), words, secret) == []


def test_masked_statistics_of_64_bits_pass() -> None:
    words = {f"site{i:02d}": np.arange(VALUES, dtype=np.uint64) for i in range(3)}
    for masked in story.play(3, words)[1].inputs.values():
        assert failures(masked.astype("<u8").tobytes(), masked, np.arange(VALUES)) == []


def test_two_masked_inputs_are_unrelated() -> None:
    """The sum of all is public; any two alone are as unrelated as random words."""
    masked = [words.astype(np.float64) for words in ours([update_of(7, 0.2)] * SITES).values()]
    for first in range(SITES):
        for second in range(first):
            assert abs(correlation(masked[first], masked[second])) < SIX_SIGMA


# --- the negative: the published masking ---------------------------------------------------------------


def float_noise(update: np.ndarray, site: int, scale: float, draw: str) -> np.ndarray:
    """Pairwise zero-sum float32 noise added to float32 parameters, as the published federation masks.

    The noise of a pair comes from a generator that both share; it cancels to float rounding.
    """
    masked = update.copy()
    for other in range(SITES):
        if other != site:
            generator = np.random.default_rng([min(site, other), max(site, other)])
            noise = generator.normal(0, scale, VALUES) if draw == "normal" else (
                generator.uniform(-scale, scale, VALUES))  # fmt: skip
            masked += noise.astype(np.float32) * np.float32(1 if site < other else -1)
    return masked


@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", INPUTS)
def test_float_noise_fails_at_every_scale(kind: str, scale: float, draw: str) -> None:
    for site in range(SITES):
        update = INPUTS[kind](site)
        masked = float_noise(update, site, scale, draw)
        assert "bytes" in failures(masked.tobytes(), masked, update)


def test_float_noise_either_shows_the_update_or_destroys_the_sum() -> None:
    """At a scale near the update's the correlation shows it; at one that hides it the sum is lost."""
    updates = [update_of(site, 0.2) for site in range(SITES)]
    near = float_noise(updates[0], 0, 1.0, "normal")
    assert "update" in failures(near.tobytes(), near, updates[0])
    hidden = [float_noise(update, site, 1e6, "normal") for site, update in enumerate(updates)]
    error = np.abs(np.sum(hidden, axis=0, dtype=np.float64) - np.sum(updates, axis=0, dtype=np.float64))
    assert failures(hidden[0].tobytes(), hidden[0], updates[0]) == ["bytes"]
    assert np.median(error) > 0.01  # of a range of 1; the ring's error is below 1e-9


@pytest.mark.parametrize(
    ("weakness", "expected"),
    [("16-bit masks", "bytes"), ("no mask", "update"), ("a mask used for two words", "neighbours")],
)
def test_each_statistic_catches_its_weakness(weakness: str, expected: str) -> None:
    generator = np.random.default_rng(1)
    update = update_of(0, 0.2)
    words = (update.astype(np.float64) * 2**30).astype(np.int64).astype(np.uint32)
    mask = generator.integers(0, 2**32, VALUES, dtype=np.uint32)
    weak = {
        "16-bit masks": (words & 0xFFFF) + (mask & 0xFFFF),
        "no mask": words + np.uint32(2**31),
        "a mask used for two words": np.repeat(mask[::2], 2),
    }[weakness]
    assert expected in failures(weak.astype("<u4").tobytes(), weak, update)
