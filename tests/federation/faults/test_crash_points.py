"""Every point at which something lasts: a site or the coordinator dies there once, and goes on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from fault_world import Crash
from outcome import published_like

SEED = 20261125
#: Purposes that the quick run leaves out: they take the same way through the same functions.
LIKE_OTHERS = ("(counts)", "(centroids)")


def die_at(world: Any, places: set[str], *, nth: int = 1) -> Counter[str]:
    """Whoever reaches one of these places for the nth time dies there, once per place."""
    dead: Counter[str] = Counter()

    def hook(label: str, site: str) -> None:
        if world.seen[label] == nth and label in places:
            dead[label] += 1
            raise Crash(site)

    world.hook = hook
    return dead


def survive(world: Any, expected: dict[str, Any], dead: Counter[str], watch: Any) -> None:
    """Run to the end, compare with the undisturbed run, and print what was counted."""
    world.run()
    world.hook = lambda label, site: None
    print(
        f"{len(world.seen)} places, {sum(world.seen.values())} points, {len(world.crashes)} crashes "
        f"{dict(Counter(world.crashes))}; {watch.check()}"
    )
    published_like(world, expected)
    assert len(world.crashes) == len(dead) == sum(dead.values())


def test_dying_once_at_every_place_changes_nothing(start, undisturbed, watch) -> None:
    expected = undisturbed(3)
    places = {label for label in expected["points"] if not label.endswith(LIKE_OTHERS)}
    world = start(3)
    dead = die_at(world, places)
    survive(world, expected, dead, watch)
    assert len(places) > 200
    # After a crash an answer may be known already when its sender comes back: then it passes by some places.
    assert len(dead) > 0.95 * len(places), places - set(dead)


def test_dying_alone_at_one_place_changes_nothing(start, undisturbed, watch) -> None:
    """Runs with one crash each: no other crash hides what this one has broken."""
    expected = undisturbed(3)
    for place in random.Random(SEED).sample(sorted(expected["points"]), 1):
        world = start(3)
        survive(world, expected, die_at(world, {place}), watch)
        assert len(world.crashes) == 1, place


def test_dying_while_an_input_is_made_again(start, undisturbed, watch, light_clinic, monkeypatch) -> None:
    """A patient withdraws between the making of an input and its masking: see `_withdrawn`."""
    expected, withdrawn, make = undisturbed(3), set[str](), light_clinic.input_words

    def made(total: Any) -> Any:
        prepared = make(total)
        prepared.photos = [int(light_clinic.site() in withdrawn)]
        return prepared

    def allowed(patients: Any, photos: list[int]) -> bool:
        withdrawn.add(light_clinic.site())
        return photos == [1]

    monkeypatch.setattr(light_clinic.contributions, "input_words", made)
    monkeypatch.setattr(light_clinic.contributions, "still_allowed", allowed)
    world, dead = start(3), Counter[str]()

    def hook(label: str, site: str) -> None:
        if "_withdrawn" in label and label not in dead:
            dead[label] += 1
            raise Crash(site)

    world.hook = hook
    survive(world, expected, dead, watch)
    assert withdrawn == set(world.names) and len(dead) >= 4, dead


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("nth", [1, 2, 3, 5])
def test_dying_at_every_place_of_every_sum(start, undisturbed, watch, nth) -> None:
    """The first, second, third and fifth time that somebody comes by: another site, another moment."""
    expected = undisturbed(3)
    places = {label for label, times in expected["points"].items() if times >= nth}
    world = start(3)
    dead = die_at(world, places, nth=nth)
    survive(world, expected, dead, watch)
    assert len(dead) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_dying_alone_at_many_places(start, undisturbed, watch) -> None:
    expected = undisturbed(3)
    for place in random.Random(SEED + 1).sample(sorted(expected["points"]), 60):
        world = start(3)
        survive(world, expected, die_at(world, {place}), watch)


def test_the_ledger_notices_a_key_that_masks_twice() -> None:
    from watch import Watch

    label = (1, "round", "update", 1, "self-mask", ("a",))
    honest, twice, shared = Watch(), Watch(), Watch()
    for ledger, uses in ((honest, {("a", "x")}), (twice, {("a", "x"), ("a", "y")}), (shared, {("b", "x")})):
        ledger.used.add("key")
        ledger.labels["key"].add(label)
        ledger.masked_by["key"] |= uses
    honest.check()
    for ledger in (twice, shared):
        with pytest.raises(AssertionError):
            ledger.check()
    honest.used.add("another")
    honest.labels["another"].add(label)
    with pytest.raises(AssertionError):
        honest.check()
