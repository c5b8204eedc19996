"""Withdrawal beside what clinicians and workers do: nobody waits for somebody who waits for them.

A verb is stopped at the moment it wants the audit chain, holding its rows, while a withdrawal begins. SQLite
has one writer and cannot deadlock; test_backend runs this on PostgreSQL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from diagnosis import jobs
from diagnosis.errors import InvalidInput
from diagnosis.models import Case, Differential, Job, Patient
from diagnosis.services import analysis, audit, case, consent, verdict

pytestmark = pytest.mark.django_db(transaction=True)


def note(world: Any) -> None:
    case.case_note(user=world.user, case=world.case, note="written late")


def differential(world: Any) -> None:
    verdict.differential_record(user=world.user, case=world.case, syndromes=[], text="my idea")


def unsolved(world: Any) -> None:
    verdict.case_leave_unsolved(user=world.user, case=world.case)


def reopened(world: Any) -> None:
    verdict.case_reopen(user=world.user, case=world.case)


def diagnosed(world: Any) -> None:
    verdict.diagnosis_confirm(user=world.user, case=world.case, syndrome=world.syndrome)


def analysis_failed(world: Any) -> None:
    lease = jobs.claim(world.job.pk)
    assert lease is not None
    world.stop.set()  # claiming is a transaction of its own
    jobs.give_up(
        lease,
        error="x",
        retry=False,
        failed=lambda: analysis.photo_fail(subject=world.job.subject, error="x"),
    )


VERBS: dict[str, tuple[Callable[[Any], None], str]] = {
    "note": (note, "ranked"), "differential": (differential, "ranked"), "unsolved": (unsolved, "ranked"),
    "reopened": (reopened, "unsolved"), "diagnosed": (diagnosed, "ranked"),
    "analysis failed": (analysis_failed, "open"),
}  # fmt: skip


class World:
    """A clinician, a patient's case with a photo and a job, and a gate in front of the audit chain."""

    def __init__(self, user: Any, patient: Any, photo: Any) -> None:
        self.user, self.patient, self.case, self.syndrome = user, patient, photo.case, None
        self.job = Job.objects.get(kind="analyse_photo", subject=photo.pk)
        self.stop, self.waits, self.errors = threading.Event(), threading.Event(), []


@pytest.fixture
def world(
    register: Any, agree: Any, make_photo: Any, diagnose: Any, make_user: Any, monkeypatch: Any
) -> World:
    patient = register()
    agree(patient)
    standing = diagnose(patient)
    made = World(make_user(roles={"geneticist"}, team=patient.team), patient, make_photo(patient))
    made.syndrome = standing.syndrome
    real = audit._lock_chain

    def gate() -> None:
        if threading.current_thread().name == "verb" and made.stop.is_set() and not made.waits.is_set():
            made.waits.set()
            time.sleep(0.7)  # long enough for the withdrawal to take what it can get
        real()

    monkeypatch.setattr(audit, "_lock_chain", gate)
    monkeypatch.setattr(jobs, "wake", lambda *args: None)
    return made


def in_thread(name: str, world: World, work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except Exception as error:
            world.errors.append(error)
        finally:
            world.waits.set()
            connection.close()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    return thread


@pytest.mark.parametrize("name", VERBS)
def test_a_withdrawal_beside_a_verb(name: str, world: World) -> None:
    verb, state = VERBS[name]
    Case.objects.filter(pk=world.case.pk).update(state=state, differential_first=True)
    world.case.refresh_from_db()
    type(world.case.photos.get()).objects.update(state="analysing" if name == "analysis failed" else "ready")
    if name != "analysis failed":
        world.stop.set()
    threads = [in_thread("verb", world, lambda: verb(world))]
    assert world.waits.wait(20)
    patient = Patient.objects.get(pk=world.patient.pk)
    threads.append(
        in_thread(
            "withdrawal",
            world,
            lambda: consent.consent_withdraw(user=None, patient=patient, signer="self"),
        )
    )
    for thread in threads:
        thread.join(40)
    assert world.errors == [] and not any(thread.is_alive() for thread in threads)
    assert Patient.objects.get(pk=patient.pk).state == "withdrawn"
    row = Case.objects.get(pk=world.case.pk)
    assert (row.state, row.note) == ("withdrawn", "") and not Differential.objects.exists()
    assert not Job.objects.filter(kind="analyse_photo").exists()


@pytest.mark.parametrize("verb", [note, differential])
def test_nothing_is_written_about_a_patient_who_has_withdrawn(verb: Any, world: World) -> None:
    """The page was open before the withdrawal: the row in hand still says that the case is ranked."""
    Case.objects.filter(pk=world.case.pk).update(state="ranked", differential_first=True)
    world.case.refresh_from_db()
    consent.consent_withdraw(user=None, patient=world.patient, signer="self")
    with pytest.raises(InvalidInput, match="has withdrawn"):
        verb(world)
    assert Case.objects.get(pk=world.case.pk).note == "" and not Differential.objects.exists()
