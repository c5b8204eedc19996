"""kill -9 of the serving process under load: every photo is analysed once and none is lost."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import numpy as np
import pytest

PHOTOS, KILLS = 100, 12


def begun(site: Any) -> int:
    """How often an analysis has begun, read from outside without a lock."""
    with sqlite3.connect(f"file:{site.home}/database.sqlite3?mode=ro", uri=True, timeout=10) as database:
        query = "SELECT COALESCE(SUM(attempts), 0) FROM diagnosis_job WHERE kind = 'analyse_photo'"
        return int(database.execute(query).fetchone()[0])


def wait_until_begun(site: Any, count: int, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while begun(site) < count:
        assert time.monotonic() < end, f"only {begun(site)} of {count} analyses began"
        time.sleep(0.02)


@pytest.mark.timeout(600)
def test_killed_a_dozen_times_nothing_is_lost_or_done_twice(light_site, check_nothing_lost) -> None:
    """The networks are stand-ins: what is asked is whether jobs survive, and each start is a whole server."""
    site = light_site
    random, killed_at = np.random.default_rng(20261120), []
    server, feeding = site.serve(), site.feed(PHOTOS)
    for number in range(KILLS):
        wait_until_begun(site, 1 + number * ((PHOTOS - 10) // KILLS))
        time.sleep(float(random.uniform(0, 0.35)))
        killed_at.append(begun(site))
        site.kill(server)
        server = site.serve()
    assert feeding.wait(60) == 0, site.log("feed")[-2000:]
    facts = site.settled(120)
    print(
        f"killed after {killed_at} begun analyses; {facts['attempts']} attempts, {facts['rankings']} rankings"
    )
    check_nothing_lost(facts, PHOTOS)
    assert facts["attempts"] > PHOTOS, "no kill hit an analysis, so nothing was shown"


def test_a_second_server_on_the_same_home_is_refused(site) -> None:
    site.serve()
    site.wait_until_served()
    assert site.serve().wait(60) != 0
    assert "already runs for" in site.log("serve")


def test_a_server_that_is_asked_to_stop_leaves_the_rest_for_the_next(site, check_nothing_lost) -> None:
    """An orderly end in the middle of work: it takes seconds, and nothing is tried twice."""
    server = site.serve()
    assert site.feed(8).wait(90) == 0
    wait_until_begun(site, 2)
    started = time.monotonic()
    server.terminate()
    assert server.wait(30) is not None and time.monotonic() - started < 25
    site.serve()
    facts = site.settled(60)
    check_nothing_lost(facts, 8)
    assert facts["attempts"] == 8
