"""A round at three hospitals: proposed, approved with codes, counted, trained, summed, voted on, adopted, and
the cases ranked again. What it came to is read at each site by itself and compared here."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from gestaltweb.demo import story_federation as federation
from gestaltweb.demo import supervise
from gestaltweb.demo.browser import StoryFailed, Visitor
from gestaltweb.demo.homes import DemoSite, DemoSites
from gestaltweb.demo.outcome import Outcome, sign_in

ADOPT_SECONDS = 240
RERANK_SECONDS = 240
REPORT = ("demo_federation", "report")
Reports = dict[DemoSite, dict[str, Any]]


def play(sites: DemoSites, outcome: Outcome) -> None:
    """Everything from the first invitation to lists made by the common model."""
    first, proposer = sites.hospitals[0], sites.hospitals[-1]
    geneticist = sign_in(first, "geneticist")
    case, before = _ranked_case(geneticist)
    with federation.admins_of(sites.members) as admins:
        federation.federate(sites, admins, outcome)
        federation.propose(proposer, admins[proposer], sites.hospitals)
        number = federation.round_number(admins[proposer])
        federation.together(lambda site: federation.approve(site, admins[site], number), sites.hospitals)
        outcome.steps["round: three admins approved with their codes"] = True
        _ended(admins[sites.coordinator], number, outcome)
    reports = _adopted(sites)
    _compare(sites, reports, outcome)
    again = _ranked_again(geneticist, case, before)
    outcome.facts["seconds_until_ranked_again"] = round(again, 1)
    outcome.steps["round: hospital A's cases are ranked by the common model"] = True
    geneticist.close()


def _ended(coordinator: Visitor, number: int, outcome: Outcome) -> None:
    def over() -> bool:
        return federation.round_state(coordinator, number) in federation.OVER

    federation.awaited(over, federation.ROUND_SECONDS, "the round had not ended")
    state = federation.round_state(coordinator, number)
    outcome.steps["round: published"] = state == "published"
    if state != "published":
        raise StoryFailed(f"The round ended {state}; its page at the coordinator says why.")


def _adopted(sites: DemoSites) -> Reports:
    """Every site's report, once all hospitals work with the published model."""
    reports: Reports = {}

    def done() -> bool:
        reports.update(supervise.ask_all(dict.fromkeys(sites.members, REPORT)))
        own = [reports[site] for site in sites.hospitals]
        return all(report["adopted"] == report["model_sha256"] for report in own)

    try:
        federation.awaited(done, ADOPT_SECONDS, "not every hospital had adopted the model")
    except StoryFailed:
        if not reports:
            raise
    return reports


def _compare(sites: DemoSites, reports: Reports, outcome: Outcome) -> None:
    """States, sums, hashes and adoption as each site has them on its own."""
    own = [reports[site] for site in sites.hospitals]
    first, models = own[0], {report["model_sha256"] for report in reports.values()}
    states = {report["round"]["state"] for report in reports.values()}
    participants = [report["round"]["participants"] for report in reports.values()]
    outcome.steps["round: all sites tell the same state"] = states == {"published"}
    outcome.steps["round: all three took part to the end"] = participants == [
        sorted(site.slug for site in sites.hospitals)
    ] * len(reports) and not any(report["round"]["dropped"] for report in reports.values())
    outcome.steps["sums: every hospital added them up itself and agrees"] = all(
        total["checked"] == "agrees" for report in own for total in report["sums"].values()
    ) and bool(first["sums"])
    outcome.steps["sums: the same hashes everywhere"] = _equal(
        [{name: total["sha256"] for name, total in r["sums"].items()} for r in reports.values()]
    )
    outcome.steps["model: the same hash everywhere"] = len(models) == 1 and "" not in models
    outcome.steps["model: adopted at every hospital"] = all(r["adopted"] == r["model_sha256"] for r in own)
    outcome.facts["round"] = first["round"] | {"model_sha256": first["model_sha256"]}
    outcome.facts["accuracy"] = {report["site"]: report["accuracy"] for report in own}


def _equal(values: list[Any]) -> bool:
    return all(value == values[0] for value in values)


# --- lists before and after ---


def _ranked_case(geneticist: Visitor) -> tuple[str, str]:
    """A case without a diagnosis that has a list, and the sha256 of the model that made it."""
    pages = ("/cases/?state=ranked", "/cases/?state=unsolved", "/cases/")
    numbers = [n for page in pages for n in re.findall(r"/cases/(\d+)/", geneticist.open(page).text)]
    for number in dict.fromkeys(numbers):
        if geneticist.status(f"/cases/{number}/ranking.csv") == 200:
            return number, _model_of(geneticist, number)
    raise StoryFailed("Hospital A has no case with a list.")


def _model_of(geneticist: Visitor, case: str) -> str:
    rows = list(csv.DictReader(io.StringIO(geneticist.read(f"/cases/{case}/ranking.csv"))))
    return rows[0]["model_sha256"] if rows else ""


def _ranked_again(geneticist: Visitor, case: str, before: str) -> float:
    def changed() -> bool:
        return _model_of(geneticist, case) not in ("", before)

    return federation.awaited(changed, RERANK_SECONDS, "the case had no list by the new model")
