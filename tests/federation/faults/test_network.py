"""A line that delays, loses, repeats and reorders what is said, and a clock that is wrong."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest
import time_machine
from fault_world import FaultLine, FaultWorld
from outcome import once, published_like
from world import COORDINATOR

SEED = 20261126


class Lossy:
    """Requests that never arrive, and answers that never arrive, drawn from a seed."""

    def __init__(self, world: FaultWorld, seed: int) -> None:
        self.random, self.counts = random.Random(seed), Counter[str]()
        world.on_line = self

    def __call__(self, site: str, what: str, when: str) -> None:
        from federation.errors import Unreachable

        if self.random.random() < 0.15:
            self.counts[f"{what}: {'request' if when == 'before' else 'answer'} lost"] += 1
            raise Unreachable("the line failed")


class Late(FaultLine):
    """What is said may be underway for long: it arrives after newer entries, or arrives again."""

    random: random.Random
    counts: Counter[str]
    under_way: list[tuple[str, bytes]]

    def post_entry(self, data: bytes, invitation: str = "") -> dict[str, Any]:
        from federation.errors import Unreachable

        self._some_arrives()
        chance = self.random.random()
        if chance < 0.25:
            self.counts["delayed"] += 1
            self.under_way.append((self.name, data))
            raise Unreachable("no answer in time")
        if chance < 0.5:
            self.counts["repeated"] += 1
            self.under_way.append((self.name, data))
            self._arrives(self.name, data)
        return super().post_entry(data, invitation)

    def links(self, after: int, wait: float = 0) -> dict[str, Any]:
        """The same links again, after those that follow them were read."""
        from federation.models import Membership
        from federation.services.following import links_follow

        found = super().links(after, wait)
        if found["links"] and self.random.random() < 0.5:
            self.counts["links repeated"] += 1
            links_follow(found["links"], found["head"])
            assert Membership.objects.get().seq == found["head"]["seq"]
        return found

    def _some_arrives(self) -> None:
        while self.under_way and self.random.random() < 0.4:
            self._arrives(*self.under_way.pop(self.random.randrange(len(self.under_way))))

    def _arrives(self, name: str, data: bytes) -> None:
        """At the coordinator, whenever; its answer finds nobody waiting."""
        from federation.errors import FederationError
        from federation.models import Peer
        from federation.services.coordination import entry_append

        with self.world.at(COORDINATOR):
            before = seq_now()
            try:
                entry_append(peer=Peer.objects.get(name=name), data=data)
            except FederationError as error:
                self.counts[f"late and refused: {error}"] += 1
            self.counts["late and known" if seq_now() == before else "late and new"] += 1


def seq_now() -> int:
    from federation.models import Membership

    return int(Membership.objects.get().seq)


def late_lines(world: FaultWorld, seed: int) -> type[Late]:
    """One class per world, so that all its lines share what is under way."""
    shared = {"random": random.Random(seed), "counts": Counter(), "under_way": []}
    lines = type("SharedLate", (Late,), shared)
    world.line = lambda name: lines(world, name)  # type: ignore[method-assign]
    return lines


def lossy_run(start: Any, undisturbed: Any, watch: Any, seed: int) -> None:
    expected = undisturbed(3)
    world = start(3)
    line = Lossy(world, seed)
    world.run()
    print(f"{line.counts.total()} losses: {dict(line.counts)}; {watch.check()}")
    world.on_line = lambda site, what, when: None
    world.run()
    published_like(world, expected)
    assert line.counts.total() > 30


def late_run(start: Any, undisturbed: Any, watch: Any, seed: int) -> None:
    expected = undisturbed(3)
    world = start(3)
    lines = late_lines(world, seed)
    world.run()
    while lines.under_way:  # whatever is left arrives after the end
        lines(world, "a")._arrives(*lines.under_way.pop())
    world.run()
    print(f"{dict(lines.counts)}; {watch.check()}")
    published_like(world, expected)
    for kind in ("delayed", "repeated", "late and known", "late and new", "links repeated"):
        assert lines.counts[kind] > 3, lines.counts


def test_lost_requests_and_lost_answers(start, undisturbed, watch) -> None:
    lossy_run(start, undisturbed, watch, SEED)


def test_delayed_repeated_and_reordered_entries(start, undisturbed, watch) -> None:
    late_run(start, undisturbed, watch, SEED)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("run", [lossy_run, late_run])
def test_many_bad_lines(start, undisturbed, watch, run) -> None:
    for seed in range(1, 21):
        run(start, undisturbed, watch, SEED + seed)


@pytest.mark.parametrize("minutes", [10, pytest.param(-10, marks=pytest.mark.slow)])
def test_a_clock_that_is_ten_minutes_wrong(start, undisturbed, minutes) -> None:
    """A site's own clock decides nothing: neither the order of entries nor a deadline."""
    expected = undisturbed(3)
    world = start(3)
    step = world.step

    def skewed(name: str) -> int:
        if name != "b":
            return step(name)
        moment = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        with time_machine.travel(moment, tick=True):
            return step(name)

    world.step = skewed
    world.run()
    published_like(world, expected)
    once(world, "b")
