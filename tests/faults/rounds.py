"""A stored federation whose sites run as servers of their own, and what must be so when its round is over."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "tests" / "federation" / "engine"
sys.path[:0] = [str(ENGINE), str(ENGINE.parent / "faults")]
_spec = importlib.util.spec_from_file_location("engine_fixtures_for_processes", ENGINE / "conftest.py")
assert _spec is not None and _spec.loader is not None
_engine = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_engine)
template, light_clinic, make_world = _engine.template, _engine.light_clinic, _engine.make_world
make_plan, approve, propose = _engine.make_plan, _engine.approve, _engine.propose

NAMES = ("coordinator", "a", "b", "c")
ENTRIES = 105  # of a whole round, about: the kills are spread over it
CLEARED = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "GESTALTWEB_SLUG", "GESTALTWEB_KEYS")


class Server:
    """One site of a stored federation as a process of its own."""

    def __init__(self, name: str, home: Path, port: int, **variables: str) -> None:
        self.name, self.home, self.port, self.kills = name, home, port, 0
        clean = {key: value for key, value in os.environ.items() if key not in CLEARED}
        self.environment = clean | {
            "GESTALTWEB_HOME": str(home), "GESTALTWEB_SLUG": name, "OMP_NUM_THREADS": "1",
            "GESTALTWEB_ROLE": "coordinator" if name == "coordinator" else "hospital",
            "DJANGO_SETTINGS_MODULE": "tests.faults.light_federation_settings",
            "JOB_LEASE_SECONDS": "2", "JOB_SWEEP_SECONDS": "1", "FEDERATION_POLL_SECONDS": "3",
        } | variables  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [sys.executable, "manage.py", "serve", "--port", str(port), "--quiet"]

    def start(self) -> None:
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9: nothing gets a chance to tidy up."""
        assert self.process is not None and self.process.poll() is None, self.log()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log(self) -> str:
        path = self.home / "server.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def ask(self, query: str) -> Any:
        """One value from its database, read from outside without a lock."""
        file = f"file:{self.home}/database.sqlite3?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=10)) as database:
            found = database.execute(query).fetchone()
            return found[0] if found else None

    def seq(self) -> int:
        return int(self.ask("SELECT seq FROM federation_membership"))


@pytest.fixture
def federation(
    make_world: Any, make_plan: Any, propose: Any, approve: Any, tmp_path: Path
) -> Iterator[tuple[dict[str, Server], Any]]:
    """(four servers, not started; the report of the same round undisturbed)."""
    from world import World

    world = make_world("a", "b", "c")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    _set_address(world, f"http://127.0.0.1:{port}")
    plan = make_plan(world, seconds=600)
    propose(world, plan)
    for site in world.names:
        approve(world, site, plan)
    world.close()
    copied = Path(shutil.copytree(world.folder, tmp_path / "processes"))
    world.connections.clear()
    world.settle()
    expected = world.report("coordinator")
    world.close()
    servers = {
        name: Server(name, copied / name, port if name == "coordinator" else _port()) for name in NAMES
    }
    servers["c"].environment["TEST_CLOCK_WRONG_BY"] = str(9 * 60)
    assert isinstance(world, World)
    yield servers, expected
    for server in servers.values():
        server.close()


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _set_address(world: Any, address: str) -> None:
    from federation.models import Membership

    for name in world.names:
        with world.at(name):
            Membership.objects.update(coordinator_address=address)


def wait_for(what: Callable[[], bool], servers: dict[str, Server], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        told = "\n".join(f"--- {name}\n{server.log()}" for name, server in servers.items())
        assert time.monotonic() < end, told
        time.sleep(0.05)


def ended(servers: dict[str, Server]) -> bool:
    """Everybody has read the end of the round, and all who adopt have said so."""
    state = servers["coordinator"].ask("SELECT state FROM federation_round")
    if state == "aborted":
        return len({server.seq() for server in servers.values()}) == 1
    adopted = servers["coordinator"].ask(
        "SELECT COUNT(*) FROM federation_transcriptlink WHERE kind='Adopted'"
    )
    kept = [
        servers[name].ask("SELECT COUNT(*) FROM federation_ownsum WHERE checked='agrees'") for name in "abc"
    ]
    return adopted == 3 and kept == [4, 4, 4] and len({server.seq() for server in servers.values()}) == 1


def check(servers: dict[str, Server], expected: dict[str, Any], template: Path) -> None:
    """Published with the undisturbed sums, everything once, one masked input per hospital and sum."""
    from fault_world import FaultWorld
    from outcome import published_like

    folder = servers["a"].home.parent
    world = FaultWorld(folder, template, [name for name in servers if name != "coordinator"])
    try:
        published_like(world, expected)
        assert masked_files(world) == committed(world)
    finally:
        world.close()


def masked_files(world: Any) -> set[str]:
    """Hashes of the files that hospitals sent, without those of the model that they voted for."""
    from federation.models import Blob, GlobalModel

    with world.at("coordinator"):
        made = {made[part] for made in GlobalModel.objects.get().members
                for part in ("weights", "classifier", "state")}  # fmt: skip
        return set(Blob.objects.exclude(owner="").values_list("sha256", flat=True)) - made


def committed(world: Any) -> set[str]:
    """Hashes of the masked inputs that hospitals signed."""
    from federation.models import SumMessage
    from federation.secagg import wire

    with world.at("coordinator"):
        texts = SumMessage.objects.filter(kind="masked").values_list("text", flat=True)
        found = {wire.decode(text.encode()).sha256.hex() for text in texts}
        assert len(found) == len(texts) == 12
        return found
