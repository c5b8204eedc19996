"""This site's part in a round beside its secure sums: standing answers, candidate and vote, adoption."""

from __future__ import annotations

import logging

from django.db import transaction

from diagnosis import jobs
from diagnosis.errors import ClinicError
from diagnosis.jobs import Lease
from federation import kinds
from federation.models import (
    AdoptedModel,
    GlobalModel,
    OwnSum,
    Participation,
    PublishedCentroids,
    Round,
    SecureSum,
    TranscriptLink,
)
from federation.plans import parse_plan
from federation.secagg.rules import colluders
from federation.services.consent_follow import consent_follow
from federation.services.own import membership_now
from federation.services.projection_rounds import GONE
from federation.services.speaking import entry_say
from federation.services.validity import is_confirmed
from federation.transcript import decode_entry

log = logging.getLogger(__name__)


def rounds_step() -> None:
    """Whatever this site's rounds ask for now; each part is done once, wherever it was cut off."""
    consent_follow()
    _standing_answers()
    _candidates()
    _adoptions_said()


def own_participation(round_: Round) -> Participation | None:
    """This site's row in a round, or None if it was not invited."""
    return round_.participations.filter(peer__name=membership_now().name).first()


def _standing_answers() -> None:
    from federation.services.standing import rules_apply

    for round_ in Round.objects.filter(state="approving", approval=None):
        own = own_participation(round_)
        if own is None or own.state != "invited":
            continue
        try:
            rules_apply(round_)
        except ClinicError as error:  # a person has to answer
            log.warning("no standing answer to round %s: %s", round_.number, error)


# --- candidate and vote ---


def _candidates() -> None:
    """When all updates are open and checked here: compute the candidate and validate it."""
    for round_ in Round.objects.filter(state="validating", validation=None):
        own = own_participation(round_)
        if own is None or own.state in GONE or own.ballot:
            continue
        unchecked = SecureSum.objects.filter(
            round=round_, purpose="update", state="opened", own__checked__in=("", "differs")
        )
        if not unchecked.exists():
            key = f"federation_candidate:{round_.pk}"
            jobs.enqueue_many(kind="federation_candidate", keys={key: round_.pk})


def round_validate(*, lease: Lease, round: Round) -> None:  # noqa: A002  the field's word
    """Do the job `federation_candidate`: compute, validate on own patients, vote. Figures stay here."""
    from federation.services import candidates

    members = candidates.candidate_make(round)
    validation = candidates.candidate_validate(round, members)
    blobs = [name for made in members for name in (made.weights, made.classifier, made.state) if name]
    body = kinds.Vote(round.sha256, validation.ballot, members)  # type: ignore[arg-type]
    with jobs.finish(lease):
        entry_say(body, key=f"vote/{round.sha256}", blobs=blobs if validation.ballot == "accept" else [])


# --- adoption ---


def adoption_due() -> GlobalModel | None:
    """The newest published model, if this site took part in its round and has not adopted it yet."""
    newest = GlobalModel.objects.order_by("-number").select_related("round").first()
    if newest is None or AdoptedModel.objects.filter(model=newest).exists():
        return None
    own = own_participation(newest.round)
    took_part = own is not None and own.state == "confirmed" and own.ballot != "reject"
    return newest if took_part else None


def model_files(model: GlobalModel) -> list[str]:
    """Hashes of the files that make up a published model."""
    return [made[part] for made in model.members for part in ("weights", "classifier", "state") if made[part]]


def adoption_request(model: GlobalModel) -> None:
    """Queue the adoption; its files are here."""
    jobs.enqueue(kind="federation_adopt", subject=model.pk, key=f"federation_adopt:{model.pk}")


def _adoptions_said() -> None:
    for adoption in AdoptedModel.objects.select_related("model__round"):
        round_ = adoption.model.round
        with transaction.atomic():
            entry_say(kinds.Adopted(round_.sha256), key=f"adopted/{round_.sha256}")


# --- centroids ---


def centroids_due() -> GlobalModel | None:
    """The newest model, while its published centroids are not kept here."""
    newest = GlobalModel.objects.order_by("-number").first()
    if newest is None or not newest.centroids or PublishedCentroids.objects.filter(model=newest).exists():
        return None
    return newest if trusted(SecureSum.objects.get(name=newest.centroids)) else None


def trusted(total: SecureSum) -> bool:
    """Whether the opened sum is what it says: this site added it up, or enough confirmed sites say they did.

    Enough: more than could collude with the coordinator (c + 1).
    """
    own = OwnSum.objects.filter(sum=total).first()
    if own is not None and own.checked == "agrees":
        return True
    keys = parse_plan(total.round.plan).keys
    said = TranscriptLink.objects.filter(kind="Checked", key=f"checked/{total.name}")
    agreeing = [
        link.author for link in said if decode_entry(link.text.encode()).body["sha256"] == total.result
    ]
    confirmed = [site for site in agreeing if site in keys and is_confirmed(site, keys[site])]
    return len(confirmed) > colluders(len(total.sites))


def centroids_keep(model: GlobalModel) -> PublishedCentroids:
    """Keep the centroids of a model whose sum is here."""
    from federation.services import adoption

    sha256 = adoption.centroids_publish(SecureSum.objects.get(name=model.centroids))
    return PublishedCentroids.objects.get_or_create(model=model, defaults={"sha256": sha256})[0]
