"""The audit chain notices edits, deletions and insertions; evidence rows refuse them to begin with."""

from __future__ import annotations

import pytest
from django.db import connection

from diagnosis.models import AuditEvent, EvidenceChanged
from diagnosis.services.audit import GENESIS, audit, chain_fault, head_restart


@pytest.fixture
def chain(make_user):
    user = make_user()
    return [audit(actor=user, action="photo.add", subject=f"photo:{n}", case=n) for n in range(5)]


def test_an_untouched_chain_has_no_fault_and_starts_at_genesis(chain) -> None:
    assert chain_fault() is None
    assert chain[0].previous == GENESIS
    assert [event.previous for event in chain[1:]] == [event.sha256 for event in chain[:-1]]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE diagnosis_auditevent SET action = 'photo.view' WHERE id = %s",
        "UPDATE diagnosis_auditevent SET detail = '{\"case\": 99}' WHERE id = %s",
        "UPDATE diagnosis_auditevent SET actor_label = 'somebody' WHERE id = %s",
        "DELETE FROM diagnosis_auditevent WHERE id = %s",
    ],
)
def test_tampering_below_the_orm_is_found(chain, change) -> None:
    with connection.cursor() as cursor:
        cursor.execute(change, [chain[2].pk])
    assert chain_fault() == (chain[3].pk if change.startswith("DELETE") else chain[2].pk)


def test_evidence_refuses_edits_and_deletes(chain) -> None:
    event = AuditEvent.objects.get(pk=chain[0].pk)
    event.action = "changed"
    for attempt in (
        event.save, event.delete, AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(action="x"),
        lambda: AuditEvent.objects.bulk_update([event], ["action"]),
    ):  # fmt: skip
        with pytest.raises(EvidenceChanged):
            attempt()
    assert chain_fault() is None and AuditEvent.objects.count() == 5


def test_the_end_cannot_be_cut_off_nor_the_chain_recomputed(make_user, transactional_db) -> None:
    for number in range(4):
        audit(actor=None, action="photo.add", subject=f"photo:{number}")
    last = AuditEvent.objects.order_by("-id").first()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM diagnosis_auditevent WHERE id = %s", [last.pk])
    assert chain_fault() == last.pk
    head_restart()
    assert chain_fault() is None


def test_evidence_with_a_number_of_its_own_is_inserted_never_overwritten(chain) -> None:
    from django.db import IntegrityError, transaction

    copy = AuditEvent(
        pk=chain[0].pk, at=chain[0].at, actor_label="x", action="x", subject="x", sha256="0" * 64
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save()
    with pytest.raises(EvidenceChanged):
        AuditEvent.objects.bulk_create(
            [copy], update_conflicts=True, update_fields=["action"], unique_fields=["id"]
        )
    assert chain_fault() is None
