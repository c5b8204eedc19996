"""Leases: one worker at a time, effects once, nothing forgotten."""

from __future__ import annotations

import datetime as dt
import threading
import time
from types import SimpleNamespace

import pytest
from django.utils import timezone

from diagnosis import jobs, tasks
from diagnosis.errors import InvalidInput, LeaseLost, NotReady
from diagnosis.models import AuditEvent, Job
from diagnosis.services.audit import audit


@pytest.fixture
def woken(monkeypatch) -> list[tuple[str, int]]:
    """Every message that would have been sent, as (kind, job)."""
    sent: list[tuple[str, int]] = []
    monkeypatch.setattr(jobs, "wake", lambda kind, job: sent.append((kind, job)))
    return sent


@pytest.fixture
def job(db, woken) -> Job:
    return jobs.enqueue(kind="analyse_photo", subject=7, key="analyse_photo:7")


def expire(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_expires=timezone.now() - dt.timedelta(seconds=1))


def test_the_same_key_is_one_job_and_wakes_after_the_commit(db, woken, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        first = jobs.enqueue(kind="rank_case", subject=1, key="k")
        assert woken == []
        assert jobs.enqueue(kind="rank_case", subject=1, key="k").pk == first.pk
    assert set(woken) == {("rank_case", first.pk)} and Job.objects.count() == 1
    with pytest.raises(ValueError, match="unknown kind"):
        jobs.enqueue(kind="nonsense", subject=1, key="n")


def test_two_workers_cannot_both_win(job) -> None:
    lease = jobs.claim(job.pk)
    assert lease is not None and lease.attempts == 1
    assert jobs.claim(job.pk) is None


def test_an_expired_lease_is_taken_over_and_the_first_effect_rolled_back(job) -> None:
    late = jobs.claim(job.pk)
    expire(job)
    other = jobs.claim(job.pk)
    assert other is not None and other.attempts == 2
    with pytest.raises(LeaseLost), jobs.finish(late):
        audit(actor=None, action="effect", subject="late")
    with jobs.finish(other):
        audit(actor=None, action="effect", subject="other")
    assert list(AuditEvent.objects.values_list("subject", flat=True)) == ["other"]
    for attempt in (lambda: jobs.renew(late), lambda: jobs.give_up(late, error="x", retry=True)):
        with pytest.raises(LeaseLost):
            attempt()
    job.refresh_from_db()
    assert (job.state, job.progress, job.lease_owner) == ("done", 100, "")


def test_a_lease_lost_while_the_effect_is_written_rolls_it_back(job) -> None:
    """The slow worker passes the first check; the other takes over before its last write."""
    lease = jobs.claim(job.pk)
    with pytest.raises(LeaseLost), jobs.finish(lease):
        audit(actor=None, action="effect", subject="slow")
        Job.objects.filter(pk=job.pk).update(lease_owner="somebody else")
    assert not AuditEvent.objects.exists()


def test_renewing_notes_the_step_and_prolongs(job, settings) -> None:
    settings.JOB_LEASE_SECONDS = 30
    lease = jobs.claim(job.pk)
    expire(job)
    jobs.renew(lease, step="finding the face", progress=15)
    job.refresh_from_db()
    assert (job.step, job.progress) == ("finding the face", 15)
    assert job.lease_expires > timezone.now() + dt.timedelta(seconds=25)


@pytest.mark.django_db(transaction=True)
def test_slow_work_keeps_its_lease_and_hung_work_loses_it(woken, settings, monkeypatch) -> None:
    """Nothing renews between two steps of the work itself: only the thread beside it does."""
    settings.JOB_LEASE_SECONDS = 0.6
    job = jobs.enqueue(kind="reembed_photo", subject=7, key="k")
    taken: list[object] = []

    def slow(lease) -> None:
        time.sleep(1.5)
        taken.append(jobs.claim(job.pk))
        _finish(lease)

    tasks.perform(job.pk, slow)
    job.refresh_from_db()
    assert (taken, job.state, job.attempts) == ([None], "done", 1)
    assert not [thread for thread in threading.enumerate() if thread.name == f"lease-{job.pk}"]

    monkeypatch.setattr(jobs, "LONGEST", dt.timedelta(seconds=0.3))
    hung = jobs.enqueue(kind="reembed_photo", subject=8, key="h")
    with jobs.kept(jobs.claim(hung.pk)):
        time.sleep(1.5)
        assert jobs.claim(hung.pk) is not None


def test_a_lease_that_another_worker_has_is_not_prolonged(job, monkeypatch) -> None:
    lease = jobs.claim(job.pk)
    Job.objects.filter(pk=job.pk).update(lease_owner="somebody else")
    expire(job)
    monkeypatch.setattr(jobs, "connection", SimpleNamespace(close=lambda: None))  # the test's own

    class Once:
        def wait(self, seconds: float) -> bool:
            return False

    jobs._prolong(lease, Once())
    job.refresh_from_db()
    assert job.lease_expires < timezone.now()


@pytest.mark.parametrize("retry, state", [(True, "queued"), (False, "failed")])
def test_giving_up_waits_or_ends(job, retry: bool, state: str) -> None:
    lease, ended = jobs.claim(job.pk), []
    assert jobs.give_up(lease, error="Why.", retry=retry, failed=lambda: ended.append(1)) == state
    job.refresh_from_db()
    assert (job.state, job.error, bool(job.not_before), len(ended)) == (state, "Why.", retry, not retry)
    assert jobs.claim(job.pk) is None, "not before its time, and not after its end"


def test_the_last_attempt_fails_even_if_it_asks_for_another(job, settings) -> None:
    settings.JOB_MAX_ATTEMPTS = 1
    assert jobs.give_up(jobs.claim(job.pk), error="Why.", retry=True) == "failed"


def test_what_ended_can_be_asked_for_again(job, woken) -> None:
    jobs.give_up(jobs.claim(job.pk), error="Why.", retry=False)
    again = jobs.enqueue(kind="analyse_photo", subject=7, key="analyse_photo:7")
    assert (again.pk, again.state, again.attempts, again.error) == (job.pk, "queued", 0, "")
    with jobs.finish(jobs.claim(job.pk)):
        pass
    assert jobs.enqueue(kind="analyse_photo", subject=7, key="analyse_photo:7").state == "queued"


def test_the_sweep_wakes_few_and_each_end_wakes_the_next(db, woken) -> None:
    jobs.enqueue_many(kind="rank_case", keys={f"r{n}": n for n in range(30)})
    woken.clear()
    assert jobs.sweep() == jobs.SWEEP_PER_KIND == len(woken)
    done = 0
    queue = [woken[0]]
    while queue:  # a worker that gets one message in the end does all the work
        woken.clear()
        tasks.perform(queue.pop()[1], lambda lease: _finish(lease))
        queue += woken
        done += 1
    assert done == 30 and Job.objects.filter(state="done").count() == 30


def _finish(lease) -> None:
    with jobs.finish(lease):
        pass


def test_the_sweep_finds_lost_leases_but_not_running_work(job, woken) -> None:
    jobs.claim(job.pk)
    woken.clear()
    assert jobs.sweep() == 0
    expire(job)
    assert jobs.sweep() == 1 and woken == [("analyse_photo", job.pk)]
    jobs.claim(job.pk)
    assert jobs.release_dead_leases() == 1 and jobs.due().get() == job


def test_enqueue_many_leaves_known_keys_alone(db, woken) -> None:
    first = jobs.enqueue(kind="rank_case", subject=1, key="a")
    _finish(jobs.claim(first.pk))
    jobs.enqueue_many(kind="rank_case", keys={"a": 1, "b": 2})
    assert sorted(Job.objects.values_list("key", "state")) == [("a", "done"), ("b", "queued")]


def test_enqueue_many_again_queues_what_ended_and_leaves_what_runs(db, woken) -> None:
    for key in ("done", "failed", "running"):
        jobs.enqueue(kind="rank_case", subject=1, key=key)
    _finish(jobs.claim(Job.objects.get(key="done").pk))
    jobs.give_up(jobs.claim(Job.objects.get(key="failed").pk), error="Why.", retry=False)
    jobs.claim(Job.objects.get(key="running").pk)
    jobs.enqueue_many(kind="rank_case", keys={"done": 1, "failed": 1, "running": 1, "new": 1}, again=True)
    assert dict(Job.objects.values_list("key", "state")) == {
        "done": "queued", "failed": "queued", "running": "running", "new": "queued",
    }  # fmt: skip
    assert Job.objects.get(key="failed").error == "" and Job.objects.get(key="done").attempts == 0


# --- how a task ends -------------------------------------------------------------------------------


def raising(error: Exception):
    def work(lease) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    "error, state, shown",
    [
        (NotReady("No model is installed."), "queued", "No model is installed."),
        (InvalidInput("Bad."), "failed", "Bad."),
        (RuntimeError("secret detail"), "queued", tasks.FAULT),
    ],
)
def test_errors_say_whether_to_retry_and_what_may_be_shown(job, error, state, shown) -> None:
    tasks.perform(job.pk, raising(error))
    job.refresh_from_db()
    assert (job.state, job.error) == (state, shown)


def test_a_job_that_ends_its_worker_each_time_is_given_up(job, settings) -> None:
    settings.JOB_MAX_ATTEMPTS = 3
    told: list[str] = []
    for _ in range(3):  # claimed, and then the process was gone
        assert jobs.claim(job.pk) is not None
        expire(job)
    tasks.perform(
        job.pk, raising(AssertionError("not tried a fourth time")), failed=lambda **f: told.append(f["error"])
    )
    job.refresh_from_db()
    assert job.state == "failed" and told == [tasks.ENDED]


def test_a_broker_that_is_away_costs_time_only(db, monkeypatch, django_capture_on_commit_callbacks) -> None:
    from celery import current_app

    monkeypatch.setattr(type(current_app._get_current_object()), "send_task", raising_call)
    with django_capture_on_commit_callbacks(execute=True):
        jobs.enqueue(kind="rank_case", subject=1, key="k")
    assert jobs.due().count() == 1


def raising_call(*args, **kwargs):
    raise ConnectionError("no broker")
