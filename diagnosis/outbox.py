"""What changed, durably, for rooms that diagnosis does not know. Rows are written in the transaction of
the change; a reader asks for what came after its cursor and moves the cursor in its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from diagnosis.models import OutboxCursor, OutboxEvent

KINDS = frozenset({"consent.changed", "consent.withdrawn", "gallery.changed", "model.adopted", "case.ranked"})


def publish(kind: str, subject: str, **detail: Any) -> OutboxEvent:
    """Say that something changed. `subject` and `detail` hold ids and hashes only."""
    if kind not in KINDS:
        raise ValueError(f"unknown outbox event {kind!r}")
    return OutboxEvent.objects.create(kind=kind, subject=subject, detail=detail)


def newest() -> int:
    """The primary key of the newest event, 0 before the first: cheap to ask whether anything happened."""
    return OutboxEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


@contextmanager
def read(reader: str, *, limit: int = 100) -> Iterator[list[OutboxEvent]]:
    """Events that `reader` has not seen. When the block ends well they count as seen, else not."""
    with transaction.atomic():
        OutboxCursor.objects.get_or_create(reader=reader)
        cursor = OutboxCursor.objects.select_for_update().get(reader=reader)
        events = list(OutboxEvent.objects.filter(pk__gt=cursor.position).order_by("pk")[:limit])
        yield events
        if events:
            cursor.position = events[-1].pk
            cursor.save(update_fields=["position"])
