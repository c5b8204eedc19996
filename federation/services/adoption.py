"""A published model becomes this hospital's extractor. Rankings made before keep naming theirs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import transaction

from diagnosis import engine, jobs
from diagnosis.errors import NotReady
from diagnosis.jobs import Lease
from diagnosis.models import Extractor, ExtractorMember
from diagnosis.services.model import MemberFile, extractor_adopt, extractor_install
from federation.models import AdoptedModel, GlobalModel, Round
from federation.plans import RoundPlan, parse_plan
from federation.services.candidate_rows import candidate_spec, views_of
from federation.services.centroids import centroids_of, centroids_publish, open_order
from federation.storage import blob_path

__all__ = ["centroids_of", "centroids_publish", "model_adopt", "model_install"]


def model_adopt(model: GlobalModel, *, lease: Lease | None = None) -> Extractor:
    """Install and adopt the model's networks; the clinic embeds its photos again in the background.

    Once per model, wherever it was cut off: an admin who has rolled back since is not overruled. With a
    lease the job ends in the transaction that adopts. The model has no calibration until one is measured.
    NotHere while a file is missing, NotReady without the base that it descends from.
    """
    known = AdoptedModel.objects.filter(model=model).select_related("extractor").first()
    extractor = known.extractor if known else _installed(model)
    if known is None:
        engine.ensemble(extractor)  # loads and checks the networks before the transaction
    with _ending(lease):
        if not AdoptedModel.objects.filter(model=model).exists():
            extractor_adopt(user=None, extractor=extractor)
            AdoptedModel.objects.create(model=model, extractor=extractor)
    return extractor


def model_install(model: GlobalModel, *, lease: Lease) -> Extractor:
    """Install the model's networks and leave the one in use as it is: an admin decides on the model page."""
    extractor = _installed(model)
    with jobs.finish(lease):
        return extractor


def _ending(lease: Lease | None) -> AbstractContextManager[Any]:
    return jobs.finish(lease) if lease is not None else transaction.atomic()


def _installed(model: GlobalModel) -> Extractor:
    """The extractor with exactly these networks and views, installed if it is not here yet."""
    plan = parse_plan(model.round.plan)
    found = Extractor.objects.filter(sha256=candidate_spec(plan, model.members).sha256).first()
    return found or _install(model, plan)


def _install(model: GlobalModel, plan: RoundPlan) -> Extractor:
    flip, grey = views_of(plan)
    base = base_extractor(plan)
    hospitals = len(_survivors(model))
    members = [
        MemberFile(
            made["name"], blob_path(made["weights"]), plan.member(made["name"]).architecture, made["weights"]
        )
        for made in model.members
    ]
    return extractor_install(
        user=None, name=f"Federation model {model.number}", members=members, flip=flip, grey=grey,
        origin=f"federated round {plan.number}, {hospitals} hospitals", licence=base.licence,
        synthetic=base.synthetic, facts={"federation": _facts(model, plan)},
    )  # fmt: skip


def base_extractor(plan: RoundPlan) -> Extractor:
    """The extractor here that the plan's model descends from: licence and synthetic flag are inherited.

    The nearest one back: a hospital that joined later has the first round's base, not the models between.
    """
    while (found := _holding({member.base_sha256 for member in plan.members})) is None:
        before = Round.objects.filter(sha256=plan.previous_round, number__lt=plan.number).first()
        if before is None:
            raise NotReady(
                "The model that the federation started from is not installed here, so its licence is not "
                "known. Install its weights first."
            )
        plan = parse_plan(before.plan)
    return found


def _holding(wanted: set[str]) -> Extractor | None:
    """An extractor with all of these networks."""
    for row in ExtractorMember.objects.filter(sha256__in=wanted).select_related("extractor"):
        if wanted <= set(row.extractor.members.values_list("sha256", flat=True)):
            return row.extractor
    return None


def _survivors(model: GlobalModel) -> Sequence[str]:
    """Hospitals whose update is in every member."""
    names: set[str] | None = None
    for total in model.round.sums.filter(purpose="update", state="opened"):
        names = set(total.survivors) if names is None else names & set(total.survivors)
    return sorted(names or ())


def _facts(model: GlobalModel, plan: RoundPlan) -> dict[str, Any]:
    """What the model page shows: where it came from and who stood behind it."""
    ballots = model.round.participations.exclude(ballot="").values_list("ballot", flat=True)
    return {
        "round": plan.number,
        "plan_sha256": model.round.sha256,
        "model": model.number,
        "strategy": plan.strategy,
        "survivors": _survivors(model),
        "votes": {ballot: list(ballots).count(ballot) for ballot in ("accept", "reject", "abstain")},
        "open_classes": len(open_order(model.members)),
    }
