"""Full disks: every write and every commit fails once, at sites and at the coordinator."""

from __future__ import annotations

import errno
import random
from collections import Counter
from typing import Any

from django.db import OperationalError
from fault_world import Crash
from outcome import published_like

SEED = 20261127


class FullDisk:
    """Each place fails once, for whoever comes by when a seeded coin says so."""

    def __init__(self, world: Any, *, crash: bool = False) -> None:
        self.random, self.failed, self.crash = random.Random(SEED), Counter[str](), crash
        self.missed: set[str] = set()
        world.hook, world.disk = self, True

    def __call__(self, label: str, site: str) -> None:
        if ("before disk" not in label and "before commit" not in label) or label in self.failed:
            return
        if self.random.random() < 0.5 and label not in self.missed:
            self.missed.add(label)
            return
        self.failed[label] += 1
        if self.crash:
            raise Crash(site)
        if "before commit" in label:
            raise OperationalError("database or disk is full")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_at_every_write_once(start, undisturbed, watch, caplog) -> None:
    """The site says so, tries again, and nothing is lost; no half-written secret stays."""
    expected = undisturbed(3)
    world = start(3)
    full = FullDisk(world)
    world.run()
    world.hook = lambda label, site: None
    kinds = Counter(label.split(" in ")[0] for label in full.failed)
    print(f"{full.failed.total()} failed writes: {dict(kinds)}; {watch.check()}")
    said = [trouble for trouble in world.troubles if "disk is full" in trouble or "No space left" in trouble]
    published_like(world, expected)
    assert kinds["site: before disk"] > 30 and kinds["site: before commit"] > 50
    assert kinds["coordinator: before disk"] > 5 and kinds["coordinator: before commit"] > 10
    assert len(said) > 50 and not world.crashes


def test_dying_in_the_middle_of_every_write(start, undisturbed, watch) -> None:
    """Half-written files lie about afterwards; those with secrets are gone when their sum is over."""
    expected = undisturbed(3)
    world = start(3)
    full = FullDisk(world, crash=True)
    world.run()
    world.hook = lambda label, site: None
    print(f"{len(world.crashes)} crashes in the middle of a write; {watch.check()}")
    published_like(world, expected)
    assert full.failed.total() == len(world.crashes) > 90
