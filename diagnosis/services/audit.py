"""The audit chain: append-only, each link hashing the one before (compare RFC 6962's idea of a log)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from diagnosis.models import AuditEvent, User

GENESIS = "0" * 64
_CHAIN_LOCK = 0x6757_6175  # PostgreSQL advisory lock: one writer extends the chain at a time


def event_digest(*, at: str, actor: str, action: str, subject: str, detail: Any, previous: str) -> str:
    """Hex sha256 over the canonical JSON of one link."""
    body = json.dumps([at, actor, action, subject, detail, previous], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


def audit(*, actor: User | None, action: str, subject: str, **detail: Any) -> AuditEvent:
    """Append one event in the caller's transaction. `detail` carries ids, counts and hashes only."""
    with transaction.atomic():
        _lock_chain()
        last = AuditEvent.objects.order_by("-id").values_list("sha256", flat=True).first()
        at, label = timezone.now(), actor.get_username() if actor else "system"
        previous = last or GENESIS
        digest = event_digest(
            at=at.isoformat(), actor=label, action=action, subject=subject, detail=detail, previous=previous
        )
        return AuditEvent.objects.create(
            at=at, actor=actor, actor_label=label, action=action, subject=subject, detail=detail,
            previous=previous, sha256=digest,
        )


def _lock_chain() -> None:
    """SQLite's IMMEDIATE transactions already admit one writer; PostgreSQL needs to be asked."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])


def chain_fault() -> int | None:
    """The primary key of the first link that does not fit, or None for an intact chain."""
    previous = GENESIS
    for event in AuditEvent.objects.order_by("id").iterator():
        expected = event_digest(
            at=event.at.isoformat(), actor=event.actor_label, action=event.action, subject=event.subject,
            detail=event.detail, previous=previous,
        )
        if event.previous != previous or event.sha256 != expected:
            return int(event.pk)
        previous = event.sha256
    return None
