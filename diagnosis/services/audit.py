"""The audit chain: append-only, each link hashing the one before (compare RFC 6962's idea of a log).

The newest link's number and hash also stand in a small file beside the keys, outside the database: whoever
edits the database alone can neither recompute the chain unseen nor cut off its end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any

from django.conf import settings
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
        event = AuditEvent.objects.create(
            at=at, actor=actor, actor_label=label, action=action, subject=subject, detail=detail,
            previous=previous, sha256=digest,
        )  # fmt: skip
        transaction.on_commit(lambda: _head_advance(event.pk, digest), robust=True)
        return event


def _lock_chain() -> None:
    """SQLite's IMMEDIATE transactions already admit one writer; PostgreSQL needs to be asked."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])


def chain_fault() -> int | None:
    """The primary key of the first link that does not fit, or None for an intact chain.

    Links missing at the end are found by the head beside the keys; then its number is returned.
    """
    previous, hashes = GENESIS, {}
    for event in AuditEvent.objects.order_by("id").iterator():
        expected = event_digest(
            at=event.at.isoformat(), actor=event.actor_label, action=event.action, subject=event.subject,
            detail=event.detail, previous=previous,
        )  # fmt: skip
        if event.previous != previous or event.sha256 != expected:
            return int(event.pk)
        previous = hashes[event.pk] = event.sha256
    number, digest = _head_read()
    return number if number and hashes.get(number) != digest else None


# --- the head beside the keys ------------------------------------------------------------------------------


def _head_path() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "audit-head"


def _head_read() -> tuple[int, str]:
    try:
        number, digest = _head_path().read_text("utf-8").split()
    except FileNotFoundError:
        return 0, ""
    return int(number), digest


def _head_advance(number: int, digest: str) -> None:
    """Note the newest link. Several processes write; the greatest number stays."""
    path = _head_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if number > _head_read()[0]:
            partial = path.with_suffix(".new")
            partial.write_text(f"{number} {digest}", encoding="utf-8")
            partial.chmod(0o600)
            partial.replace(path)


def head_restart() -> None:
    """After a restore the chain ends earlier than the head says: begin again from what is there."""
    _head_path().unlink(missing_ok=True)
    last = AuditEvent.objects.order_by("-id").first()
    if last is not None:
        _head_advance(last.pk, last.sha256)
