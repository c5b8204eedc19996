"""When a list is to be made: after work on a case's photos, and again after every new model or gallery.

A case has one ranking job, which is queued again. Asking twice is one list, and nobody has to know who
else asks: the job itself waits for photos in work and reads everything again before it stores.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from diagnosis import jobs, selectors
from diagnosis.models import Case, Diagnosis, Extractor, Job, OutboxEvent, Photo

WAITING: Final = ("open", "ranked", "unsolved")
CALM: Final = dt.timedelta(seconds=60)
"""So long nothing may have changed in the gallery before its cases are ranked again: a day on which twenty
diagnoses are confirmed in a row is then one round of lists, not twenty."""


def ranking_request(*, case: int) -> None:
    """Ask for a new list of this case, in the transaction of what makes it necessary."""
    jobs.enqueue(kind="rank_case", subject=case, key=ranking_key(case))


def ranking_request_rest(*, case: int, without: int) -> None:
    """Ask for a list of the case's other photos, where it has any that is analysed or may yet be."""
    alive = Photo.objects.filter(case=case, state__in=["received", "analysing", "ready"])
    if alive.exclude(pk=without).exists():
        ranking_request(case=case)


def ranking_key(case: int) -> str:
    """The key of the case's one ranking job."""
    return f"rank_case:{case}"


def photos_in_work(*, case: int) -> QuerySet[Photo]:
    """Photos of the case whose analysis has not ended. Half uploads (no fingerprint yet) do not count."""
    return Photo.objects.filter(case=case, state__in=["received", "analysing"]).exclude(fingerprint="")


def rankings_request_due() -> int:
    """Ask for new lists of all cases without an answer whose list is older than the model or the gallery.

    Returns how many. While photos wait to be embedded by a new model the gallery is not whole and nothing
    is asked for. The sweep calls this; nothing depends on who ended the last job before.
    """
    extractor = selectors.extractor_adopted()
    if extractor is None or reembedding().exists():
        return 0
    cases = list(_cases_behind(_changed_last(extractor)).values_list("pk", flat=True))
    jobs.enqueue_many(kind="rank_case", keys={ranking_key(pk): pk for pk in cases}, again=True)
    return len(cases)


def reembedding() -> QuerySet[Job]:
    """Photos that a new model is still to see."""
    return Job.objects.filter(kind="reembed_photo", state__in=jobs.UNFINISHED)


def _changed_last(extractor: Extractor) -> dt.datetime:
    """The newest change that calls for new lists: the model's adoption, or a gallery that is calm again."""
    adopted = extractor.adopted_at or timezone.now()
    events = OutboxEvent.objects.filter(kind="gallery.changed").order_by("-created_at")
    changed = events.values_list("created_at", flat=True).first()
    if changed is None or changed > timezone.now() - CALM:
        return adopted
    return max(adopted, changed)


def _cases_behind(since: dt.datetime) -> QuerySet[Case]:
    """Cases of patients without a diagnosis that have analysed photos and whose ranking neither waits nor
    ended since.

    A ranking that failed since is not asked for again: its error stands on the case's page.
    """
    ranking = Job.objects.filter(kind="rank_case", subject=OuterRef("pk"))
    answered = ranking.filter(Q(state__in=jobs.UNFINISHED) | Q(changed_at__gt=since))
    photos = selectors.for_analysis().filter(case=OuterRef("pk"), state="ready")
    diagnosed = Diagnosis.objects.filter(patient=OuterRef("patient"), retracted_at__isnull=True)
    behind = Case.objects.filter(Exists(photos), ~Exists(answered), ~Exists(diagnosed), state__in=WAITING)
    return behind.order_by("pk")
