"""Leases on Job rows. The row is the truth; the broker only wakes workers and may lose every message.

A job is claimed for JOB_LEASE_SECONDS, prolonged while its worker lives (`kept`). Its final write is a
compare-and-swap on the lease in the same transaction as its effect (`finish`), so a job killed anywhere is
run again and never has its effect twice. `sweep` wakes workers again for jobs whose lease has expired or
whose message was lost; it sends a few messages only, and each worker that ends a job wakes another
(`wake_next`), so that a thousand lost messages are made good without a thousand new ones at every sweep.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import current_app
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from diagnosis.errors import LeaseLost
from diagnosis.models import Job
from diagnosis.states import next_state

log = logging.getLogger(__name__)

# kind → (task name, queue); by name, so that services need not import tasks.
TASKS: dict[str, tuple[str, str]] = {
    "analyse_photo": ("diagnosis.analyse_photo", "analyse"),
    "rank_case": ("diagnosis.rank_case", "analyse"),
    "reembed_photo": ("diagnosis.reembed_photo", "train"),
}
SWEEP_PER_KIND = 8
BATCH = 500
LONGEST = dt.timedelta(minutes=15)
LONGEST_OF: dict[str, dt.timedelta] = {}  # kinds that another room registered
UNFINISHED = ("queued", "running")
ENDED = ("done", "failed")


@dataclass(frozen=True)
class Lease:
    """The right to work on one job until `Job.lease_expires`, held by one worker."""

    job: int
    owner: str
    kind: str
    subject: int
    attempts: int


def register_kind(kind: str, task: str, queue: str, *, longest: dt.timedelta = LONGEST) -> None:
    """Let another room's work be queued here: its kind, the task's name and its queue. ValueError if taken.

    longest: how long one attempt may take before its worker counts as hanging.
    """
    if TASKS.get(kind, (task, queue)) != (task, queue):
        raise ValueError(f"there is another kind of job named {kind!r} already")
    TASKS[kind] = (task, queue)
    LONGEST_OF[kind] = longest


def enqueue(*, kind: str, subject: int, key: str) -> Job:
    """Record that work is to be done; wake a worker after the commit. The same `key` is one job.

    A job that ended is queued again; one that waits or runs is left alone, so a key must name all that the
    work depends on: work that must see a later change gets another key.
    """
    if kind not in TASKS:
        raise ValueError(f"unknown kind of job {kind!r}")
    with transaction.atomic():
        job, created = Job.objects.get_or_create(key=key, defaults={"kind": kind, "subject": subject})
        if not created:
            # The end of a job holds the same lock: either it still sees our change, or we see that it ended.
            job = Job.objects.select_for_update().get(pk=job.pk)
            if _requeue(Job.objects.filter(pk=job.pk)):
                job.refresh_from_db()
        transaction.on_commit(lambda: wake(job.kind, job.pk))
    return job


def enqueue_many(*, kind: str, keys: dict[str, int], again: bool = False) -> None:
    """Record many pieces of work at once, {key: subject}. Known keys stay as they are, or with `again`
    those that ended are queued again."""
    if again:
        names = list(keys)
        for start in range(0, len(names), BATCH):  # SQLite admits a bounded number of parameters
            _requeue(Job.objects.filter(key__in=names[start : start + BATCH]))
    rows = [Job(kind=kind, subject=subject, key=key) for key, subject in keys.items()]
    Job.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)
    transaction.on_commit(lambda: wake_next(kind))


def _requeue(found: QuerySet[Job]) -> int:
    """Queue again those of these jobs that have ended, as if they were new; returns how many."""
    queued = 0
    for ended in ENDED:
        queued += found.filter(state=ended).update(
            state=next_state("job", ended, "requeued"), attempts=0, error="", step="", progress=0,
            not_before=None, changed_at=timezone.now(),
        )  # fmt: skip
    return queued


def wake(kind: str, job: int) -> None:
    """Send the message. A broker that is down costs time, never the job: the sweep sends it again."""
    task, queue = TASKS[kind]
    try:
        current_app.send_task(task, args=[job], queue=queue, retry=False)
    except Exception:  # any broker's errors: the row is safe, so a lost message is only a delay
        log.warning("broker unreachable; job %s waits for the sweep", job)


def worker_name() -> str:
    """A name no other worker has, for leases."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}:{secrets.token_hex(4)}"


def claim(job: int, *, owner: str | None = None) -> Lease | None:
    """Take the job's lease if it is free, else None. One UPDATE, so two workers cannot both win."""
    now, owner = timezone.now(), owner or worker_name()
    free = Q(state="queued") | Q(state="running", lease_expires__lt=now)
    taken = Job.objects.filter(free, Q(not_before__isnull=True) | Q(not_before__lte=now), pk=job).update(
        state="running", lease_owner=owner, lease_expires=_expiry(now), attempts=F("attempts") + 1,
        changed_at=now,
    )  # fmt: skip
    if not taken:
        return None
    row = Job.objects.get(pk=job)
    return Lease(job, owner, row.kind, row.subject, row.attempts)


