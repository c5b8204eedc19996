"""Every URL × role × relation × method. A URL without a row fails; a refusal also changes nothing.

Rows are in tests/clinic/permission_rows.py. A row names who may GET and who may POST; everybody else must be
refused: anonymous people are sent to sign in (or get 401/403 from the API), signed-in people get 403 or 404.
Any method that a row does not name answers 405 to those who may use the URL at all, and is refused otherwise.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver

sys.path.insert(0, str(Path(__file__).parent))
import permission_rows as rows  # noqa: E402

METHODS = ("get", "post", "put", "patch", "delete")
REFUSED = {302, 401, 403, 404}
CHANGES_BY_ITSELF = {
    "Session",
    "AuditEvent",
}  # a signed-in request may renew its session; refusals may be audited


def all_names(patterns: Any = None, prefix: str = "") -> set[str]:
    """Every URL name of the site, with its namespace."""
    names = set()
    for entry in patterns if patterns is not None else get_resolver().url_patterns:
        if isinstance(entry, URLPattern):
            names.add(f"{prefix}{entry.name or entry.pattern}")
        else:
            inner = f"{prefix}{entry.namespace}:" if entry.namespace else prefix
            names |= all_names(entry.url_patterns, inner)
    return names


def test_every_url_has_a_row_and_every_row_a_url() -> None:
    named = {row.name for row in rows.ROWS}
    assert all_names() - named == set(), "give these URLs a row in permission_rows.py"
    assert named - all_names() == set(), "these rows name no URL"


def fingerprint() -> str:
    """One hash over all rows of all tables, except what a mere visit may touch."""
    digest = hashlib.sha256()
    for model in sorted(apps.get_models(), key=lambda model: model.__name__):
        if model.__name__ not in CHANGES_BY_ITSELF:
            for row in model._base_manager.order_by("pk").values_list():
                digest.update(repr((model.__name__, row)).encode())
    return digest.hexdigest()


@pytest.fixture
def world(db: None, make_user: Any, make_patient: Any, make_case: Any) -> Any:
    return rows.build_world(make_user, make_patient, make_case)


@pytest.mark.parametrize("row", rows.ROWS, ids=[row.name for row in rows.ROWS])
def test_row(row: Any, world: Any, sign_in: Any) -> None:
    clients = {who: Client(raise_request_exception=False) for who in rows.WHO}
    for who, user in world.users.items():
        sign_in(clients[who], user)
    before = fingerprint()
    for who, client in clients.items():
        refused = [method for method in METHODS if not _ask(row, who, method, client, world)]
        assert fingerprint() == before, f"{row.name} as {who}: one of {refused} changed something"


def _ask(row: Any, who: str, method: str, client: Client, world: Any) -> bool:
    """Whether `who` was allowed, with the answer checked. What was allowed is rolled back again."""
    point, cookies = transaction.savepoint(), copy.deepcopy(client.cookies)
    answer = getattr(client, method)(row.address(world), **row.data_for(method, world))
    where = f"{method.upper()} {row.name} as {who}: {answer.status_code}"
    if who in getattr(row, method):
        assert answer.status_code in row.success(method), where
        transaction.savepoint_rollback(point)
        client.cookies = cookies  # the session as it was, too
        return True
    transaction.savepoint_commit(point)
    expected = {405} if method in row.methods and who in row.anyone else REFUSED | {405}
    assert answer.status_code in expected, where
    assert answer.status_code != 302 or "/account/login" in answer["Location"], where
    return False
