"""What every test may use: a home of its own with a master key, and people, patients and cases."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def site_home(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """A fresh GESTALTWEB_HOME for each test: files, keys and models, with one master key."""
    from diagnosis import vault

    home = tmp_path / "home"
    settings.GESTALTWEB_HOME = home
    settings.GESTALTWEB_KEYS = home / "keys"
    settings.GESTALTWEB_FILES = home / "files"
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": home / "files", "base_url": None, "file_permissions_mode": 0o600},
        }
    }
    home.mkdir()
    vault.create_master_key()
    yield home


_numbers = itertools.count(1)


@pytest.fixture
def team(db: None) -> Any:
    from diagnosis.models import Team

    return Team.objects.create(name=f"Team {next(_numbers)}")


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    """make_user(roles={...}, team=...) → User with password 'correct horse battery' and those roles."""
    from diagnosis.models import RoleGrant, User

    def make(*, roles: Any = ("geneticist",), team: Any = None, second_factor: bool = False) -> Any:
        user = User.objects.create_user(f"user{next(_numbers)}", password="correct horse battery")
        for role in roles:
            RoleGrant.objects.create(user=user, role=role)
        if team is not None:
            user.teams.add(team)
        if second_factor:
            from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

            TOTP.activate(user, generate_totp_secret())
        return user

    return make


@pytest.fixture
def sign_in() -> Callable[..., Any]:
    """sign_in(client, user): signed in with password and, where one is set up, the second factor."""

    def enter(client: Any, user: Any) -> Any:
        from diagnosis.permissions import has_second_factor

        client.force_login(user)
        if has_second_factor(user):
            session = client.session
            session["account_authentication_methods"] = [{"method": "mfa", "type": "totp"}]
            session.save()
        return client

    return enter


@pytest.fixture
def consent_form(db: None) -> Any:
    from diagnosis.models import ConsentForm

    text = {"title": "Test form"}
    digest = hashlib.sha256(json.dumps(text).encode()).hexdigest()
    return ConsentForm.objects.get_or_create(
        version="test", language="en", sha256=digest, defaults={"text": text}
    )[0]


@pytest.fixture
def sign(consent_form: Any) -> Callable[..., Any]:
    """sign(patient, {"analysis", …}) → Consent row straight into the table, state 'given'."""
    from django.utils import timezone

    from diagnosis.models import Consent, Tier

    def write(patient: Any, tiers: Any) -> Any:
        kind = "given" if tiers else "withdrawn"
        type(patient).objects.filter(pk=patient.pk).update(state=kind)
        patient.refresh_from_db()
        choices = {tier.value: tier.value in tiers for tier in Tier}
        return Consent.objects.create(
            patient=patient, form=consent_form, kind=kind, signer="self", language="en",
            signed_at=timezone.now(), **choices,
        )  # fmt: skip

    return write


@pytest.fixture
def make_patient(team: Any, sign: Callable[..., Any]) -> Callable[..., Any]:
    """make_patient(tiers={"analysis"}) → Patient with an own data key and a sealed identity."""
    from diagnosis import vault
    from diagnosis.models import Patient

    default_team = team

    def make(*, team: Any = None, tiers: Any = ("analysis",), **fields: Any) -> Any:
        patient = Patient(code=f"T-{next(_numbers):04d}", team=team or default_team, **fields)
        vault.create_key(patient.key)
        identity = {
            "given_name": "Ada", "family_name": "Canaryname",
            "date_of_birth": dt.date(2019, 5, 17).isoformat(),
        }  # fmt: skip
        patient.sealed_identity = vault.seal(patient.key, json.dumps(identity).encode(), purpose="identity")
        patient.save()
        if tiers:
            sign(patient, tiers)
        return patient

    return make


@pytest.fixture
def make_case() -> Callable[..., Any]:
    """make_case(patient) → an open Case of the patient's team."""
    from diagnosis.models import Case

    def make(patient: Any, **fields: Any) -> Any:
        return Case.objects.create(patient=patient, team=patient.team, **fields)

    return make
