"""A migrated database to copy, and a federation of three that has met."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    """A database file with all tables and nothing in them."""
    from django.core.management import call_command
    from django.db import connections

    path = tmp_path_factory.mktemp("template") / "database.sqlite3"
    with django_db_blocker.unblock():
        outer, made = connections["default"], connections.create_connection("default")
        options = dict(made.settings_dict["OPTIONS"])
        options["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;PRAGMA foreign_keys=ON;"
        made.settings_dict = made.settings_dict | {"NAME": str(path), "OPTIONS": options}
        connections["default"] = made
        try:
            call_command("migrate", verbosity=0)
        finally:
            made.close()
            connections["default"] = outer
    return path


@pytest.fixture
def light_clinic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hospitals without pictures: see light.py."""
    import light

    import federation.services
    from diagnosis import jobs

    for name in ("contributions", "candidates", "adoption"):
        module = getattr(light, name)
        monkeypatch.setitem(sys.modules, f"federation.services.{name}", module)
        monkeypatch.setattr(federation.services, name, module, raising=False)
    for kind in light.WORK:
        monkeypatch.setitem(jobs.TASKS, kind, (f"federation.{kind}", "train"))
    monkeypatch.setattr(jobs, "wake", lambda kind, job: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # no power cut is played here
    monkeypatch.setattr("federation.services.proposals.plan_refusal", lambda plan: "", raising=False)
    monkeypatch.setattr("federation.services.standing.rules_apply", lambda round_: False)
    light.PATIENTS.clear()
    light.BALLOTS.clear()
    return light


@pytest.fixture
def make_world(
    tmp_path: Path, template: Path, light_clinic: Any, django_db_blocker: Any
) -> Iterator[Callable[..., Any]]:
    """make_world("a", "b", "c") → a World whose sites have joined and confirmed each other.

    That is played once for each set of names; later worlds are copies of its folder.
    """
    from world import World

    made = []

    def make(*names: str) -> Any:
        folder, first = tmp_path / f"world{len(made)}", template.parent / "-".join(names)
        if not first.exists():
            founded = World(first, template, list(names))
            founded.found()
            founded.close()
        shutil.copytree(first, folder)
        world = World(folder, None, list(names))
        made.append(world)
        for number, name in enumerate(names):
            light_clinic.PATIENTS[name] = {
                "SYN:0001": 6 + number,
                "SYN:0002": 9,
                "SYN:0003": number,
                "SYN:0004": 2,
            }
        return world

    with django_db_blocker.unblock():
        yield make
        for world in made:
            world.close()


@pytest.fixture
def make_plan(light_clinic: Any) -> Callable[..., Any]:
    """make_plan(world, **fields) → a RoundPlan of all sites, proposed by the first."""
    from world import COORDINATOR

    def make(world: Any, **fields: Any) -> Any:
        from federation import plans
        from federation.learning.config import AnalyticOptions, LocalTraining, ServerStep
        from federation.models import Membership, Peer, Round

        with world.at(COORDINATOR):
            keys = dict(Peer.objects.filter(state="joined").values_list("name", "public_key"))
            federation, number = Membership.objects.get().federation, Round.objects.count() + 1
        from world import VOCABULARY

        neck = tuple(plans.TrainedTensor(name, size) for name, size in light_clinic.NECK)
        member = plans.MemberAsked("tiny", "tiny", "ab" * 32, neck, LocalTraining(epochs=1))
        seconds = fields.pop("seconds", 3600)
        invited = tuple(plans.Invited(site, keys[site]) for site in sorted(fields.pop("sites", keys)))
        facts: dict[str, Any] = {
            "version": 1, "federation": federation, "number": number, "proposer": invited[0].site,
            "strategy": "fedavg", "seed": 7, "k": 5, "row_weighting": "class", "views": plans.default_views(),
            "members": (member,), "server": ServerStep(), "analytic": AnalyticOptions(), "invited": invited,
            "minimum_participants": 3, "vocabulary_sha256": plans.vocabulary_of(VOCABULARY),
            "vocabulary_size": len(VOCABULARY), "previous_round": "",
            "schedule": plans.Schedule(int(time.time() * 1000) + 1000 * seconds, seconds, seconds, seconds),
            "vote": plans.VoteTerms(0.02, 5, 2), "data_use": plans.DATA_USE,
        }  # fmt: skip
        return plans.RoundPlan(**(facts | fields))

    return make


@pytest.fixture
def approve() -> Callable[..., Any]:
    """approve(world, site, plan, answer="approve"): that site's admin answers."""

    def answer(world: Any, site: str, plan: Any, answer: str = "approve") -> None:
        from federation import kinds
        from federation.models import Approval, Round
        from federation.services.speaking import entry_say

        with world.at(site):
            key = f"answer/{plan.sha256}"
            samples = 50 if answer == "approve" else 0
            entry_say(kinds.Answer(plan.sha256, answer, samples, ""), key=key)
            Approval.objects.create(
                round=Round.objects.get(sha256=plan.sha256), answer=answer, plan_sha256=plan.sha256,
                samples=samples, entry_key=key,
            )  # fmt: skip

    return answer


@pytest.fixture
def propose() -> Callable[..., Any]:
    """propose(world, plan): its proposer says it, and everybody reads it."""

    def say(world: Any, plan: Any) -> None:
        from federation import kinds
        from federation.plans import encode_plan
        from federation.services.speaking import entry_say

        with world.at(plan.proposer):
            entry_say(kinds.Propose(encode_plan(plan)), key=f"propose/{plan.sha256}")
        world.settle()

    return say
