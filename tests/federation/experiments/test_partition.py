"""Patients go whole, nobody twice, nobody nowhere; each rule does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_cases import hospital

from federation.experiments.partition import Spread, people_of, place_patients, share_out, spread_features

SPREADS = (Spread("near-uniform"), Spread("dirichlet", 0.1), Spread("dirichlet", 5.0), Spread("disjoint"))


def people(sizes: list[int]) -> dict[str, str]:
    return {f"p{label}-{index}": f"s{label:02d}" for label, size in enumerate(sizes) for index in range(size)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(0, 99),
    st.sampled_from(SPREADS),
)
def test_everybody_gets_exactly_one_place_and_the_same_again(sizes, sites, seed, spread) -> None:
    found = people(sizes)
    places = place_patients(found, sites, spread, seed)
    assert places.keys() == found.keys()
    assert set(places.values()) <= set(range(sites))
    backwards = dict(reversed(found.items()))
    assert place_patients(backwards, sites, spread, seed) == places


def test_near_uniform_is_even_in_every_syndrome_and_in_all() -> None:
    found = people([9, 10, 11, 7, 5, 6])
    places = place_patients(found, 4, Spread("near-uniform"), 3)
    for label in set(found.values()):
        counts = np.bincount([places[p] for p in found if found[p] == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(list(places.values()), minlength=4)
    assert sizes.max() - sizes.min() <= 3


def test_disjoint_syndromes_have_one_home_and_sites_one_size() -> None:
    found = people([10] * 12)
    places = place_patients(found, 4, Spread("disjoint"), 3)
    homes = {label: {places[p] for p in found if found[p] == label} for label in set(found.values())}
    assert all(len(home) == 1 for home in homes.values())
    assert np.bincount(list(places.values()), minlength=4).tolist() == [30, 30, 30, 30]


def test_a_small_alpha_gathers_a_syndrome_at_few_sites() -> None:
    found = people([40] * 30)

    def largest_share(alpha: float) -> float:
        places = place_patients(found, 4, Spread("dirichlet", alpha), 1)
        tables = [
            np.bincount([places[p] for p in found if found[p] == s], minlength=4) for s in set(found.values())
        ]
        return float(np.mean([table.max() / table.sum() for table in tables]))

    assert largest_share(0.1) > largest_share(1.0) + 0.15 > largest_share(100.0) + 0.25


def test_shares_become_whole_numbers_that_add_up() -> None:
    assert share_out(10, np.array([0.25, 0.25, 0.5])).tolist() == [3, 2, 5]
    assert share_out(0, np.array([0.5, 0.5])).tolist() == [0, 0]


def test_all_photos_of_a_patient_go_to_one_site() -> None:
    found = hospital({"a": 9, "b": 7}, name="h", photos=3)
    parts = spread_features(found, ("x", "y", "z"), Spread("dirichlet", 0.5), 5)
    seen = [set(part.patients) for part in parts.values()]
    assert sum(map(len, seen)) == 16 == len(set().union(*seen))
    assert sorted(key for part in parts.values() for key in part.keys) == sorted(found.keys)


def test_a_spread_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Spread("dirichlet")
    with pytest.raises(ValueError, match="alpha"):
        Spread("disjoint", 0.5)
    two_faced = hospital({"a": 2}, name="h")
    object.__setattr__(two_faced, "labels", ("a", "b", "a", "a"))
    with pytest.raises(ValueError, match="two syndromes"):
        people_of(two_faced)
