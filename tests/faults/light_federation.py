"""A hospital whose share of a round takes no time: the stand-ins of tests/federation/engine/light.py.

Everything between hospitals stays the real thing, and so do leases, key folder, loop and server. A clock can be
set wrong, and the loop waits less long after the coordinator was away.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path

from tests.faults.light_networks import LightNetworks

sys.path.append(str(Path(__file__).resolve().parents[1] / "federation" / "engine"))


class LightFederation(LightNetworks):
    label = "light_federation"

    def ready(self) -> None:
        super().ready()
        import light

        from federation import agent
        from federation.services import adoption, candidates, contributions

        for module in (adoption, candidates, contributions):
            for name, stand_in in vars(getattr(light, module.__name__.rpartition(".")[2])).items():
                setattr(module, name, stand_in)
        adoption.model_adopt = lambda model, *, lease: light.adopt(lease)
        for number, site in enumerate("abcd"):
            light.PATIENTS[site] = {
                "SYN:0001": 6 + number, "SYN:0002": 9, "SYN:0003": number, "SYN:0004": 2,
            }  # fmt: skip
        agent.REST_SECONDS = 0.5
        _clock_set_wrong(float(os.environ.get("TEST_CLOCK_WRONG_BY", "0")))


def _clock_set_wrong(seconds: float) -> None:
    from django.utils import timezone

    timezone.now = lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
