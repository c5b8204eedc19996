"""A fourth hospital joins, all confirm each other's keys, and its admin takes over the federation's model."""

from __future__ import annotations

import re
import time

from gestaltweb.demo import story_federation as federation
from gestaltweb.demo import supervise
from gestaltweb.demo.browser import Visitor
from gestaltweb.demo.homes import DemoSites
from gestaltweb.demo.outcome import Outcome
from gestaltweb.demo.story_round import ADOPT_SECONDS, REPORT


def play(sites: DemoSites, outcome: Outcome) -> None:
    """From the invitation to the model in use."""
    newcomer, everybody = sites.newcomer, (*sites.hospitals, sites.newcomer)
    began = time.monotonic()
    with federation.admins_of((*sites.members, newcomer)) as admins:
        federation.join(newcomer, admins[newcomer], admins[sites.coordinator])
        federation.together(lambda site: federation.members_await(admins[site], everybody), everybody)
        outcome.steps["newcomer: admitted"] = True
        federation.confirm_all(everybody, admins)
        outcome.steps["newcomer: confirmed by all, and all by it"] = True
        _take_over(admins[newcomer], supervise.ask(sites.hospitals[0], *REPORT)["model_number"])
    report = supervise.ask(newcomer, *REPORT)
    outcome.steps["newcomer: reads the same round, and works with its model"] = (
        report["model_sha256"] == report["adopted"] == outcome.facts["round"]["model_sha256"]
    )
    outcome.facts["newcomer"] = {
        "site": newcomer.slug, "model_sha256": report["adopted"],
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _take_over(admin: Visitor, number: int) -> None:
    """Its site has the model ready once enough hospitals stand behind it; the admin says "Use this one"."""

    def ready() -> bool:
        return f"Federation model {number} " in re.sub(r"\s+", " ", admin.open("/model/").text)

    federation.awaited(ready, ADOPT_SECONDS, "the newcomer was not offered the model")
    offered = re.findall(r"/model/(\d+)/adopt/", admin.text)
    if offered:  # none when it is in use already, from an earlier story
        admin.submit(f"/model/{max(offered, key=int)}/adopt/")
