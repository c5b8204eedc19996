"""A recognisable update never leaves its hospital's key folder, and not even that once it is masked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import secrets_left
from test_crash_points import die_at
from world import COORDINATOR

#: 16 bytes, so that any 31 neighbouring bytes of an update hold them whole.
CANARIES = {name: f"CANARY-{name}-UPDAT".encode()[:16].ljust(16, b"!") for name in "abc"}
#: As bytes, as hex digits, as a list of numbers.
TRACES = re.compile(
    b"|".join(
        re.escape(form)
        for canary in CANARIES.values()
        for form in (
            canary,
            canary.hex().encode(),
            b", ".join(b"%d" % word for word in np.frombuffer(canary, "<u4")),
        )
    )
)


def canary_update(name: str, total: Any) -> Any:
    return np.frombuffer(CANARIES[name] * (1 + total.words // 4), "<u4")[: total.words].astype(np.uint32)


class Search:
    """Looks through everything that was sent, and through all files after every pass."""

    def __init__(self, world: Any) -> None:
        self.world, self.heard, self.sent, self.files = world, world.hear, 0, 0
        self.in_keys: set[str] = set()
        self.seen: dict[Path, tuple[int, int]] = {}
        world.hear, world.between = self.hear, self.look

    def hear(self, name: str, what: str, data: bytes) -> None:
        self.heard(name, what, data)
        assert not TRACES.search(data), (name, what)
        self.sent += len(data)

    def look(self) -> None:
        for name in (COORDINATOR, *self.world.names):
            home = self.world.folder / name
            for path in home.rglob("*"):
                if path.is_file() and self._changed(path):
                    self._look_at(name, path, path.relative_to(home).parts[0] == "keys")

    def _changed(self, path: Path) -> bool:
        """Whether a file is another one than when it was looked through."""
        found = path.stat()
        before = self.seen.get(path)
        self.seen[path] = (found.st_mtime_ns, found.st_size)
        return before != self.seen[path]

    def _look_at(self, name: str, path: Path, in_keys: bool) -> None:
        found = TRACES.search(path.read_bytes())
        self.files += 1
        if found:
            assert in_keys and name != COORDINATOR, path
            self.in_keys.add(name)


@pytest.fixture
def recognisable(monkeypatch: pytest.MonkeyPatch, light_clinic: Any) -> None:
    monkeypatch.setattr(light_clinic, "plain_update", canary_update)


def test_no_plain_update_is_sent_stored_or_logged(start, undisturbed, recognisable, caplog) -> None:
    """With a death at every point from the making of the update to its masked copy."""
    places = {
        label
        for label in undisturbed(3)["points"]
        if label.endswith("(update)")
        and re.search("sum_prepare|_mask|_masked|_receive|_said|forgetting", label)
    }
    world = start(3)
    die_at(world, places)
    search = Search(world)
    world.run()
    assert world.report(COORDINATOR)["state"] == "published"
    assert search.in_keys == set(world.names), "the search finds nothing even where the update must lie"
    assert not any(secrets_left(world.folder / name) for name in world.names)
    assert not TRACES.search(caplog.text.encode())
    print(
        f"{len(world.crashes)} crashes; {search.sent:,} bytes on the line and {search.files:,} files looked "
        "through: the updates lay in key folders only"
    )


def test_an_update_of_an_aborted_round_is_removed(start, recognisable) -> None:
    """Its site prepared it, and then too few were left."""
    world = start(3)
    search = Search(world)
    _vanish_when_prepared(world, "c")
    world.run()
    assert world.report("a")["state"] == "aborted" and "a" in search.in_keys
    assert not secrets_left(world.folder / "a") and not secrets_left(world.folder / "b")


def _vanish_when_prepared(world: Any, name: str) -> None:
    """The hospital `name` is gone from when its own update lies ready; the coordinator has none of it."""
    look = world.between

    def between() -> None:
        from federation.models import OwnSum

        look()
        if name not in world.gone:
            with world.at(name):
                if OwnSum.objects.filter(sum__purpose="update", state="prepared").exists():
                    world.gone.add(name)

    world.between = between
