"""What several models share: the database refuses a state that no table knows."""

from __future__ import annotations

from django.db import models

from federation import states


def state_constraint(workflow: str) -> models.CheckConstraint:
    """The database itself refuses a state that the table does not know."""
    allowed = states.states_of(states.TABLES[workflow])
    return models.CheckConstraint(condition=models.Q(state__in=allowed), name=f"federation_{workflow}_state")
