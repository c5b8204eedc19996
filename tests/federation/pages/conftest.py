"""People who may look, people who may act, and a code that a second factor would show now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import clear_url_caches, set_urlconf

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def own_settings(settings: Any) -> Iterator[None]:
    """A hospital, and no code used or wrongly typed before."""
    settings.SITE_ROLE = "hospital"
    settings.MFA_TOTP_PERIOD = 30
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def coordinator(settings: Any) -> Iterator[None]:
    """The settings as GESTALTWEB_ROLE=coordinator makes them."""
    settings.SITE_ROLE = "coordinator"
    settings.ROOT_URLCONF = "gestaltweb.coordinator_urls"
    clear_url_caches()
    yield
    clear_url_caches()
    set_urlconf(None)


@pytest.fixture
def people(make_user: Callable[..., Any]) -> Any:
    """admin, with a second factor; bare, a site admin without one; auditor; geneticist."""
    return SimpleNamespace(
        admin=make_user(roles={"site_admin"}, second_factor=True), bare=make_user(roles={"site_admin"}),
        auditor=make_user(roles={"auditor"}), geneticist=make_user(roles={"geneticist"}),
    )  # fmt: skip


@pytest.fixture
def admin(people: Any, sign_in: Callable[..., Any]) -> Client:
    return sign_in(Client(), people.admin)


@pytest.fixture
def auditor(people: Any, sign_in: Callable[..., Any]) -> Client:
    return sign_in(Client(), people.auditor)


@pytest.fixture
def code(people: Any) -> Callable[[], str]:
    """code() → what the admin's app shows now."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
    from allauth.mfa.utils import decrypt

    def now() -> str:
        secret = decrypt(Authenticator.objects.get(user=people.admin, type="totp").data["secret"])
        return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))

    return now


@pytest.fixture
def clinic(db: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model and a catalogue; a dry run that finds photos without looking for any."""
    import pages_world

    from federation.services import dry_run

    monkeypatch.setattr(dry_run, "dry_run", lambda plan: pages_world.dry_run_found())
    monkeypatch.setattr(dry_run, "samples_now", lambda k: 210)
    return pages_world.clinic()
