"""What many processes do at once: the audit chain stays whole, a job has one winner, a key seals for all.

These run on SQLite as they stand, and on PostgreSQL through test_backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 8


def together(work: Callable[[int], Any]) -> list[Any]:
    """work(0) … work(7) at the same moment, each with a connection of its own; errors are raised here."""
    start, results, errors = threading.Barrier(THREADS), [None] * THREADS, []

    def run(number: int) -> None:
        try:
            start.wait(30)
            results[number] = work(number)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    if errors:
        raise errors[0]
    return results


def test_the_audit_chain_has_no_fork() -> None:
    from diagnosis.models import AuditEvent
    from diagnosis.services.audit import GENESIS, audit, chain_fault

    def append(number: int) -> None:
        for turn in range(6):
            with transaction.atomic():  # as every service does
                audit(actor=None, action="test.appended", subject=f"thread:{number}", turn=turn)

    together(append)
    assert AuditEvent.objects.count() == 6 * THREADS and chain_fault() is None
    assert AuditEvent.objects.filter(previous=GENESIS).count() == 1
    assert AuditEvent.objects.values("previous").distinct().count() == 6 * THREADS
    for number in range(THREADS):
        own = AuditEvent.objects.filter(subject=f"thread:{number}").order_by("id")
        assert [event.detail["turn"] for event in own] == list(range(6))


def test_a_rolled_back_event_leaves_no_gap() -> None:
    from diagnosis.models import AuditEvent
    from diagnosis.services.audit import audit, chain_fault

    def append(number: int) -> None:
        for turn in range(4):
            try:
                with transaction.atomic():
                    audit(actor=None, action="test.appended", subject=f"thread:{number}")
                    if (number + turn) % 2:
                        raise LookupError
            except LookupError:
                pass

    together(append)
    assert AuditEvent.objects.count() == 2 * THREADS and chain_fault() is None


def test_one_of_many_workers_wins_a_job() -> None:
    from diagnosis import jobs
    from diagnosis.errors import LeaseLost
    from diagnosis.models import Job

    with transaction.atomic():
        rows = [Job.objects.create(kind="rank_case", subject=n, key=f"rank_case:{n}") for n in range(12)]

    def claim_all(number: int) -> list[jobs.Lease]:
        return [lease for row in rows if (lease := jobs.claim(row.pk, owner=f"worker-{number}"))]

    won = [lease for leases in together(claim_all) for lease in leases]
    assert sorted(lease.job for lease in won) == sorted(row.pk for row in rows)
    lease = won[0]
    with jobs.finish(lease):
        pass
    with pytest.raises(LeaseLost), jobs.finish(lease):
        pass
    assert Job.objects.filter(state="done").count() == 1


def test_the_same_work_is_enqueued_once() -> None:
    from diagnosis import jobs
    from diagnosis.models import Job

    together(lambda number: jobs.enqueue(kind="rank_case", subject=1, key="rank_case:1").pk)
    assert Job.objects.count() == 1


def test_one_state_change_wins(make_user: Any, make_patient: Any, make_case: Any) -> None:
    from diagnosis.models import AuditEvent
    from diagnosis.services.transitions import move
    from diagnosis.states import IllegalMove

    case = make_case(make_patient())

    def leave(number: int) -> bool:
        try:
            move(type(case).objects.get(pk=case.pk), "left_unsolved")
        except IllegalMove:
            return False
        return True

    assert sum(together(leave)) == 1
    assert AuditEvent.objects.filter(action="case.left_unsolved").count() == 1


def test_what_one_sealed_all_can_open() -> None:
    import uuid

    from diagnosis import vault

    key = uuid.uuid4()
    vault.create_key(key)
    sealed = vault.seal(key, b"original", purpose="original")
    assert together(lambda number: vault.unseal(key, sealed, purpose="original")) == [b"original"] * THREADS
    vault.destroy_key(key)
    assert together(lambda number: vault.has_key(key)) == [False] * THREADS


def test_json_columns_answer_as_selectors_ask(make_user: Any, make_patient: Any, make_case: Any) -> None:
    from diagnosis.models import AuditEvent, Differential, Photo
    from diagnosis.services.audit import audit, chain_fault

    case = make_case(make_patient())
    deep = {
        "ids": [1, 2, 3],
        "none": None,
        "ratio": 0.1,
        "text": "Größe ≤ 0,5",
        "nested": {"b": 1, "a": [True]},
    }
    audit(actor=None, action="test.json", subject="x", **deep)
    assert AuditEvent.objects.get().detail == deep
    assert chain_fault() is None  # the hash is over what was stored, as it is read back
    photo = Photo.objects.create(
        case=case, patient=case.patient, measures={"blur": 0.25}, warnings=[{"code": "x"}]
    )
    photo.refresh_from_db()
    assert photo.measures == {"blur": 0.25} and photo.warnings == [{"code": "x"}] and photo.refusal is None
    Differential.objects.create(case=case, user=make_user(), syndromes=["SYN:0001"])
    assert Differential.objects.get().syndromes == ["SYN:0001"]
