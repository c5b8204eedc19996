"""Reads of the API: what the pages show, in rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import OuterRef, Q, QuerySet, Subquery

from diagnosis.case_selectors import differential_due, gallery_now
from diagnosis.errors import NotReady
from diagnosis.models import (
    Case,
    Consent,
    Diagnosis,
    Extractor,
    GalleryVersion,
    Gene,
    Job,
    Patient,
    Photo,
    RankingRecord,
    Tier,
    User,
    Verdict,
)
from diagnosis.selectors import for_gallery


@dataclass(frozen=True)
class GalleryFacts:
    """A gallery photo's patient (primary key) with the standing diagnosis; gene "" where unknown."""

    patient: int
    syndrome: str
    name: str
    gene: str


def gallery_facts(photos: Iterable[int]) -> dict[int, GalleryFacts]:
    """Photo primary key → facts, for those photos that may stand in the gallery at this moment."""
    pairs = dict(for_gallery().filter(pk__in=list(photos)).values_list("pk", "patient_id"))
    standing = Diagnosis.objects.filter(patient__in=set(pairs.values()), retracted_at__isnull=True)
    columns = ("patient_id", "syndrome__identifier", "syndrome__name", "gene__symbol")
    by_patient = {
        patient: GalleryFacts(patient, identifier, name, gene or "")
        for patient, identifier, name, gene in standing.values_list(*columns)
    }
    return {photo: by_patient[patient] for photo, patient in pairs.items() if patient in by_patient}


def lookalikes_now(record: RankingRecord) -> dict[int, Photo]:
    """The gallery photos behind a ranking's rows that may be named at this moment."""
    keys = {int(key) for rows in record.result.values() for row in rows for key in row["photos"]}
    return gallery_now(sorted(keys))


def with_tiers(patients: QuerySet[Patient]) -> QuerySet[Patient]:
    """The same patients with `tier_<name>` (bool or None) from the consent row that holds at this moment."""
    newest = Consent.objects.filter(patient=OuterRef("pk")).order_by("-id")
    return patients.annotate(
        **{f"tier_{tier.value}": Subquery(newest.values(tier.value)[:1]) for tier in Tier}
    )


def gallery_newest(extractor: Extractor | None) -> GalleryVersion | None:
    """The newest named content of the gallery under `extractor`."""
    return (
        GalleryVersion.objects.filter(extractor=extractor).order_by("-number").first() if extractor else None
    )


def rankings_shown(case: Case, user: User) -> QuerySet[RankingRecord]:
    """All lists of a case, newest first; their rows are read only where they are used.

    NotReady while the user's own differential is to be recorded.
    """
    if differential_due(case, user):
        raise NotReady("Record your own differential first; the list is shown after it.")
    records = RankingRecord.objects.filter(case=case).select_related("extractor", "gallery")
    return records.defer("result", "extractor__facts").order_by("-id")


def verdicts_shown(case: Case, user: User) -> QuerySet[Verdict]:
    """Every word on this case's lists, newest first; hidden together with the list."""
    if differential_due(case, user):
        raise NotReady("Record your own differential first; the list is shown after it.")
    return Verdict.objects.filter(case=case).select_related("syndrome", "user").order_by("-id")


def jobs_of(case: Case) -> QuerySet[Job]:
    """Work on the case and on its photos, newest first."""
    photos = list(Photo.objects.filter(case=case).values_list("pk", flat=True))
    ranking = Q(kind="rank_case", subject=case.pk)
    return Job.objects.filter(ranking | Q(kind="analyse_photo", subject__in=photos)).order_by("-id")


def genes(search: str = "") -> QuerySet[Gene]:
    """The catalogue's genes by symbol."""
    found = Gene.objects.prefetch_related("syndromes").order_by("symbol")
    return found.filter(symbol__icontains=search.strip()) if search.strip() else found
