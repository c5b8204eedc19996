"""A fourth hospital joins, the others confirm it, and it takes over the federation's model."""

from __future__ import annotations

from gestaltweb.demo import story_federation as federation
from gestaltweb.demo import supervise
from gestaltweb.demo.homes import DemoSites
from gestaltweb.demo.outcome import Outcome
from gestaltweb.demo.story_round import ADOPT_SECONDS, REPORT


def play(sites: DemoSites, outcome: Outcome) -> None:
    """From the invitation to the model in use."""
    newcomer, everybody = sites.newcomer, (*sites.hospitals, sites.newcomer)
    with federation.admins_of((*sites.members, newcomer)) as admins:
        federation.join(newcomer, admins[newcomer], admins[sites.coordinator])
        federation.together(lambda site: federation.members_await(admins[site], everybody), everybody)
        outcome.steps["newcomer: admitted"] = True
        federation.confirm_all(everybody, admins)
        outcome.steps["newcomer: confirmed by all, and all by it"] = True
    report = {}

    def adopted() -> bool:
        report.update(supervise.ask(newcomer, *REPORT))
        return bool(report["adopted"]) and report["adopted"] == report["model_sha256"]

    seconds = federation.awaited(adopted, ADOPT_SECONDS, "the newcomer did not adopt the model")
    outcome.steps["newcomer: works with the federation's model"] = (
        report["adopted"] == outcome.facts["round"]["model_sha256"]
    )
    outcome.facts["newcomer"] = {
        "site": newcomer.slug, "model_sha256": report["adopted"], "seconds_until_adopted": round(seconds, 1)
    }  # fmt: skip
