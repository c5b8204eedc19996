"""Who may do what in the federation: rows added to the clinic's one policy module.

Looking is for site admins and auditors. Everything that binds this hospital, or the federation at the
coordinator, needs a site admin who proved a second factor.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings

from diagnosis.errors import NotAllowed
from diagnosis.models import Role
from diagnosis.permissions import can, register_actions, require

_ADMIN: Final = frozenset({Role.SITE_ADMIN})
ACTIONS: Final[dict[str, frozenset[str]]] = {
    "federation.view": frozenset({Role.SITE_ADMIN, Role.AUDITOR}),
    "federation.manage": _ADMIN,
    "round.propose": _ADMIN,
    "round.answer": _ADMIN,
    "coordinator.manage": _ADMIN,
}
SECOND_FACTOR: Final = frozenset({"federation.manage", "round.propose", "round.answer", "coordinator.manage"})

register_actions(ACTIONS, second_factor=SECOND_FACTOR)


def require_hospital() -> None:
    """NotAllowed on the coordinator: it belongs to no hospital and takes part in nothing."""
    if settings.SITE_ROLE != "hospital":
        raise NotAllowed(
            "This site is the coordinator. A coordinator takes no part in rounds; use a hospital's site."
        )


def require_coordinator() -> None:
    """NotAllowed on a hospital's site."""
    if settings.SITE_ROLE != "coordinator":
        raise NotAllowed("This is done at the coordinator's site. Ask its admin.")


__all__ = ["ACTIONS", "SECOND_FACTOR", "can", "require", "require_coordinator", "require_hospital"]
