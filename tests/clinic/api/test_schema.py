"""The generated schema is what the doors do: hostile input never breaks one, and every answer conforms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import CHECKS as REGISTERED
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig

from diagnosis.models import Photo


@pytest.fixture
def site(api_account: Any, team: Any, make_patient: Any, make_case: Any, make_gallery: Any, extractor: Any,
         settings: Any) -> tuple[str, dict[str, int]]:  # fmt: skip
    """A token that may do everything, on a site with a ranked case; real ids for the paths."""
    from diagnosis import engine, vault
    from diagnosis.models import Embedding
    from diagnosis.services.ranking import case_rank

    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": {"arc": None}}
    make_gallery(syndromes=3)
    _, token = api_account(roles={"geneticist", "intake", "site_admin", "auditor"}, team=team)
    patient = make_patient()
    case = make_case(patient)
    photo = Photo.objects.create(case=case, patient=patient, state="ready", fingerprint="f" * 64, quality=0.5,
                                 width=300, height=300, landmarks=[[1.0, 2.0]] * 5)  # fmt: skip
    vault.create_key(photo.key)
    rows = np.random.default_rng(5).normal(size=(4, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sealed = engine.seal_rows(photo, extractor, rows)
    Embedding.objects.create(photo=photo, extractor=extractor, rows=4, sealed=sealed)
    record = case_rank(case=case)
    return token, {"case": case.pk, "photo": photo.pk, "patient": patient.pk, "ranking": record.pk}


@pytest.fixture
def one_connection() -> Iterator[None]:
    """Requests stay on the test's own connection and transaction, as with Django's test client."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def api_schema(site: Any, one_connection: None) -> Any:
    token, _ = site
    config = SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": False}}})
    return schemathesis.openapi.from_wsgi(
        "/api/schema/", WSGIHandler(), config=config, headers={"Authorization": f"Bearer {token}"}
    )


EXAMPLES = 20
turn = itertools.count()
load_all_checks()
CHECKS = REGISTERED.get_by_names([
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
])  # fmt: skip


def real_ids(case: Any, ids: dict[str, int]) -> None:
    """Three of four requests name something that exists: a random number would only ever meet a 404."""
    if next(turn) % 4 == 0:
        return
    kind = "photo" if "/photos/{id}" in case.operation.path else "case"
    kind = "patient" if "/patients/{id}" in case.operation.path else kind
    for name in case.path_parameters or {}:
        if name in ("id", "ranking"):
            case.path_parameters[name] = ids["ranking" if name == "ranking" else kind]


def attack(operation: Any, site: tuple[str, dict[str, int]]) -> None:
    """Random requests of one operation, the same ones at every run."""
    token, ids = site
    headers = {"Authorization": f"Bearer {token}"}

    @seed(20261120)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def each(case: Any) -> None:
        real_ids(case, ids)
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    each()


def test_every_door_under_hostile_input(api_schema: Any, site: Any) -> None:
    faults, operations = [], [found.ok() for found in api_schema.get_all_operations()]
    for operation in operations:
        try:
            attack(operation, site)
        except (Exception, BaseExceptionGroup) as fault:
            faults.append(f"{operation.label}: {fault}")
    assert len(operations) >= 28
    assert not faults, "\n\n".join(faults)


def test_the_schema_is_whole_and_without_warnings(site: Any, client: Any) -> None:
    from django.core.checks import run_checks

    assert [
        str(found) for found in run_checks(include_deployment_checks=True) if "spectacular" in found.id
    ] == []
    found = client.get("/api/schema/", headers={"Authorization": f"Bearer {site[0]}"}).json()
    assert found["openapi"].startswith("3.") and len(found["paths"]) >= 22
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert path == "/status" or operation["security"], (path, method)
            assert operation["summary"], (path, method)
            assert path == "/status" or {"400", "401", "403"} <= set(operation["responses"]), (path, method)
