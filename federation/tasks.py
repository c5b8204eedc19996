"""Celery tasks of the federation's long work, in the queue for training: each calls one service."""

from __future__ import annotations

from celery import shared_task

from diagnosis.jobs import Lease
from diagnosis.tasks import perform
from federation.job_kinds import KINDS
from federation.models import GlobalModel, OwnSum, Round


@shared_task(name=KINDS["federation_prepare"])
def prepare(job: int) -> None:
    """Count or train: this site's input of one secure sum."""
    perform(job, _prepare, failed=_prepare_failed)


@shared_task(name=KINDS["federation_candidate"])
def candidate(job: int) -> None:
    """Compute a round's candidate, validate it on own patients and vote."""
    perform(job, _candidate)


@shared_task(name=KINDS["federation_adopt"])
def adopt(job: int) -> None:
    """Make a published model this hospital's extractor."""
    perform(job, _adopt)


@shared_task(name=KINDS["federation_install"])
def install(job: int) -> None:
    """Have a published model here that this hospital had no part in."""
    perform(job, _install)


def _prepare(lease: Lease) -> None:
    from federation.services.sums import sum_prepare

    sum_prepare(lease=lease, own=OwnSum.objects.select_related("sum__round").get(pk=lease.subject))


def _prepare_failed(subject: int, error: str) -> None:
    """Say that this hospital takes no further part, so that the others need not wait for it."""
    from federation.services.sums import sum_leave

    own = OwnSum.objects.select_related("sum__round").filter(pk=subject, state="received").first()
    if own is not None:
        sum_leave(own, error)


def _candidate(lease: Lease) -> None:
    from federation.services.own_rounds import round_validate

    round_validate(lease=lease, round=Round.objects.get(pk=lease.subject))


def _adopt(lease: Lease) -> None:
    from federation.services.adoption import model_adopt

    model_adopt(GlobalModel.objects.select_related("round").get(pk=lease.subject), lease=lease)


def _install(lease: Lease) -> None:
    from federation.services.adoption import model_install

    model_install(GlobalModel.objects.select_related("round").get(pk=lease.subject), lease=lease)
