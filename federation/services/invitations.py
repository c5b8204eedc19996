"""Invitations: a code that one hospital joins with, handed over by its admin's own way of being sure."""

from __future__ import annotations

from dataclasses import dataclass, field

from diagnosis.models import User


@dataclass(frozen=True)
class InvitationCode:
    """What a code says: where the coordinator is, its key and federation (64 hex), the one-time token."""

    address: str
    federation: str
    coordinator_key: str
    token: str = field(repr=False)
    title: str = ""


def invitation_create(*, user: User | None, title: str, address: str = "") -> str:
    """Coordinator: a code for one hospital, shown once; it expires in 14 days."""
    raise NotImplementedError


def code_parse(code: str) -> InvitationCode:
    """The invitation in this code. InvalidInput with what to do for anything else."""
    raise NotImplementedError
