"""The same flow in both arrangements, and progress to a page that does nothing but wait."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from websockets.sync.client import connect


def listen(site: Any) -> Any:
    """A socket as a browser's case page opens it."""
    who = json.loads(site.run("session"))
    return connect(
        f"ws://127.0.0.1:{site.port}/ws/cases/{who['case']}/", origin=f"http://127.0.0.1:{site.port}",
        additional_headers={"Cookie": f"{who['cookie']}={who['key']}"}, open_timeout=20,
    )  # fmt: skip


def hear_until_ranked(line: Any, seconds: float = 90) -> tuple[list[str], float]:
    """Steps in the order they were heard, and when (Unix time) the last one arrived."""
    steps: list[str] = []
    end = time.monotonic() + seconds
    while "ranked" not in steps and time.monotonic() < end:
        steps.append(json.loads(line.recv(timeout=max(0.1, end - time.monotonic())))["step"])
    return steps, time.time()


STEPS = ["reading", "finding the face", "comparing features", "storing", "ready", "ranked"]


@pytest.mark.timeout(240)
def test_an_idle_page_of_the_embedded_server_hears_every_step_at_once(site, check_nothing_lost) -> None:
    site.serve()
    site.wait_until_served()
    with listen(site) as line:
        time.sleep(3)  # the loop sleeps, and so does whoever looks at the page
        feeding = site.feed(1)
        steps, heard = hear_until_ranked(line)
    assert feeding.wait(30) == 0 and steps == STEPS
    delay = heard - site.settled(30)["last_ranked_at"]
    print(f"the page heard of the list {delay * 1000:.0f} ms after it was written")
    assert delay < 0.5


@pytest.mark.backend
@pytest.mark.timeout(300)
def test_postgresql_redis_and_separate_workers(production_site, check_nothing_lost) -> None:
    """Two workers, one killed in the middle; the server only serves, and its socket hears the workers."""
    site, photos = production_site, 24
    site.serve()
    site.wait_until_served()
    first, _ = site.worker(), site.worker()
    with listen(site) as line:
        feeding = site.feed(photos)
        steps, _ = hear_until_ranked(line)
        assert set(STEPS) <= set(steps)
    site.kill(first)
    assert feeding.wait(90) == 0, site.log("feed")[-2000:]
    facts = site.settled(120)
    print(f"{facts['attempts']} attempts for {photos} photos, {facts['rankings']} rankings")
    check_nothing_lost(facts, photos)
