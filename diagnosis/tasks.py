"""Celery tasks: each takes a job's number, claims its lease, calls one service, and says how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import shared_task
from django.conf import settings
from django.db import OperationalError

from diagnosis import engine, jobs
from diagnosis.errors import ClinicError, LeaseLost
from diagnosis.jobs import Lease
from diagnosis.models import Case
from diagnosis.services import analysis, model, ranking

log = logging.getLogger(__name__)
Work = Callable[..., object]
FAULT = "Something went wrong on the server; the log names this job."
ENDED = "The server stopped each time this was tried. Use another copy of the photo."


@shared_task(name="diagnosis.analyse_photo")
def analyse_photo(job: int) -> None:
    """Detect, align, check and embed one photo."""
    perform(job, analysis.photo_analyse, failed=analysis.photo_fail)


@shared_task(name="diagnosis.rank_case")
def rank_case(job: int) -> None:
    """Rank one case."""
    perform(job, lambda lease: ranking.case_rank(case=Case.objects.get(pk=lease.subject), lease=lease))


@shared_task(name="diagnosis.reembed_photo")
def reembed_photo(job: int) -> None:
    """Embed one photo by the model that was adopted last."""
    perform(job, model.photo_reembed)


def perform(job: int, work: Work, *, failed: Work | None = None) -> None:
    """Claim the job if it is free, do it, and wake the next one of its kind."""
    lease = jobs.claim(job)
    if lease is None:
        return
    try:
        _attempt(lease, work, failed)
    except LeaseLost:
        log.info("job %s was taken over", lease.job)
    finally:
        jobs.wake_next(lease.kind)
        engine.galleries_refresh()


def _attempt(lease: Lease, work: Work, failed: Work | None) -> None:
    def end(error: str, retry: bool) -> None:
        def on_failure() -> None:
            if failed is not None:
                failed(subject=lease.subject, error=error)

        jobs.give_up(lease, error=error, retry=retry, failed=on_failure)

    if lease.attempts > settings.JOB_MAX_ATTEMPTS:  # it ends the process, or never ends
        end(ENDED, False)
        return
    try:
        with jobs.kept(lease):
            work(lease=lease)
    except LeaseLost:
        raise
    except ClinicError as error:
        end(str(error), error.retry)
    except OperationalError:
        log.warning("job %s: the database was busy", lease.job)
        end("The database was busy.", True)
    except Exception:  # a fault of ours: it must end this attempt, not the worker
        log.exception("job %s (%s %s)", lease.job, lease.kind, lease.subject)
        end(FAULT, True)
