"""Reads of the case pages: what the list shows, which ranking a clinician may see, who stands beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Case as Choice
from django.db.models import F, OuterRef, Prefetch, Q, QuerySet, Subquery, When

from diagnosis.models import (
    Case,
    Diagnosis,
    Differential,
    Job,
    Patient,
    Photo,
    RankingRecord,
    Syndrome,
    Tier,
    User,
    patients_allowing,
)
from diagnosis.permissions import visible_to
from diagnosis.selectors import case_list, for_analysis, for_gallery, ranking_latest

UNFINISHED = ("received", "analysing")

# --- the list of cases -------------------------------------------------------------------------------


def case_list_page(user: User, *, state: str = "", search: str = "") -> QuerySet[Case]:
    """`case_list` with `ranking_newest` (primary key or None) for each case."""
    newest = RankingRecord.objects.filter(case=OuterRef("pk"), source="local").order_by("-id")
    cases = case_list(user, state=state, search=search)
    cases = cases.prefetch_related(Prefetch("photos", queryset=for_analysis().order_by("id")))
    return cases.annotate(ranking_newest=Subquery(newest.values("pk")[:1]))


def top_rows(cases: list[Case], user: User) -> dict[int, dict[str, Any]]:
    """Per case: match and first row of its newest list, unless it is still hidden."""
    hidden = differentials_due(cases, user)
    keys = [getattr(case, "ranking_newest", None) for case in cases if case.pk not in hidden]
    records = RankingRecord.objects.filter(pk__in=[key for key in keys if key])
    # Only the first row leaves the database: a list has hundreds.
    first = records.annotate(first=F("result__syndromes__0")).values_list("case_id", "match", "first")
    return {case: {"match": match, "row": row} for case, match, row in first}


def patients_to_choose(user: User, search: str = "", first: int | None = None) -> QuerySet[Patient]:
    """Patients of the user's teams who agreed to analysis, for a new case: the one whose primary key is
    `first` leads, the others follow newest first."""
    agreed = patients_allowing(Tier.ANALYSIS).values("pk")
    patients = visible_to(user, Patient.objects.all()).filter(pk__in=agreed)
    if search:
        patients = patients.filter(code__icontains=search)
    ahead = Choice(When(pk=first or 0, then=0), default=1)
    return patients.select_related("team").order_by(ahead, "-id")


# --- one case ----------------------------------------------------------------------------------------


def differential_due(case: Case, user: User) -> bool:
    """Whether the list stays hidden from `user` until they have recorded their own differential."""
    return case.pk in differentials_due([case], user)


def differentials_due(cases: list[Case], user: User) -> set[int]:
    """Primary keys of those cases whose list is still hidden from `user`."""
    asked = {case.pk for case in cases if case.differential_first}
    written = Differential.objects.filter(case__in=asked, user=user).values_list("case_id", flat=True)
    return asked - set(written)


def ranking_shown(case: Case, user: User) -> RankingRecord | None:
    """The newest list that `user` may see: None before there is one, or while it is hidden."""
    return None if differential_due(case, user) else ranking_latest(case)


def ranking_shown_facts(case: Case, user: User) -> RankingRecord | None:
    """`ranking_shown` without its rows, for who only asks whether there is a newer one."""
    if differential_due(case, user):
        return None
    records = RankingRecord.objects.filter(case=case, source="local")
    return records.defer("result").order_by("-id").first()


def photos_of(case: Case) -> list[Photo]:
    """The case's photos that may be shown at this moment, oldest first; none after withdrawal."""
    return list(for_analysis().filter(case=case).select_related("landmarks_by").order_by("id"))


def photo_jobs(photos: list[Photo]) -> dict[int, Job]:
    """The analysing job of each photo that has one."""
    jobs = Job.objects.filter(kind="analyse_photo", subject__in=[photo.pk for photo in photos])
    return {job.subject: job for job in jobs.order_by("id")}


