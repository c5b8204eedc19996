"""kill -9 of the serving process under load: every photo is analysed once and none is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).with_name("site.py")
PHOTOS, KILLS, LEASE_SECONDS = 100, 12, 2


class Site:
    """A real site under its own home, served by real processes."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port, self.server = home, port, None
        self.environment = {
            name: value for name, value in os.environ.items()
            if name not in ("DJANGO_SETTINGS_MODULE", "CELERY_BROKER_URL", "DATABASE_URL", "REDIS_URL")
        } | {
            "GESTALTWEB_HOME": str(home), "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.dev",
            "JOB_LEASE_SECONDS": str(LEASE_SECONDS), "JOB_SWEEP_SECONDS": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(SITE), *arguments], env=self.environment, cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def feed(self, count: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(SITE), "feed", str(count)]
        return subprocess.Popen(command, env=self.environment, cwd=ROOT, stderr=subprocess.PIPE)

    def start(self) -> None:
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port), "--quiet"]
        self.log = (self.home / "serve.log").open("a")
        self.server = subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stderr=self.log, stdout=self.log
        )

    def kill(self) -> None:
        assert self.server is not None and self.server.poll() is None, "the server ended by itself"
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def begun(self) -> int:
        """How often a photo's analysis has begun, read from outside without a lock."""
        with sqlite3.connect(f"file:{self.home}/database.sqlite3?mode=ro", uri=True, timeout=10) as database:
            query = "SELECT COALESCE(SUM(attempts), 0) FROM diagnosis_job WHERE kind = 'analyse_photo'"
            return int(database.execute(query).fetchone()[0])

    def wait_until_begun(self, count: int, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while self.begun() < count:
            assert time.monotonic() < end, f"only {self.begun()} of {count} analyses began"
            time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path, unused_tcp_port: int) -> Iterator[Site]:
    made = Site(tmp_path / "killed", unused_tcp_port)
    made.home.mkdir()
    made.run("setup")
    yield made
    if made.server is not None and made.server.poll() is None:
        made.server.terminate()
        made.server.wait(20)


def test_killed_a_dozen_times_nothing_is_lost_or_done_twice(site: Site) -> None:
    random, killed_at = np.random.default_rng(20261120), []
    site.start()
    feeding = site.feed(PHOTOS)
    for number in range(KILLS):
        site.wait_until_begun(min(PHOTOS - 5, 1 + number * (PHOTOS // KILLS)))
        time.sleep(float(random.uniform(0, 0.35)))
        killed_at.append(site.begun())
        site.kill()
        site.start()
    assert feeding.wait(60) == 0, feeding.stderr.read()[-2000:] if feeding.stderr else ""
    end = time.monotonic() + 90
    while (facts := json.loads(site.run("report")))["waiting"] and time.monotonic() < end:
        time.sleep(0.5)
    print(
        f"killed after {killed_at} begun analyses; attempts {facts['attempts']}; {facts['rankings']} rankings"
    )
    assert facts["photos"] == {"ready": PHOTOS}
    assert facts["jobs"] == {"done": PHOTOS}
    assert (facts["embeddings"], facts["embeddings_most"]) == (PHOTOS, 1)
    assert (facts["ledger"], facts["ledger_most"]) == (PHOTOS, 1)
    assert len(facts["ranked_photos"]) == PHOTOS and facts["cases"] == {"ranked": 4}
    assert facts["chain_fault"] is None
    assert facts["attempts"] > PHOTOS, "no kill hit an analysis, so nothing was shown"


def test_a_second_server_on_the_same_home_is_refused(site: Site) -> None:
    site.start()
    end = time.monotonic() + 30
    while "startup complete" not in (site.home / "serve.log").read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    first, site.server = site.server, None
    site.start()
    assert site.server.wait(30) != 0
    assert "already runs for" in (site.home / "serve.log").read_text()
    site.server = first