def renew(lease: Lease, *, step: str = "", progress: int = 0) -> None:
    """Prolong the lease and note progress (per cent). LeaseLost when somebody else has it now."""
    now = timezone.now()
    kept = _held(lease).update(lease_expires=_expiry(now), step=step, progress=progress, changed_at=now)
    if not kept:
        raise LeaseLost("Another worker took this job over.")


@contextmanager
def kept(lease: Lease) -> Iterator[None]:
    """Prolong the lease from a thread while the block runs, so that slow work is not done twice.

    For at most LONGEST, or what its kind was registered with: a worker that hangs loses its job in the end.
    A killed process prolongs nothing.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_prolong, args=(lease, ended), name=f"lease-{lease.job}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _prolong(lease: Lease, ended: threading.Event) -> None:
    every = settings.JOB_LEASE_SECONDS / 3
    until = time.monotonic() + LONGEST_OF.get(lease.kind, LONGEST).total_seconds()
    try:
        while not ended.wait(every) and time.monotonic() < until:
            try:
                if not _held(lease).update(lease_expires=_expiry(timezone.now())):
                    return  # it ended, or another worker has it: the work will notice at its next step
            except DatabaseError:  # busy or away: there are two more tries before the lease runs out
                log.warning("the lease of job %s could not be prolonged", lease.job)
    finally:
        connection.close()


@contextmanager
def finish(lease: Lease) -> Iterator[None]:
    """The transaction of a job's effect: inside it write the effect; at its end the lease is checked.

    Usage: `with finish(lease): <write results>`. LeaseLost rolls everything back. Where the effect also
    locks a patient, lock the patient first, in an outer transaction: withdrawal locks in that order.
    """
    with transaction.atomic():
        _hold(lease)
        yield
        done = _held(lease).update(
            state=next_state("job", "running", "finished"), lease_owner="", lease_expires=None, step="done",
            progress=100, error="", changed_at=timezone.now(),
        )  # fmt: skip
        if not done:
            raise LeaseLost("Another worker took this job over.")


def give_up(lease: Lease, *, error: str, retry: bool, failed: Callable[[], None] | None = None) -> str:
    """End an attempt without effect; returns the job's new state. `error` must be safe to show.

    `failed` runs in the same transaction when this was the last attempt. LeaseLost when somebody else
    works on the job now: then it is theirs to end.
    """
    again = retry and lease.attempts < settings.JOB_MAX_ATTEMPTS
    state = next_state("job", "running", "retry" if again else "failed")
    delay = dt.timedelta(seconds=min(2**lease.attempts, 60)) if again else None
    with transaction.atomic():
        _hold(lease)
        _held(lease).update(
            state=state, lease_owner="", lease_expires=None, error=error[:300],
            not_before=timezone.now() + delay if delay else None, changed_at=timezone.now(),
        )  # fmt: skip
        if failed is not None and not again:
            failed()
    return state


def _hold(lease: Lease) -> None:
    """Lock the job's row and make sure that the lease still stands. (SQLite has one writer anyway.)"""
    if not _held(lease).select_for_update().exists():
        raise LeaseLost("Another worker took this job over.")


def due() -> QuerySet[Job]:
    """Jobs that wait to be worked on, or whose worker vanished, oldest first."""
    now = timezone.now()
    waiting = Q(state="queued") & (Q(not_before__isnull=True) | Q(not_before__lte=now))
    return Job.objects.filter(waiting | Q(state="running", lease_expires__lt=now)).order_by("id")


def wake_next(kind: str) -> None:
    """Wake a worker for the oldest due job of this kind, if there is one."""
    job = due().filter(kind=kind).values_list("pk", flat=True).first()
    if job is not None:
        wake(kind, job)


def sweep() -> int:
    """Wake workers for the oldest due jobs of each kind; returns how many messages were sent."""
    sent = 0
    for kind in TASKS:
        for pk in due().filter(kind=kind).values_list("pk", flat=True)[:SWEEP_PER_KIND]:
            wake(kind, pk)
            sent += 1
    return sent


def release_dead_leases() -> int:
    """Free every lease. Only for a process that knows itself to be the site's one worker, at its start."""
    return Job.objects.filter(state="running").update(lease_expires=timezone.now(), changed_at=timezone.now())


def _held(lease: Lease) -> QuerySet[Job]:
    return Job.objects.filter(pk=lease.job, state="running", lease_owner=lease.owner)


def _expiry(now: dt.datetime) -> dt.datetime:
    return now + dt.timedelta(seconds=settings.JOB_LEASE_SECONDS)
