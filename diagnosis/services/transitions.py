"""The one function that changes a state: lock, table, save, audit; follow-ups run after the commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import models, transaction

from diagnosis import states
from diagnosis.models import Case, Extractor, Job, Patient, Photo, User
from diagnosis.services.audit import audit

M = TypeVar("M", bound=models.Model)
WORKFLOWS: dict[type[models.Model], str] = {
    Photo: "photo", Case: "case", Patient: "consent", Job: "job", Extractor: "extractor",
}  # fmt: skip


def workflows_add(workflows: dict[type[models.Model], str], tables: dict[str, states.Table]) -> None:
    """Let `move` serve another room's models by that room's tables. ValueError for a name that is taken."""
    taken = sorted(name for name in tables if states.TABLES.get(name, tables[name]) is not tables[name])
    if taken:
        raise ValueError(f"there are workflows named {', '.join(taken)} already")
    states.TABLES.update(tables)
    WORKFLOWS.update(workflows)


def move(
    row: M, event: str, *, actor: User | None = None, then: Callable[[], None] | None = None, **fields: Any
) -> M:
    """Apply `event` to `row` and set `fields` with it, under the row's lock.

    The table is consulted after the lock is taken, on the row as it is then. `then` runs after the
    commit. Raises states.IllegalMove and changes nothing when the table has no such pair.
    """
    workflow = WORKFLOWS[type(row)]
    with transaction.atomic():
        locked: Any = type(row)._default_manager.select_for_update().get(pk=row.pk)
        before = locked.state
        locked.state = states.next_state(workflow, before, event)
        for name, value in fields.items():
            setattr(locked, name, value)
        locked.save()
        audit(actor=actor, action=f"{workflow}.{event}", subject=f"{workflow}:{row.pk}",
              before=before, after=locked.state)  # fmt: skip
        if then is not None:
            transaction.on_commit(then)
    row.__dict__.update({key: value for key, value in locked.__dict__.items() if key != "_state"})
    return row