def ranking_job(case: Case) -> Job | None:
    """The case's ranking job that was asked for or worked on last, unless it ended well: a failure is told
    only while nothing came after it."""
    newest = Job.objects.filter(kind="rank_case", subject=case.pk).order_by("-changed_at", "-id").first()
    return newest if newest is not None and newest.state in ("queued", "running", "failed") else None


def diagnosis_standing(patient: Patient) -> Diagnosis | None:
    """The patient's standing diagnosis, or None."""
    standing = Diagnosis.objects.filter(patient=patient, retracted_at__isnull=True)
    return standing.select_related("syndrome", "gene", "confirmed_by").first()


def syndromes(search: str = "") -> QuerySet[Syndrome]:
    """The catalogue by identifier; every word of `search` must stand in name, identifier or a gene."""
    found = Syndrome.objects.prefetch_related("genes")
    for word in search.split()[:8]:
        by_gene = Q(genes__symbol__icontains=word)
        found = found.filter(Q(name__icontains=word) | Q(identifier__icontains=word) | by_gene)
    return found.order_by("identifier").distinct()


# --- who stands beside the patient -------------------------------------------------------------------

AGE_BANDS: dict[str, tuple[int, int]] = {
    "0-1": (0, 24), "2-5": (24, 72), "6-11": (72, 144), "12-17": (144, 216), "18+": (216, 12 * 130),
}  # fmt: skip
"""Completed years → months from (included) and to (not included)."""


@dataclass(frozen=True)
class FaceFilter:
    """Which gallery faces are compared: an age band of AGE_BANDS, a sex, an ancestry; "" admits all."""

    age: str = ""
    sex: str = ""
    ancestry: str = ""

    def __bool__(self) -> bool:
        return bool(self.age or self.sex or self.ancestry)

    def apply(self, photos: QuerySet[Photo]) -> QuerySet[Photo]:
        """Only the photos this filter admits; an age band admits no photo of unknown age."""
        if self.age:
            start, stop = AGE_BANDS[self.age]
            photos = photos.filter(age_months__gte=start, age_months__lt=stop)
        if self.sex:
            photos = photos.filter(patient__sex=self.sex)
        if self.ancestry:
            photos = photos.filter(patient__ancestry=self.ancestry)
        return photos


def gallery_now(keys: list[int], faces: FaceFilter | None = None) -> dict[int, Photo]:
    """Those photos among `keys` that may stand in the gallery at this moment, with their patients."""
    photos = for_gallery().filter(pk__in=keys).select_related("patient")
    return {photo.pk: photo for photo in (faces or FaceFilter()).apply(photos)}


def ancestries_known() -> list[str]:
    """The ancestries stated for gallery patients, for the filter."""
    stated = for_gallery().exclude(patient__ancestry="").values_list("patient__ancestry", flat=True)
    return sorted(set(stated))


def composite_photos(syndrome: Syndrome, faces: FaceFilter, leave_out: Patient | None) -> list[Photo]:
    """One gallery photo per patient with that standing diagnosis: the best one that the filter admits."""
    standing = Diagnosis.objects.filter(syndrome=syndrome, retracted_at__isnull=True)
    photos = faces.apply(for_gallery().filter(patient__in=standing.values("patient")).exclude(crop=""))
    photos = photos.select_related("patient")
    if leave_out is not None:
        photos = photos.exclude(patient=leave_out)
    best: dict[int, Photo] = {}
    for photo in photos.order_by("id"):
        rival = best.get(photo.patient_id)
        if rival is None or (photo.quality or 0.0) > (rival.quality or 0.0):
            best[photo.patient_id] = photo
    return list(best.values())


def diagnoses_by_patient(patients: Iterable[int]) -> dict[int, str]:
    """Patient primary key → name of the standing diagnosis."""
    standing = Diagnosis.objects.filter(patient__in=list(patients), retracted_at__isnull=True)
    return dict(standing.values_list("patient_id", "syndrome__name"))


def gallery_allowed(patient: Patient) -> bool:
    """Whether the patient has agreed to stand in this hospital's gallery, as of now."""
    return patients_allowing(Tier.GALLERY).filter(pk=patient.pk).exists()
