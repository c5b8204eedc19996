"""A hospital "a" in a federation with b, c and d, whose keys it has confirmed, and e, whose key it has not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "clinic" / "consent"))  # the reader of PDFs


@pytest.fixture
def admin(make_user: Callable[..., Any]) -> Any:
    """A site admin with a second factor."""
    return make_user(roles={"site_admin"}, second_factor=True)


@pytest.fixture
def hospital(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hospital's site with a model and a catalogue, in no federation. Dry runs answer 123 photos, 130 said."""
    from console_story import VOCABULARY, WEIGHTS

    from diagnosis.models import Extractor, ExtractorMember, Syndrome
    from federation.services import dry_run

    settings.SITE_ROLE = "hospital"
    Syndrome.objects.all().delete()
    Syndrome.objects.bulk_create(Syndrome(identifier=name, name=name) for name in VOCABULARY)
    extractor = Extractor.objects.create(
        name="test", sha256="cd" * 32, state="adopted", synthetic=True, origin="test", licence="none"
    )
    ExtractorMember.objects.create(
        extractor=extractor, position=0, name="compact", architecture="compact", sha256=WEIGHTS
    )
    monkeypatch.setattr(dry_run, "dry_run", lambda plan: SimpleNamespace(photos=123))
    monkeypatch.setattr(dry_run, "samples_now", lambda k: 130)
    return extractor


@pytest.fixture
def member(hospital: Any) -> Any:
    """The story of this hospital as member "a", alone so far."""
    from console_story import FEDERATION, OWN, Story

    from federation import identity, kinds
    from federation.models import Membership

    public = identity.identity_create()
    Membership.objects.create(
        pk=1, role="hospital", federation=FEDERATION, name=OWN, title="Hospital A",
        coordinator_address="https://coordinator.example", coordinator_key=public,
    )  # fmt: skip
    story = Story()
    story.say(OWN, kinds.Join("Hospital A", public, "0" * 64))
    return story


@pytest.fixture
def story(member: Any) -> Any:
    """Others have joined: b, c and d are confirmed here, e is not."""
    for name in "bcde":
        member.join(name)
    member.confirm("b", "c", "d")
    return member


@pytest.fixture
def make_plan(story: Any) -> Callable[..., Any]:
    """make_plan(proposer="b", sites="abc", **fields) → a plan that this site could take part in."""
    from dataclasses import replace

    from federation.models import Peer
    from federation.plans import Invited
    from federation.services.proposals import plan_suggest

    def make(*, proposer: str = "b", sites: str = "abc", **fields: Any) -> Any:
        invited = tuple(Invited(name, Peer.objects.get(name=name).public_key) for name in sites)
        plan = plan_suggest(user=None, sites=["a", "b", "c"], seed=7)
        return replace(plan, proposer=proposer, invited=invited, **fields)

    return make


@pytest.fixture
def round_(story: Any, make_plan: Callable[..., Any]) -> Any:
    """A round of b with a, b, c and d that is open for answers."""
    return story.open_round(make_plan(sites="abcd"))
