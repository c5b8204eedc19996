"""What several models share: evidence that cannot be edited, and choices made from the state tables."""

from __future__ import annotations

from typing import Any

from django.db import models

from diagnosis import states


class EvidenceChanged(Exception):
    """Somebody tried to edit or delete evidence. Evidence is added to, never changed."""


class EvidenceQuerySet(models.QuerySet[Any]):
    """Refuses bulk edits; erasure goes through `erase`, which only the services call that erase photos."""

    def update(self, **kwargs: Any) -> int:
        raise EvidenceChanged(f"{self.model.__name__} rows are evidence and are never updated")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise EvidenceChanged(f"{self.model.__name__} rows are evidence and are never deleted")

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        raise EvidenceChanged(f"{self.model.__name__} rows are evidence and are never updated")

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if kwargs.get("update_conflicts"):
            raise EvidenceChanged(f"{self.model.__name__} rows are evidence and are never updated")
        return super().bulk_create(objs, *args, **kwargs)

    def erase(self) -> int:
        """Remove rows because a patient withdrew or a photo was removed. The audit chain keeps that."""
        return int(super().delete()[0])


class Evidence(models.Model):
    """A row that is written once. `save` on an existing row and `delete` raise EvidenceChanged."""

    objects = EvidenceQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None and not self._state.adding:
            raise EvidenceChanged(f"{type(self).__name__} rows are evidence and are never updated")
        # force_insert: with a primary key of its own, Django would try an UPDATE first.
        super().save(*args, **(kwargs | {"force_insert": True}))

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise EvidenceChanged(f"{type(self).__name__} rows are evidence and are never deleted")


def state_choices(workflow: str) -> list[tuple[str, str]]:
    """(value, label) pairs for a state field, from the workflow's table."""
    return [(state, state) for state in states.states_of(states.TABLES[workflow])]


def state_constraint(workflow: str) -> models.CheckConstraint:
    """The database itself refuses a state that the table does not know."""
    allowed = [state for state, _ in state_choices(workflow)]
    return models.CheckConstraint(condition=models.Q(state__in=allowed), name=f"{workflow}_state_known")
