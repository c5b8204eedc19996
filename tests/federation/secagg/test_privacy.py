"""What nobody may learn, as tests that can fail: each has a weak twin beside it that does fail."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import secagg_story as story

from federation.secagg import keys, masks, rules, shamir

UNIFORM_AT_1E_9 = 414.6  # chi-square with 255 degrees of freedom exceeds this with probability 1e-9


def chi_square(data: bytes) -> float:
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(((counts - expected) ** 2 / expected).sum())


def gaussian_mask_as_published(words: np.ndarray) -> bytes:
    """Zero-sum masks of the published federation: float noise added to float parameters."""
    generator = np.random.default_rng(0)
    return (words.astype(np.float32) + generator.normal(0, 1, len(words)).astype(np.float32)).tobytes()


def test_masked_bytes_are_uniform_whatever_the_input() -> None:
    words = {f"site{index:02d}": np.zeros(60_000, np.uint32) for index in range(3)}
    _, world = story.play(3, words)
    for masked in world.inputs.values():
        assert chi_square(masked.tobytes()) < UNIFORM_AT_1E_9
    assert chi_square(gaussian_mask_as_published(words["site00"])) > 100 * UNIFORM_AT_1E_9


def test_two_runs_of_the_same_input_have_nothing_in_common() -> None:
    words = {f"site{index:02d}": np.arange(50_000, dtype=np.uint32) for index in range(3)}
    first, second = (story.play(3, words)[1].inputs["site00"] for _ in range(2))
    assert np.count_nonzero(first == second) <= 2
    difference = (first - second).tobytes()  # a repeated mask would leave zeros here
    assert chi_square(difference) < UNIFORM_AT_1E_9


# --- a ledger of every stream key ------------------------------------------------------------------


def test_every_stream_key_masks_one_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all fault runs: a self mask is one site's, a pair mask two sites', and no attempt shares any."""
    ledger: Counter[str] = Counter()
    labels: Counter[tuple] = Counter()
    original, derive = masks.Stream.__init__, keys.derive

    def noted_stream(self: masks.Stream, key: bytes) -> None:
        ledger[hashlib.sha256(key).hexdigest()] += 1
        original(self, key)

    def noted_label(secret: bytes, purpose: str, *parts: bytes) -> bytes:
        if purpose.endswith("mask"):
            labels[(hashlib.sha256(secret).hexdigest(), purpose, parts)] += 1
        return derive(secret, purpose, *parts)

    monkeypatch.setattr(masks.Stream, "__init__", noted_stream)
    monkeypatch.setattr(keys, "derive", noted_label)
    runs = [
        (n, frozenset(f"site{i:02d}" for i in gone)) for n in (4, 6, 7) for gone in combinations(range(n), 1)
    ]
    expected = 0
    for attempt, (n, gone) in enumerate(runs):
        words = {f"site{index:02d}": np.zeros(8, np.uint32) for index in range(n)}
        story.play(n, words, dropped=gone, attempt=attempt)
        honest, dropped = n - len(gone), len(gone)
        expected += honest + honest * (honest - 1) // 2 + honest * dropped
    assert len(ledger) == expected
    assert max(ledger.values()) == 2, "a key is used by its two sites, or by its site and the unmasking"
    assert len(labels) == expected


# --- what coordinator and colluders can solve for ----------------------------------------------------


def equations(n: int, colluders: int, opened: list[frozenset[int]]) -> tuple[np.ndarray, int]:
    """Rows of a linear system over (inputs, self masks, pair masks) of the honest sites 0 … h − 1.

    Every honest site's masked input is one row. An opened set tells the self masks of its members and all
    pair masks of the others. Pair masks with colluders are known and left out.
    """
    honest = n - colluders
    pairs = {pair: 2 * honest + k for k, pair in enumerate(combinations(range(honest), 2))}
    width, known = 2 * honest + len(pairs), set()
    for survivors in opened:
        known |= {honest + i for i in range(honest) if i in survivors}
        known |= {column for (i, j), column in pairs.items() if i not in survivors or j not in survivors}
    rows = np.zeros((honest, width))
    for i in range(honest):
        rows[i, [i, honest + i]] = 1
        for (low, high), column in pairs.items():
            if i in (low, high):
                rows[i, column] = 1 if i == low else -1
    unknown = [column for column in range(width) if column not in known]
    return rows[:, unknown], honest


def solvable(n: int, colluders: int, opened: list[frozenset[int]], target: int) -> bool:
    """Whether some combination of the rows is a function of `target`'s input alone."""
    rows, honest = equations(n, colluders, opened)
    wanted = np.zeros(rows.shape[1])
    wanted[target] = 1
    rank = np.linalg.matrix_rank(rows)
    return bool(np.linalg.matrix_rank(np.vstack([rows, wanted])) == rank)


def reachable(n: int, colluders: int) -> list[list[frozenset[int]]]:
    """Honest members of every survivor set, or pair of sets, that the adversary can have opened.

    A set needs max(t, 3) members and t signatures. Honest sites sign once; colluders sign anything. So two
    sets can be opened only if their honest signers can be disjoint: 2 · (t − colluders) ≤ honest.
    """
    honest, t = n - colluders, rules.threshold(n)
    smallest = max(t, 3) - colluders
    sets = [
        frozenset(s)
        for size in range(max(smallest, 1), honest + 1)
        for s in combinations(range(honest), size)
    ]
    stories = [[one] for one in sets]
    if 2 * max(t - colluders, 0) <= honest:
        stories += [[one, two] for one in sets for two in sets if one != two]
    return stories


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8])
def test_c_colluders_solve_for_nobody_and_c_plus_one_do(n: int) -> None:
    c = rules.colluders(n)
    for opened in reachable(n, c):
        for target in frozenset.intersection(*opened):
            assert not solvable(n, c, opened, target), (opened, target)
    broken = [
        (opened, target)
        for opened in reachable(n, c + 1)
        for target in frozenset.union(*opened)
        if solvable(n, c + 1, opened, target)
    ]
    assert broken, "the bound would be loose: one colluder more learns nothing either"


def test_fewer_shares_than_the_threshold_say_nothing() -> None:
    """With t − 1 shares every secret stays possible: each guess of the missing share gives another one."""
    secret = bytes(range(32))
    shares = shamir.split(secret, threshold=4, shares=5)
    seen = {
        shamir.combine({1: shares[0], 2: shares[1], 3: shares[2], 4: bytes([guess]) * 32})
        for guess in range(256)
    }
    assert len(seen) == 256 and secret not in seen
    for chosen in combinations(range(5), 4):
        assert shamir.combine({i + 1: shares[i] for i in chosen}) == secret
