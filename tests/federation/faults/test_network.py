"""A line that delays, loses, repeats and reorders, and sites that vanish in the middle of a step."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fault_world import FaultWorld
from outcome import published_like

SEED = 20261126
#: Steps of a round at which a site is cut off: the kinds of what it sends.
STEPS = ("Answer", "Advert", "Shares", "Trained", "Masked", "Signed", "Unmask", "Checked", "Vote", "Adopted")


class Unreliable:
    """What happens to each request, drawn from a seed: lost before it arrives, or its answer is lost."""

    def __init__(self, world: FaultWorld, seed: int) -> None:
        self.random, self.world = random.Random(seed), world
        self.counts: Counter[str] = Counter()
        world.on_line = self

    def __call__(self, site: str, what: str, when: str) -> None:
        from federation.errors import Unreachable

        if self.random.random() < 0.15:
            self.counts[f"{what}: {'request' if when == 'before' else 'answer'} lost"] += 1
            raise Unreachable("the line failed")


@pytest.mark.parametrize("seed", range(2))
def test_lost_requests_and_lost_answers(start, undisturbed, watch, seed) -> None:
    expected = undisturbed(3)
    world = start(3)
    line = Unreliable(world, SEED + seed)
    world.run()
    print(f"{sum(line.counts.values())} losses: {dict(line.counts)}; {watch.check()}")
    world.on_line = lambda site, what, when: None
    world.run()
    published_like(world, expected)
    assert line.counts.total() > 30
