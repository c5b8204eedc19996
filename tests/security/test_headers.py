"""Headers over every URL of the site, for strangers and for people of each kind, errors included."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver

from diagnosis.models import Consent, Photo, Syndrome


def patterns(entries: Any = None, prefix: str = "") -> list[str]:
    """Every route of the site as text, such as cases/<int:pk>/."""
    found = []
    for entry in entries if entries is not None else get_resolver().url_patterns:
        route = prefix + str(entry.pattern)
        found += [route] if isinstance(entry, URLPattern) else patterns(entry.url_patterns, route)
    return found


@pytest.fixture
def world(make_user: Any, make_patient: Any, make_case: Any, team: Any) -> dict[str, Any]:
    patient = make_patient()
    case = make_case(patient)
    photo = Photo.objects.create(case=case, patient=patient)
    syndrome = Syndrome.objects.create(identifier="SYN:0001", name="One")
    ids = {"cases": case.pk, "photos": photo.pk, "gallery": photo.pk, "composites": syndrome.pk,
           "patients": patient.pk}  # fmt: skip
    users = {role: make_user(roles={role}, team=team) for role in ("geneticist", "intake", "auditor")}
    users["admin"] = make_user(roles={"site_admin"}, second_factor=True, team=team)
    return {"ids": ids, "users": users, "consent": Consent.objects.get().pk}


def address(route: str, world: dict[str, Any]) -> str:
    """The route with something real in each place."""
    import re

    head = re.sub(r"^\^?(api/)?", "", route).split("/")[0]
    number = world["ids"].get(head, world["users"]["intake"].pk)
    for pattern, value in (
        (r"<int:consent_pk>", world["consent"]), (r"<int:\w+>", number), (r"<slug:\w+>", "crop"),
        (r"<str:\w+>", "SYN:0001"), (r"\(\?P<\w+>[^)]*\)", "x"), (r"<\w+:\w+>", "x"), (r"[\^$]", ""),
        (r"\.\+", "nothing"), (r"\\", ""),
    ):  # fmt: skip
        route = re.sub(pattern, str(value), route)
    return "/" + route


def check(answer: Any, where: str) -> None:
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "*" not in policy, where
    for directive in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'self'"):
        assert directive in policy, where
    assert headers["Cache-Control"].startswith("no-store"), where
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY", where
    assert headers["Referrer-Policy"] == "same-origin", where
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin", where
    assert "geolocation=()" in headers["Permissions-Policy"], where
    assert not {"Server", "X-Powered-By"} & set(headers), where
    if headers.get("Content-Type", "").startswith("text/html"):
        text = answer.content.decode()
        assert "<script>" not in text and " onclick=" not in text and "<style" not in text, where
        assert " style=" not in text, where


@pytest.mark.parametrize("who", ["nobody", "geneticist", "intake", "auditor", "admin"])
def test_every_answer_has_the_headers(world: dict[str, Any], who: str) -> None:
    routes, kinds = patterns(), set()
    assert len(routes) > 80
    for route in routes:
        client = Client(raise_request_exception=False)
        if who != "nobody":
            client.force_login(world["users"][who])
        answer = client.get(address(route, world))
        where = f"GET {address(route, world)} as {who}: {answer.status_code}"
        assert answer.status_code < 500, where
        check(answer, where)
        kinds.add(answer.status_code)
    assert {302, 404, 405} <= kinds and (who == "nobody" or 200 in kinds)


def test_errors_have_them_too(client: Client, db: None, settings: Any) -> None:
    for path in ("/nowhere/", "/api/nowhere/", "/cases/999999999999999999999/", "/static/nothing.css"):
        answer = client.get(path)
        assert answer.status_code in (302, 401, 404), path
        if not path.startswith("/static/"):
            check(answer, path)


def test_a_failure_shows_nothing(make_user: Any, team: Any, monkeypatch: Any) -> None:
    from diagnosis import selectors
    from diagnosis.api import site

    def fail(*_: Any) -> Any:
        raise RuntimeError("Canaryname in a message")

    monkeypatch.setattr(selectors, "extractors", fail)
    client = Client(raise_request_exception=False)
    client.force_login(make_user(team=team))
    answer = client.get("/api/models/")
    assert site.selectors is selectors and answer.status_code == 500
    assert "Canaryname" not in answer.content.decode() and "RuntimeError" not in answer.content.decode()
    check(answer, "500")
