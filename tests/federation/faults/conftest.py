"""Federations of three and four, stored once after all admins have answered, and copied for every run."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENGINE = HERE.parent / "engine"
sys.path[:0] = [str(HERE), str(ENGINE)]
_spec = importlib.util.spec_from_file_location("engine_fixtures", ENGINE / "conftest.py")
assert _spec is not None and _spec.loader is not None
_engine = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_engine)

template, light_clinic, make_world = _engine.template, _engine.light_clinic, _engine.make_world
make_plan, approve, propose = _engine.make_plan, _engine.approve, _engine.propose

START_MS = 1_800_000_000_000
STEP_SECONDS = 60


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What was made once: folders of federations by size, and sums of undisturbed runs."""
    return {"folder": tmp_path_factory.mktemp("stored")}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, light_clinic: Any) -> dict[str, Any]:
    """{"world"}: whose `now_ms` is the coordinator's time, and who is told of every fsync (that waits for
    nothing: no power cut is played)."""
    from federation.services import coordination, summing_up

    held: dict[str, Any] = {"world": None}
    for module in (coordination, summing_up):
        monkeypatch.setattr(module, "now_ms", lambda: held["world"].now_ms if held["world"] else START_MS)
    monkeypatch.setattr("os.fsync", lambda _: held["world"].synced() if held["world"] else None)
    return held


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch, clock: dict[str, Any]) -> None:
    """Files in the key folder and blobs count as points, too."""
    from federation import secrets_store, storage

    def watch(module: Any, name: str, kind: str) -> None:
        original = getattr(module, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            world = clock["world"]
            detail = str(arguments[1]) if name == "write" else ""
            if world is not None:
                world.point(kind, "before", detail)
            found = original(*arguments, **named)
            if world is not None:
                world.point(kind, "after", detail)
            return found

        monkeypatch.setattr(module, name, wrapped)

    watch(secrets_store, "write", "secret")
    watch(secrets_store, "opening_note", "opening")
    watch(secrets_store, "forget", "forgetting")
    watch(storage, "blob_add", "blob")
    watch(storage, "_copy", "bytes of a blob")
    watch(storage, "sync_folder", "name of a blob")


@pytest.fixture
def watch(stored: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """One for all runs of this process: see watch.py."""
    from watch import Watch

    kept = stored.setdefault("watch", Watch())
    kept.install(monkeypatch)
    return kept


@pytest.fixture
def start(
    stored: dict[Any, Any], watch: Any, clock: dict[str, Any], points: None, make_world: Any, make_plan: Any, propose: Any,
    approve: Any, light_clinic: Any, tmp_path: Path,
) -> Iterator[Callable[..., Any]]:  # fmt: skip
    """start(n) → a FaultWorld of n hospitals that have all approved one plan and said so to nobody yet.

    All worlds of one size are copies of one: the same plan, so the same updates.
    """
    from fault_world import FaultWorld

    made: list[Any] = []

    def store(n: int) -> Path:
        clock["world"] = None
        world = make_world(*"abcd"[:n])
        plan = make_plan(world, schedule=_schedule())
        propose(world, plan)
        for site in world.names:
            approve(world, site, plan)
        world.close()
        return Path(shutil.copytree(world.folder, stored["folder"] / str(n)))

    def begin(n: int) -> Any:
        stored[n] = stored.get(n) or store(n)
        folder = Path(shutil.copytree(stored[n], tmp_path / f"faults{len(made)}"))
        for number, name in enumerate("abcd"[:n]):
            light_clinic.PATIENTS[name] = {
                "SYN:0001": 6 + number, "SYN:0002": 9, "SYN:0003": number, "SYN:0004": 2,
            }  # fmt: skip
        world = FaultWorld(folder, folder, list("abcd"[:n]), now_ms=START_MS, hear=watch.hear)
        watch.run += 1
        clock["world"] = world
        made.append(world)
        return world

    yield begin
    clock["world"] = None
    for world in made:
        world.close()


def _schedule() -> Any:
    from federation.plans import Schedule

    return Schedule(START_MS + 1000 * STEP_SECONDS, STEP_SECONDS, STEP_SECONDS, STEP_SECONDS)


@pytest.fixture
def undisturbed(
    stored: dict[Any, Any], start: Callable[..., Any], clock: dict[str, Any], light_clinic: Any
) -> Callable[..., Any]:
    """undisturbed(n, without=()) → the report of a run in which nothing else went wrong, and its points.

    To be asked for before the disturbed run starts.
    """

    def result(n: int, without: tuple[str, ...] = ()) -> Any:
        which = (n, without, light_clinic.plain_update.__name__)
        if which not in stored:
            world = start(n)
            world.gone.update(without)
            world.run()
            stored[which] = world.report("coordinator") | {"points": dict(world.seen)}
            clock["world"] = None
        return stored[which]

    return result
