"""A coordinator has accounts, audit and the doors of its federation, and nothing of a clinic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import Client
from django.urls import NoReverseMatch, clear_url_caches, reverse, set_urlconf

ROOT = Path(__file__).resolve().parents[2]
CLINIC_PATHS = (
    "/cases/", "/cases/1/", "/patients/", "/patients/1/", "/photos/1/crop/", "/gallery/1/", "/model/", "/i/x/",
    "/intake/", "/ledger/", "/language/", "/api/", "/api/cases/", "/api/docs/", "/predict", "/status",
)  # fmt: skip


@pytest.fixture
def coordinator(settings: Any, db: None) -> Any:
    """The settings as GESTALTWEB_ROLE=coordinator makes them."""
    settings.SITE_ROLE = "coordinator"
    settings.ROOT_URLCONF = "gestaltweb.coordinator_urls"
    clear_url_caches()
    yield settings
    clear_url_caches()
    set_urlconf(None)


@pytest.fixture
def admin(make_user: Any, sign_in: Any) -> Client:
    return sign_in(Client(), make_user(roles={"site_admin", "geneticist"}, second_factor=True))


@pytest.mark.parametrize("path", CLINIC_PATHS)
def test_no_page_of_a_clinic_is_there(coordinator: Any, admin: Client, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == 404 and b"There is no such page" in answer.content


def test_clinic_names_do_not_resolve(coordinator: Any) -> None:
    for name in ("case_list", "patient_list", "intake_now", "ledger_enter", "model_page", "home"):
        with pytest.raises(NoReverseMatch):
            reverse(f"clinic:{name}")


def test_administration_is_there_and_names_no_model(coordinator: Any, admin: Client) -> None:
    from diagnosis.models import User

    account = f"/users/{User.objects.order_by('pk')[0].pk}/"
    for path in ("/users/", account, "/audit/", "/audit/?check", "/account/2fa/", "/health/"):
        assert admin.get(path).status_code == 200, path
    page = admin.get("/users/").content.decode()
    assert "no model installed" not in page and 'href="/cases/"' not in page and 'href="/model/"' not in page


def test_home_is_the_console_or_the_account(
    coordinator: Any, make_user: Any, sign_in: Any, admin: Client
) -> None:
    assert admin.get("/").url == "/federation/"
    newcomer = sign_in(Client(), make_user(roles={"site_admin"}))
    assert newcomer.get("/").url == reverse("mfa_index")
    assert Client().get("/").url.startswith("/account/login/")


def test_a_coordinator_is_set_up_without_model_and_team(coordinator: Any) -> None:
    from diagnosis.models import Extractor, Team, User

    call_command("init_site", verbosity=0)
    assert not Extractor.objects.exists() and not Team.objects.exists()
    assert User.objects.get().username == "admin"
    found = [entry.id for entry in run_checks(databases=["default"]) if entry.id.startswith("gestaltweb.")]
    assert found == []


@pytest.mark.parametrize("role", ["hospital", "coordinator"])
def test_urls_follow_the_role_and_a_coordinator_loads_no_torch(role: str, tmp_path: Path) -> None:
    code = (
        "import json, sys; from gestaltweb import asgi; from django.urls import get_resolver, is_valid_path;"
        "import federation.agent; get_resolver().url_patterns;"
        "print(json.dumps([bool(is_valid_path(path)) for path in ('/cases/', '/federation/v1/links')] + ["
        "'torch' in sys.modules]))"
    )
    environment = os.environ | {
        "GESTALTWEB_ROLE": role, "GESTALTWEB_HOME": str(tmp_path / "home"),
        "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.dev",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    clinic, doors, torch = json.loads(done.stdout)
    assert clinic == (role == "hospital") and doors == (role == "coordinator")
    assert role == "hospital" or not torch
