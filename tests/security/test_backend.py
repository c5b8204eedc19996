"""The same tests on PostgreSQL and Redis: migrations, selectors, the audit chain, leases and the vault."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POSTGRES, REDIS = ("127.0.0.1", 5432), ("127.0.0.1", 6379)
ON_BOTH = (
    "tests/security/test_concurrency.py", "tests/foundation/test_audit.py", "tests/foundation/test_outbox.py",
    "tests/foundation/test_vault.py", "tests/clinic/api/test_rest.py",
    "tests/clinic/consent/test_lock_order.py",
)  # fmt: skip


def answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """A database name of this run; pytest-django creates and drops test_<name>."""
    absent = [f"{host}:{port}" for host, port in (POSTGRES, REDIS) if not answers((host, port))]
    if absent:
        sentence = f"nothing answers at {', '.join(absent)}: the production profile was NOT tested"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    name = f"gestaltweb_{os.getpid()}_{secrets.token_hex(3)}"
    rest = {key: value for key, value in os.environ.items() if not key.startswith(("GESTALTWEB_", "PYTEST_"))}
    return rest | {
        "DATABASE_URL": f"postgres://postgres@{POSTGRES[0]}:{POSTGRES[1]}/{name}",
        "REDIS_URL": f"redis://{REDIS[0]}:{REDIS[1]}/15", "GESTALTWEB_SLUG": name,
    }  # fmt: skip


def python(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.mark.backend
@pytest.mark.timeout(700)
def test_the_same_tests_pass_on_postgresql_and_redis(environment: dict[str, str]) -> None:
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--create-db", *ON_BOTH)
    found = python(environment, *command)
    assert found.returncode == 0, found.stdout[-6000:]
    assert " passed" in found.stdout and " skipped" not in found.stdout.splitlines()[-1]


@pytest.mark.backend
def test_it_really_was_postgresql(environment: dict[str, str]) -> None:
    """The settings that the run above used name what was meant, and migrations fit the models."""
    code = (
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'gestaltweb.settings.test'\n"
        "import django; django.setup()\n"
        "from django.conf import settings; from django.core.cache import cache\n"
        "print(settings.DATABASES['default']['ENGINE'], settings.CHANNEL_LAYERS['default']['BACKEND'])\n"
        "cache.set('gestaltweb-probe', 7, 5); print(type(cache._connections['default']).__name__, "
        "cache.get('gestaltweb-probe')); cache.delete('gestaltweb-probe')\n"
    )
    lines = python(environment, "-c", code).stdout.splitlines()
    assert lines[0] == "django.db.backends.postgresql channels_redis.core.RedisChannelLayer"
    assert lines[1].endswith("RedisCache 7")


@pytest.mark.backend
def test_nothing_is_left_behind(environment: dict[str, str]) -> None:
    import psycopg

    name = environment["DATABASE_URL"].rpartition("/")[2]
    with psycopg.connect(host=POSTGRES[0], port=POSTGRES[1], user="postgres", dbname="postgres") as database:
        rows = database.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"%{name}%"]
        ).fetchall()
    assert rows == []
