"""Each system check finds the fault it is for, and finds nothing on a sound site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from diagnosis import vault


@pytest.fixture
def faults(settings: Any, site_home: Path) -> Callable[[], set[str]]:
    """faults() → ids of our own findings, deployment checks included."""
    Path(settings.GESTALTWEB_KEYS).chmod(0o700)
    settings.ALLOWED_HOSTS = ["gestalt.example"]

    def run() -> set[str]:
        found = run_checks(include_deployment_checks=True)
        return {message.id for message in found if message.id.startswith("gestaltweb.")}

    return run


def test_a_sound_site_has_none(faults: Any) -> None:
    assert faults() == set()


def test_keys_that_others_can_read(faults: Any, settings: Any) -> None:
    keys = Path(settings.GESTALTWEB_KEYS)
    (keys / "master" / "1").chmod(0o640)
    assert faults() == {"gestaltweb.E101"}
    (keys / "master" / "1").chmod(0o600)
    (keys / "django.key").write_text("x")
    (keys / "django.key").chmod(0o604)
    assert faults() == {"gestaltweb.E101"}


def test_a_vault_writes_keys_that_pass(faults: Any, settings: Any) -> None:
    import uuid

    vault.create_master_key()
    vault.create_key(uuid.uuid4())
    assert faults() == set()


def test_a_home_or_keys_that_are_served(faults: Any, settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    assert faults() == {"gestaltweb.E102"}
    settings.STATIC_ROOT = None
    settings.MEDIA_ROOT = str(settings.GESTALTWEB_HOME)
    assert faults() == {"gestaltweb.E102"}
    settings.MEDIA_ROOT = str(tmp_path / "public")
    assert faults() == set()


def test_keys_among_the_files(faults: Any, settings: Any) -> None:
    settings.GESTALTWEB_FILES = Path(settings.GESTALTWEB_KEYS).parent
    assert faults() == {"gestaltweb.E103"}


def test_debug(faults: Any, settings: Any) -> None:
    settings.DEBUG = True
    assert faults() == {"gestaltweb.E104"}


def test_a_clock_before_the_software(faults: Any) -> None:
    import time_machine

    with time_machine.travel("2020-01-01", tick=False):
        assert faults() == {"gestaltweb.E105"}


def test_hosts_origins_and_proxy(faults: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://a.example", "http://b.example"]
    settings.SECURE_SSL_REDIRECT = True
    assert faults() == {"gestaltweb.E106", "gestaltweb.E107", "gestaltweb.W108"}
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert faults() == {"gestaltweb.E106", "gestaltweb.E107", "gestaltweb.W110"}
    settings.TRUSTED_PROXIES = ["10.0.0.5"]
    assert faults() == {"gestaltweb.E106", "gestaltweb.E107"}


@pytest.mark.parametrize("hole", ["'unsafe-inline'", "'unsafe-eval'", "*"])
def test_a_policy_with_a_hole(faults: Any, settings: Any, hole: str) -> None:
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": directives | {"script-src": ["'self'", hole]}}
    assert faults() == {"gestaltweb.E109"}
