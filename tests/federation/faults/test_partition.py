"""A site vanishes in the middle of a step, comes back much later, and finds out what became of the round."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from fault_world import FaultWorld
from outcome import aborted, once, openings_kept, results_of
from world import COORDINATOR

#: What the site was about to say, or had just said, when it vanished: kind of entry, purpose of the sum.
STEPS = [
    ("Answer", ""), ("Advert", "presence"), ("Masked", "counts"), ("Advert", "update"), ("Shares", "update"),
    ("Trained", "update"), ("Masked", "update"), ("Signed", "update"), ("Unmask", "update"),
    ("Checked", "update"), ("Vote", ""), ("Masked", "centroids"), ("Unmask", "centroids"), ("Adopted", ""),
]  # fmt: skip
QUICK = [
    (4, ("Masked", "update"), "before"), (4, ("Unmask", "update"), "after"), (3, ("Signed", "update"), "before"),
]  # fmt: skip
ALL = [
    (n, step, when) for n, step, when in itertools.product((4, 3), STEPS, ("before", "after"))
    if (n, step, when) not in QUICK
]  # fmt: skip


class Cut:
    """Cuts one site off before or after it says something, and forwards nothing until it is mended."""

    def __init__(self, world: FaultWorld, site: str, step: tuple[str, str], when: str) -> None:
        self.world, self.site, self.step, self.when = world, site, step, when
        self.saying = False
        self._hear = world.hear
        world.hear, world.on_line = self.hear, self.on_line

    def hear(self, name: str, what: str, data: bytes) -> None:
        self._hear(name, what, data)
        if name == self.site and what == "entry":
            entry = json.loads(data)
            purpose = str(entry["body"].get("sum", "..")).split(".")[1]
            self.saying = (entry["kind"], purpose) == self.step

    def on_line(self, name: str, what: str, when: str) -> None:
        from federation.errors import Unreachable

        if name != self.site:
            return
        if self.saying and what == "post" and when == self.when:
            self.world.cut.add(name)
        if name in self.world.cut:
            raise Unreachable("the line is dead")

    def mend(self) -> None:
        assert self.site in self.world.cut, "the site never said this"
        self.saying = False
        self.world.cut.clear()
        self.world.on_line = lambda name, what, when: None


def play(start: Any, undisturbed: Any, watch: Any, n: int, step: tuple[str, str], when: str) -> None:
    expected = {n: undisturbed(n)} | ({n - 1: undisturbed(n, ("d",))} if n > 3 else {})
    site = "abcd"[n - 1]
    world = start(n)
    cut = Cut(world, site, step, when)
    world.run()
    without = world.report(COORDINATOR)
    if n == 4 and site in without["why"]:
        assert without["state"] == "published", without
    if without["state"] == "aborted":
        nothing_more_was_opened(world, aborted(world, missing=(site,)))
    cut.mend()
    world.run()
    consistent(world)
    compare_by_survivors(world, expected)
    print(f"{n} sites, {' '.join(step)} {when}: {without['state']} {without['reason']} {watch.check()}")


def nothing_more_was_opened(world: Any, reason: str) -> None:
    """An aborted round says why, and nobody holds enough answers to open a sum that was not opened.

    Sites may have answered: then each remembers the sum as opened, whatever became of it.
    """
    from federation.models import SecureSum
    from federation.secagg.rules import threshold

    assert reason.endswith(".")
    with world.at(COORDINATOR):
        for total in SecureSum.objects.exclude(state="opened"):
            answered = set(total.messages.filter(kind="unmask").values_list("site", flat=True))
            assert len(answered) < threshold(len(total.sites))
            for name in answered:
                assert any(total.purpose in file for file in openings_kept(world.folder / name))


def consistent(world: Any) -> None:
    """All are there again: the same list, the same end, everything once."""
    reports = {name: world.report(name) for name in (COORDINATOR, *world.names)}
    seen = {(found["state"], found["reason"], found["seq"], found["sha256"]) for found in reports.values()}
    assert len(seen) == 1 and not any(found["alarm"] for found in reports.values()), reports
    for name in reports:
        once(world, name)


def compare_by_survivors(world: Any, expected: dict[int, Any]) -> None:
    """Each opened sum is that of an undisturbed run with the same survivors."""
    from federation.models import SecureSum

    with world.at(COORDINATOR):
        opened = list(SecureSum.objects.filter(state="opened").exclude(purpose="presence"))
    for total in opened:
        assert total.result == results_of(expected[len(total.survivors)])[total.purpose], total.name


@pytest.mark.parametrize(("n", "step", "when"), QUICK)
def test_a_site_vanishes(start, undisturbed, watch, n, step, when) -> None:
    play(start, undisturbed, watch, n, step, when)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "step", "when"), ALL)
def test_a_site_vanishes_at_any_step(start, undisturbed, watch, n, step, when) -> None:
    play(start, undisturbed, watch, n, step, when)
