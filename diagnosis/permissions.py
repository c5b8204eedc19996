"""The one policy module: who may do what, and which rows exist for whom.

`can(user, action, obj)` answers, `require` raises NotAllowed, `visible_to(user, queryset)` filters. No
superuser, no staff flag: only roles, teams and the second factor count (docs/data-and-consent.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db import models

from diagnosis.errors import NotAllowed
from diagnosis.models import Case, Diagnosis, Patient, Photo, RankingRecord, Role, User

G, INTAKE, A, U, P = Role.GENETICIST, Role.INTAKE, Role.SITE_ADMIN, Role.AUDITOR, Role.API

# action → roles that may do it. Actions on a patient, case, photo or ranking also need the same team.
ACTIONS: Final[dict[str, frozenset[str]]] = {
    "case.list": frozenset({G}),
    "case.open": frozenset({G}),
    "case.view": frozenset({G}),
    "case.decide": frozenset({G}),
    "photo.add": frozenset({G}),
    "photo.view": frozenset({G}),
    "photo.correct": frozenset({G}),
    "photo.remove": frozenset({G}),
    "ranking.view": frozenset({G}),
    # Look-alikes and composites come from the whole hospital's gallery, not from one team: patients agreed
    # to stand in "this hospital's gallery", a rare syndrome seldom has two patients in one team, and a
    # ranking that cannot show what caused it cannot be judged. They appear under their pseudonym, and the
    # gallery tier is read again at each view. Their cases stay their team's.
    "gallery.view": frozenset({G}),
    "patient.list": frozenset({G, INTAKE}),
    "patient.register": frozenset({G, INTAKE}),
    "patient.view": frozenset({G, INTAKE}),
    "consent.take": frozenset({G, INTAKE}),
    "consent.view": frozenset({G, INTAKE}),
    "consent.withdraw": frozenset({G, INTAKE}),
    "ledger.view": frozenset({G, INTAKE}),
    "catalogue.view": frozenset({G, INTAKE, A, U}),
    "model.view": frozenset({G, A, U}),
    "model.manage": frozenset({A}),
    "users.manage": frozenset({A}),
    "audit.view": frozenset({A, U}),
    "arc.call": frozenset({P}),
}
SECOND_FACTOR: Final = {"model.manage", "users.manage"}


def register_actions(actions: Mapping[str, frozenset[str]], *, second_factor: Iterable[str]) -> None:
    """Let another room's actions be asked here: action → roles. ValueError for a name with other roles."""
    taken = sorted(name for name in actions if ACTIONS.get(name, actions[name]) != actions[name])
    if taken:
        raise ValueError(f"there are actions named {', '.join(taken)} already")
    ACTIONS.update(actions)
    SECOND_FACTOR.update(second_factor)


def has_second_factor(user: User) -> bool:
    """Whether this person proved a second factor: in this session, as the middleware saw it, if there is one.

    Without a session (commands, services among themselves) it is enough that one is set up.
    """
    if user.second_factor_proved is not None:
        return user.second_factor_proved
    from allauth.mfa.models import Authenticator

    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())


def can(user: Any, action: str, obj: models.Model | None = None) -> bool:
    """Whether `user` may do `action`, on `obj` if one is given. An unknown action is a KeyError."""
    allowed = ACTIONS[action]
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return False
    if not user.roles & allowed:
        return False
    if action in SECOND_FACTOR and not has_second_factor(user):
        return False
    return obj is None or _related(user, obj)


def require(user: Any, action: str, obj: models.Model | None = None) -> None:
    """Raise NotAllowed with a sentence unless `can` says yes."""
    if can(user, action, obj):
        return
    if action in SECOND_FACTOR and Role.SITE_ADMIN in getattr(user, "roles", ()):
        raise NotAllowed("This needs a second factor. Set one up under Account, then sign in again with it.")
    raise NotAllowed("Your account may not do this. Ask a site admin if you need it.")


def _related(user: User, obj: models.Model) -> bool:
    team = _team_of(obj)
    return team is None or user.teams.filter(pk=team).exists()


def _team_of(obj: models.Model) -> int | None:
    """The team that owns a row, or None for rows that belong to the whole site."""
    if isinstance(obj, Patient | Case):
        return obj.team_id
    if isinstance(obj, Photo | RankingRecord):
        return obj.case.team_id
    if isinstance(obj, Diagnosis):
        return obj.patient.team_id
    return None


def visible_to(user: User, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Only the rows of a patient, case, photo or ranking queryset that `user` may know of."""
    teams = user.teams.values("pk")
    model = queryset.model
    if model is Patient:
        return queryset.filter(team__in=teams) if user.roles & {G, INTAKE} else queryset.none()
    if G not in user.roles:
        return queryset.none()
    if model is Case:
        return queryset.filter(team__in=teams)
    if model in (Photo, RankingRecord):
        return queryset.filter(case__team__in=teams)
    raise NotImplementedError(f"no visibility rule for {model.__name__}")
