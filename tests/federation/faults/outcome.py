"""How a run must have ended, whatever happened on the way."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from world import COORDINATOR

#: Presence sums are random words; everything after them follows from the inputs alone.
REPEATABLE = ("counts", "update", "centroids")


def results_of(report: dict[str, Any]) -> dict[str, str]:
    """purpose → hash of the opened sum, for sums that undisturbed runs repeat."""
    named = {name.split(".")[0]: found for name, found in report["sums"].items() if found[0] == "opened"}
    return {purpose: named[purpose][1] for purpose in REPEATABLE if purpose in named}


def published_like(world: Any, expected: dict[str, Any], *, missing: tuple[str, ...] = ()) -> None:
    """Every site that is there ended published, with the undisturbed sums, everything applied once."""
    reports = {name: world.report(name) for name in (COORDINATOR, *world.names) if name not in missing}
    for name, found in reports.items():
        assert (found["state"], found["alarm"]) == ("published", ""), (name, found)
        assert results_of(found) == results_of(expected), name
        assert (found["seq"], found["sha256"]) == (
            reports[COORDINATOR]["seq"],
            reports[COORDINATOR]["sha256"],
        )
    for name in reports:
        once(world, name)


def aborted(world: Any, *, missing: tuple[str, ...] = ()) -> str:
    """Every site that is there ended aborted, for the same reason, which is returned."""
    reports = {name: world.report(name) for name in (COORDINATOR, *world.names) if name not in missing}
    reasons = {(found["state"], found["reason"]) for found in reports.values()}
    assert len(reasons) == 1 and {state for state, _ in reasons} == {"aborted"}, reports
    for name in reports:
        once(world, name)
    (reason,) = (reason for _, reason in reasons)
    assert reason
    return str(reason)


def once(world: Any, name: str) -> None:
    """Nothing was applied twice, and nothing that must not stay has stayed."""
    from federation.models import (
        AdoptedModel,
        Approval,
        Contribution,
        GlobalModel,
        Opening,
        OwnSum,
        SumMessage,
        TranscriptLink,
    )

    with world.at(name):
        links = list(TranscriptLink.objects.order_by("seq").values_list("seq", "author", "key"))
        assert [seq for seq, _, _ in links] == list(range(1, len(links) + 1))
        assert max(Counter(link[1:] for link in links).values()) == 1
        said = Counter(SumMessage.objects.values_list("sum", "kind", "site", "receiver"))
        assert max(said.values(), default=1) == 1
        models = GlobalModel.objects.count()
        assert models <= 1
        if name == COORDINATOR:
            return
        assert Approval.objects.count() == 1 and AdoptedModel.objects.count() <= models
        answered = set(OwnSum.objects.filter(state="answered").values_list("sum__name", flat=True))
        masked = set(OwnSum.objects.exclude(masked="").values_list("sum__name", flat=True))
        assert sorted(Opening.objects.values_list("sum", flat=True)) == sorted(answered)
        assert sorted(Contribution.objects.values_list("sum", flat=True)) == sorted(masked)
        assert not secrets_left(world.folder / name), "secrets of sums that are over"


def secrets_left(home: Path) -> list[str]:
    """Files of the key folder that belong to single sums: none, once no sum runs."""
    folder = home / "keys" / "sums"
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.exists() else []


def openings_kept(home: Path) -> dict[str, list[list[str]]]:
    """File → survivor sets, as the key folder remembers them."""
    folder = home / "keys" / "sums" / "opened"
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
