"""The production profile as a hospital runs it: no check finds anything; headers and cookies are tight."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What docs/operations.md tells an administrator to set."""
    folder = tmp_path_factory.mktemp("production")
    secret = folder / "secret-key"
    secret.write_text(secrets.token_urlsafe(64), encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.prod", "SECRET_KEY_FILE": str(secret),
        "GESTALTWEB_HOME": str(folder / "home"), "GESTALTWEB_SLUG": "clinic",
        "ALLOWED_HOSTS": "gestalt.hospital.example", "BEHIND_TLS_PROXY": "1",
        "TRUSTED_PROXY": "10.0.0.5",
        "CSRF_TRUSTED_ORIGINS": "https://gestalt.hospital.example",
    }  # fmt: skip


SERVICES = {
    "DATABASE_URL": "postgres://gestaltweb@127.0.0.1:5432/gestaltweb",
    "REDIS_URL": "redis://127.0.0.1:6379/0", "CELERY_BROKER_URL": "redis://127.0.0.1:6379/1",
    "S3_BUCKET": "gestaltweb", "S3_ENDPOINT": "https://s3.hospital.example",
}  # fmt: skip


def manage(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), *words]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("services", [{}, SERVICES], ids=["embedded", "services"])
def test_check_deploy_finds_nothing_and_silences_nothing(environment: Any, services: dict[str, str]) -> None:
    found = manage(environment | services, "check", "--deploy", "--fail-level", "DEBUG")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.strip() == "System check identified no issues (0 silenced)."


@pytest.mark.parametrize(
    ("missing", "sentence"), [("SECRET_KEY_FILE", "set SECRET_KEY"), ("ALLOWED_HOSTS", "set ALLOWED_HOSTS")]
)
def test_nothing_is_defaulted_away(environment: Any, missing: str, sentence: str) -> None:
    rest = {name: value for name, value in environment.items() if name != missing}
    found = manage(rest, "check")
    assert found.returncode != 0 and sentence in found.stderr


@pytest.fixture(scope="module")
def answers(environment: dict[str, str]) -> dict[str, Any]:
    probe = [sys.executable, str(HERE / "production_probe.py")]
    found = subprocess.run(probe, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


def test_plain_http_is_sent_to_https(answers: Any) -> None:
    assert answers["plain"]["status"] == 301
    assert answers["plain"]["headers"]["Location"].startswith("https://gestalt.hospital.example/")


@pytest.mark.parametrize("page", ["login_page", "login", "home", "api", "docs", "missing", "broken"])
def test_headers(answers: Any, page: str) -> None:
    headers = answers[page]["headers"]
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "*" not in policy and "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy and headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "no-store" in headers["Cache-Control"]
    assert not {"Server", "X-Powered-By"} & set(headers)


def test_expected_answers(answers: Any) -> None:
    wanted = {"login_page": 200, "login": 302, "home": 200, "api": 200, "docs": 200, "missing": 404,
              "other_host": 400, "broken": 500}  # fmt: skip
    assert {name: answers[name]["status"] for name in wanted} == wanted


def test_cookies(answers: Any) -> None:
    cookies = answers["login_page"]["cookies"] | answers["login"]["cookies"]
    assert {"__Host-gw_clinic_session", "__Host-gw_clinic_csrf"} <= set(cookies)
    for name, flags in cookies.items():
        if name.startswith("__Host-"):  # what a browser demands of that prefix
            assert flags["secure"] and flags["path"] == "/" and not flags["domain"], name
        assert flags["secure"] and flags["samesite"] == "Lax", name
    assert cookies["__Host-gw_clinic_session"]["httponly"]


def test_a_fault_tells_nothing(answers: Any) -> None:
    broken = answers["broken"]
    for text in (broken["body"], broken["log"]):
        assert "Canaryname" not in text
    assert "Traceback" not in broken["body"] and "RuntimeError" not in broken["body"]
    assert "RuntimeError" in broken["log"]  # whoever runs the site does learn of it
    assert "Traceback" not in answers["missing"]["body"] and "urlpatterns" not in answers["missing"]["body"]


def test_static_files_are_named_by_content(answers: Any) -> None:
    assert "/static/css/base.css" not in answers["home"]["body"]
    assert "/static/css/base." in answers["home"]["body"]
