"""Who works here and who is looked after: users with roles and teams, patients with sealed identities."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _

from diagnosis.models.base import state_constraint


class Role(models.TextChoices):
    """Roles combine; approving for the hospital needs SITE_ADMIN and a second factor."""

    GENETICIST = "geneticist", _("Geneticist")
    INTAKE = "intake", _("Intake staff")
    SITE_ADMIN = "site_admin", _("Site admin")
    AUDITOR = "auditor", _("Auditor")
    API = "api", _("API account")


class Team(models.Model):
    """A clinic team; cases belong to one team and only its geneticists see their faces."""

    name = models.CharField(max_length=80, unique=True)

    def __str__(self) -> str:
        return self.name


class User(AbstractUser):
    """A person or API account. `is_superuser` grants nothing here: permissions.can never reads it."""

    teams = models.ManyToManyField(Team, related_name="members", blank=True)

    # What the middleware saw in this session: True, False, or None outside of requests.
    second_factor_proved: bool | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The roles this user holds now, read once per request object."""
        if not hasattr(self, "_roles"):
            self._roles: frozenset[str] = frozenset(self.grants.values_list("role", flat=True))
        return self._roles

    def forget_roles(self) -> None:
        """Drop the per-request memory after a grant was added or removed."""
        self.__dict__.pop("_roles", None)


class RoleGrant(models.Model):
    """One role of one user, with who gave it and when."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="grants")
    role = models.CharField(max_length=20, choices=Role.choices)
    granted_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    granted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "role"], name="role_once_per_user")]

    def __str__(self) -> str:
        return f"{self.role} of user {self.user_id}"


class ApiToken(models.Model):
    """A bearer or Basic credential of an API account; only a hash is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.label


class Sex(models.TextChoices):
    FEMALE = "female", _("female")
    MALE = "male", _("male")
    OTHER = "other", _("other")
    UNKNOWN = "unknown", _("not stated")


class Patient(models.Model):
    """A patient under a pseudonym. Name and date of birth are sealed under the patient's own data key.

    `key` names that data key in the vault; destroying it is what erases the identity everywhere,
    backups included. `state` follows the consent table; what is allowed is read from the latest Consent
    row, never from here.
    """

    code = models.CharField(max_length=20, unique=True, help_text="the pseudonym shown to clinicians")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="patients")
    sex = models.CharField(max_length=10, choices=Sex.choices, default=Sex.UNKNOWN)
    ancestry = models.CharField(max_length=60, blank=True)
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    sealed_identity = models.BinaryField(null=True)
    state = models.CharField(max_length=12, default="none")
    ledger_code_hash = models.CharField(max_length=64, blank=True, db_index=True)
    birth_hash = models.CharField(max_length=64, blank=True)
    affected = models.BooleanField(default=True, help_text="false for an unaffected reference person")
    synthetic = models.BooleanField(default=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [state_constraint("consent")]

    def __str__(self) -> str:
        return self.code
