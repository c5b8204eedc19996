"""kill -9 of a coordinator and three hospitals during a round: it ends as if nothing had happened.

The federation is set up in this process and one copy of it runs undisturbed here; the other copy runs as four
servers that talk over HTTP, of which one hospital's clock is nine minutes fast.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from tests.faults.rounds import ENTRIES, NAMES, Server, check, ended, wait_for


def play(servers: dict[str, Server], kills: int, seed: int) -> Counter[str]:
    """Start everybody, kill somebody at `kills` moments of the round, start them again, wait for the end."""
    random = np.random.default_rng(seed)
    for server in servers.values():
        server.start()
    begun = servers["coordinator"].seq()
    for number in range(kills):
        entries = begun + 1 + number * (ENTRIES - begun) // kills
        wait_for(lambda least=entries: servers["coordinator"].seq() >= least, servers, 120)
        time.sleep(float(random.uniform(0, 0.3)))
        victim = servers[NAMES[random.integers(len(NAMES))]]
        victim.kill()
        victim.start()
    wait_for(lambda: ended(servers), servers, 120)
    time.sleep(1.5)  # a last pass, in which secrets that are not needed any more are removed
    for server in servers.values():
        server.close()
    return Counter({name: server.kills for name, server in servers.items()})


@pytest.mark.timeout(400)
def test_a_dozen_kills_over_four_processes(federation, template) -> None:
    servers, expected = federation
    begun = time.monotonic()
    kills = play(servers, 12, seed=20261128)
    print(f"killed {kills.total()} times: {dict(kills)}; the round took {time.monotonic() - begun:.0f} s")
    check(servers, expected, template)
    assert kills.total() == 12 and len(+kills) == 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_more_kills(federation, template, seed) -> None:
    servers, expected = federation
    kills = play(servers, 24, seed=seed)
    print(f"killed {kills.total()} times: {dict(kills)}")
    check(servers, expected, template)
