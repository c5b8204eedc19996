"""Which sequences of openings for one base model may happen: no combination of the sums shows one site."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from federation.secagg import rules
from federation.secagg.errors import OpeningRefused

Rule = Callable[[list[frozenset[int]], frozenset[int], int], bool]


def equal_sets_only(opened: list[frozenset[int]], new: frozenset[int], n: int) -> bool:
    try:
        rules.require_openable([named(one) for one in opened], named(new))
    except OpeningRefused:
        return False
    return True


def differing_by_c_plus_2(opened: list[frozenset[int]], new: frozenset[int], n: int) -> bool:
    """The rule that was rejected (ADR 0005): it looks at pairs of sets only."""
    return all(one == new or len(one ^ new) >= rules.colluders(n) + 2 for one in opened)


def named(sites: frozenset[int]) -> frozenset[str]:
    return frozenset(f"site{index:02d}" for index in sites)


def opened_under(rule: Rule, sequence: list[frozenset[int]], n: int) -> list[frozenset[int]]:
    opened: list[frozenset[int]] = []
    for survivors in sequence:
        if len(survivors) >= rules.threshold(n) and rule(opened, survivors, n):
            opened.append(survivors)
    return opened


def isolated(opened: list[frozenset[int]], n: int, colluders: frozenset[int]) -> list[int]:
    """Honest sites whose input is a combination of the opened sums and the colluders' own inputs."""
    honest = [site for site in range(n) if site not in colluders]
    rows = np.array([[float(site in one) for site in honest] for one in opened])
    rank = np.linalg.matrix_rank(rows)
    units = np.eye(len(honest))
    return [
        site for k, site in enumerate(honest) if np.linalg.matrix_rank(np.vstack([rows, units[k]])) == rank
    ]


#: (n, colluders, the sites that each of three openings leaves out): site 0 is the victim.
COUNTER_EXAMPLES = [
    (7, {1, 6}, [{0, 1}, {2, 3}, {4, 5}]),
    (10, {1, 2, 9}, [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}]),
    (20, {1, 2, 3, 4, 5, 18, 19}, [{0, 1, 2, 3, 4, 5}, {6, 7, 8, 9, 10, 11}, {12, 13, 14, 15, 16, 17}]),
]


@pytest.mark.parametrize(("n", "colluders", "left_out"), COUNTER_EXAMPLES)
def test_three_openings_that_isolate_a_site_are_refused(n: int, colluders: set, left_out: list[set]) -> None:
    assert len(colluders) == rules.colluders(n)
    sequence = [frozenset(range(n)) - frozenset(gone) for gone in left_out]
    weak = opened_under(differing_by_c_plus_2, sequence, n)
    assert weak == sequence and isolated(weak, n, frozenset(colluders)) == [0], "the rejected rule shows it"
    kept = opened_under(equal_sets_only, sequence, n)
    assert kept == sequence[:1] and isolated(kept, n, frozenset(colluders)) == []


@pytest.mark.parametrize("n", [5, 7, 8, 10])
def test_no_sequence_of_openings_isolates_a_site(n: int) -> None:
    """Random sequences of sets, each against every coalition of c sites (40 drawn where there are more)."""
    generator = np.random.default_rng(n)
    coalitions = [frozenset(one) for one in combinations(range(n), rules.colluders(n))]
    for _ in range(20):
        sizes = generator.integers(rules.threshold(n), n, 12, endpoint=True)
        sequence = [frozenset(generator.choice(n, size, replace=False).tolist()) for size in sizes]
        opened = opened_under(equal_sets_only, sequence, n)
        assert opened
        for chosen in generator.choice(len(coalitions), min(40, len(coalitions)), replace=False):
            assert isolated(opened, n, coalitions[chosen]) == []


def test_the_same_sites_may_be_summed_again() -> None:
    everybody = named(frozenset(range(10)))
    rules.require_openable([everybody, everybody], everybody)
    for other in (everybody - {"site00"}, everybody | {"site77"}, frozenset(sorted(everybody)[5:])):
        with pytest.raises(OpeningRefused, match="other sites"):
            rules.require_openable([everybody, everybody], other)
