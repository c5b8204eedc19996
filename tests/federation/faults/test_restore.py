"""An old copy of a site's database comes back in the middle of a round; the key folder stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import aborted, openings_kept, results_of
from world import COORDINATOR


class TimeMachine:
    """Copies a site's database when it reaches one state of a sum, and puts it back in a later one."""

    def __init__(self, world: Any, site: str, purpose: str, copied: str, back: str) -> None:
        self.world, self.site, self.purpose = world, site, purpose
        self.at: list[tuple[str, Callable[[], None]]] = [(copied, self.copy), (back, self.put_back)]
        self.file: Path = world.folder / site / "database.sqlite3"
        self.done = False

    def look(self) -> None:
        """To be called between passes."""
        if self.at and self._state() == self.at[0][0]:
            self.at.pop(0)[1]()

    def _state(self) -> str:
        from federation.models import OwnSum

        with self.world.at(self.site):
            own = OwnSum.objects.filter(sum__purpose=self.purpose).first()
            return own.state if own else ""

    def copy(self) -> None:
        self.world.crash(self.site)  # SQLite brings everything into the one file when it is closed
        shutil.copy(self.file, self.file.with_suffix(".old"))

    def put_back(self) -> None:
        self.world.crash(self.site)
        for name in self.file.parent.glob("database.sqlite3*"):
            name.unlink()
        shutil.copy(self.file.with_suffix(".old"), self.file)
        self.world.restart(self.site)
        self.done = True


def run_with(world: Any, machine: TimeMachine) -> None:
    world.between = machine.look
    world.run()
    assert machine.done, "the database never came back"


CUTS = [("advertised", "shared"), ("shared", "masked"), ("prepared", "masked"), ("masked", "answered")]


@pytest.mark.parametrize(("copied", "back"), [CUTS[1], CUTS[3]])
def test_a_restored_site_leaves_and_the_others_go_on(start, undisturbed, watch, copied, back) -> None:
    check_four(start, undisturbed, watch, copied, back)


@pytest.mark.slow
@pytest.mark.parametrize(("copied", "back"), [CUTS[0], CUTS[2]])
def test_a_restored_site_leaves_in_other_states(start, undisturbed, watch, copied, back) -> None:
    check_four(start, undisturbed, watch, copied, back)


def check_four(start: Any, undisturbed: Any, watch: Any, copied: str, back: str) -> None:
    expected = {4: undisturbed(4), 3: undisturbed(4, ("d",))}
    world = start(4)
    run_with(world, TimeMachine(world, "d", "update", copied, back))
    reports = {name: world.report(name) for name in (COORDINATOR, *world.names)}
    for name, found in reports.items():
        assert (found["state"], found["alarm"]) == ("published", ""), (name, found)
        assert found["sha256"] == reports[COORDINATOR]["sha256"]
    compare_by_survivors(world, expected)
    assert "restored from a backup" in reports["a"]["why"]["d"], reports["a"]["why"]
    print(f"{copied} → {back}: {reports['a']['why']['d']}; {watch.check()}")


def compare_by_survivors(world: Any, expected: dict[int, Any]) -> None:
    """Each opened sum is that of an undisturbed run with the same survivors."""
    from federation.models import SecureSum

    with world.at(COORDINATOR):
        opened = list(SecureSum.objects.filter(state="opened").exclude(purpose="presence"))
    for total in opened:
        likewise = results_of(expected[len(total.survivors)])
        assert total.result == likewise[total.purpose], (total.name, total.survivors)


def test_three_sites_stop_when_one_is_restored(start, watch) -> None:
    world = start(3)
    run_with(world, TimeMachine(world, "b", "update", "prepared", "masked"))
    reason = aborted(world)
    print(f"{reason}; {watch.check()}")
    with world.at(COORDINATOR):
        from federation.models import SecureSum

        assert not SecureSum.objects.filter(purpose="update", state="opened").exists()
    assert not any(name.startswith("update") for name in openings_kept(world.folder / "a"))


def test_what_was_answered_is_known_after_a_restore_even_without_the_folder(start, undisturbed) -> None:
    """The key folder's own record is lost, too: the transcript says what this site has opened."""
    undisturbed(3)
    world = start(3)
    machine = TimeMachine(world, "c", "presence", "advertised", "answered")
    kept = world.folder / "c" / "keys" / "sums"
    put_back = machine.put_back

    def lose() -> None:
        shutil.rmtree(kept)
        put_back()

    machine.at[1] = ("answered", lose)
    run_with(world, machine)
    with world.at("c"):
        from federation.models import Opening

        assert list(Opening.objects.values_list("purpose", "survivors")) == [("presence", ["a", "b", "c"])]
    assert list(openings_kept(world.folder / "c").values()) == [[["a", "b", "c"]]]


def test_another_survivor_set_is_refused_after_a_restore(start) -> None:
    """The database does not know what was opened; the key folder does."""
    from federation import secrets_store
    from federation.plans import parse_plan

    world = start(3)
    with world.at("a"):
        from federation.models import Opening, Round

        base = parse_plan(Round.objects.get().plan).base_sha256
        secrets_store.opening_note(base, "presence", frozenset("abcd"))
        assert not Opening.objects.exists()
    world.run()
    assert "It was not opened" in aborted(world)
    assert "over 4 other sites" in world.report(COORDINATOR)["why"]["a"]
    with world.at("a"):
        assert not Opening.objects.exists()
