"""Real sites for fault tests: own home, own processes, killed with -9 when the test wants it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rounds import (  # noqa: F401  fixtures
    approve,
    federation,
    light_clinic,
    make_plan,
    make_world,
    propose,
    template,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("site.py")
SERVICES = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE", "GESTALTWEB_SLUG")


class Site:
    """One site under `home`, set up by site.py, served and worked on by real processes."""

    def __init__(self, home: Path, port: int, **variables: str) -> None:
        self.home, self.port, self.processes = home, port, []
        clean = {name: value for name, value in os.environ.items() if name not in SERVICES}
        self.environment = clean | {
            "GESTALTWEB_HOME": str(home), "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.dev",
            "JOB_LEASE_SECONDS": "2", "JOB_SWEEP_SECONDS": "1", "OMP_NUM_THREADS": "1",
        } | variables  # fmt: skip
        home.mkdir()
        self.run("setup")

    def run(self, *arguments: str) -> str:
        command = [sys.executable, str(SCRIPT), *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("report"))
        return found

    def settled(self, seconds: float) -> dict[str, Any]:
        """The report once nothing waits any more, or as it is after so many seconds."""
        end = time.monotonic() + seconds
        while (facts := self.report())["waiting"] and time.monotonic() < end:
            self._wait_for_work(end)
        return facts

    def _wait_for_work(self, end: float) -> None:
        """A report starts an interpreter, which takes from the work: SQLite is asked without one."""
        file = self.home / "database.sqlite3"
        time.sleep(0.2 if file.exists() else 2)
        while file.exists() and time.monotonic() < end:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as database:
                query = "SELECT COUNT(*) FROM diagnosis_job WHERE state IN ('queued', 'running')"
                if not database.execute(query).fetchone()[0]:
                    return
            time.sleep(0.1)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"{name}.log").open("a")
        process = subprocess.Popen(
            [sys.executable, *command], env=self.environment, cwd=ROOT, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def feed(self, count: int) -> subprocess.Popen[bytes]:
        return self._start("feed", str(SCRIPT), "feed", str(count))

    def serve(self) -> subprocess.Popen[bytes]:
        return self._start("serve", "manage.py", "serve", "--port", str(self.port), "--quiet")

    def worker(self) -> subprocess.Popen[bytes]:
        """A Celery worker as production runs it, with two child processes."""
        options = ("-Q", "analyse,train", "-c", "2", "--loglevel", "WARNING", "--without-gossip")
        name = f"--hostname=w{uuid.uuid4().hex[:6]}@%h"
        return self._start("worker", "-m", "celery", "-A", "gestaltweb", "worker", *options, name)

    def log(self, name: str) -> str:
        path = self.home / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_until_served(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while "Uvicorn running" not in self.log("serve"):
            assert time.monotonic() < end, self.log("serve")[-2000:]
            time.sleep(0.1)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9, children too: nothing gets a chance to tidy up."""
        assert process.poll() is None, "it ended by itself"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def site(tmp_path: Path, unused_tcp_port: int) -> Iterator[Site]:
    """The embedded default: SQLite, in-memory layer, the worker inside the server."""
    made = Site(tmp_path / "site", unused_tcp_port)
    yield made
    made.close()


@pytest.fixture
def light_site(tmp_path: Path, unused_tcp_port: int) -> Iterator[Site]:
    """The embedded default with stand-ins for the networks (light_networks)."""
    made = Site(
        tmp_path / "site", unused_tcp_port, DJANGO_SETTINGS_MODULE="tests.faults.light_settings",
        JOB_LEASE_SECONDS="1",
    )  # fmt: skip
    yield made
    made.close()


def missing(what: str) -> None:
    """Loud where services are absent; a failure where they are promised."""
    if os.environ.get("CI") == "1":
        pytest.fail(f"{what} is needed with CI=1")
    pytest.skip(f"{what}: NOT TESTED on PostgreSQL and Redis")


@pytest.fixture
def production_services() -> Iterator[dict[str, str]]:
    """PostgreSQL and Redis from GESTALTWEB_TEST_POSTGRES and GESTALTWEB_TEST_REDIS, a database of its own."""
    psycopg, redis = pytest.importorskip("psycopg"), pytest.importorskip("redis")
    postgres = os.environ.get("GESTALTWEB_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432")
    broker = os.environ.get("GESTALTWEB_TEST_REDIS", "redis://127.0.0.1:6379")
    slug = f"t{uuid.uuid4().hex[:8]}"
    database = f"gestaltweb_test_{slug}"
    store = redis.Redis.from_url(f"{broker}/0")
    try:
        connection = psycopg.connect(f"{postgres}/postgres", autocommit=True, connect_timeout=3)
        store.ping()
    except Exception as error:  # any of the two clients' errors
        missing(f"PostgreSQL at {postgres} and Redis at {broker} ({type(error).__name__})")
    connection.execute(f"CREATE DATABASE {database}")
    try:
        yield {
            "DATABASE_URL": f"{postgres}/{database}", "GESTALTWEB_SLUG": slug, "REDIS_URL": f"{broker}/0",
            "CELERY_BROKER_URL": f"{broker}/0",
        }  # fmt: skip
    finally:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
        for key in store.scan_iter(f"gw-{slug}*"):
            store.delete(key)


@pytest.fixture
def production_site(
    tmp_path: Path, unused_tcp_port: int, production_services: dict[str, str]
) -> Iterator[Site]:
    """The production profile: PostgreSQL, Redis, and workers of its own."""
    made = Site(tmp_path / "site", unused_tcp_port, **production_services)
    yield made
    made.close()


@pytest.fixture
def check_nothing_lost() -> Callable[[dict[str, Any], int], None]:
    """Every photo analysed once: one embedding, one ledger line, one job done, in its case's list."""

    def check(facts: dict[str, Any], photos: int) -> None:
        assert facts["photos"] == {"ready": photos}
        assert facts["jobs"] == {"done": photos}
        assert (facts["embeddings"], facts["embeddings_most"]) == (photos, 1)
        assert (facts["ledger"], facts["ledger_most"]) == (photos, 1)
        assert len(facts["ranked_photos"]) == photos and facts["cases"] == {"ranked": 4}
        assert facts["chain_fault"] is None

    return check
