"""Run with the production settings: set the site up, ask for pages, print what came back as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402

HOST = settings.ALLOWED_HOSTS[0]
BEHIND = {"HTTP_HOST": HOST, "HTTP_X_FORWARDED_PROTO": "https"}


def facts(answer: Any) -> dict[str, Any]:
    """Status, headers, cookies with their flags, and the body of one answer."""
    cookies = {
        name: {flag: morsel[flag] for flag in ("secure", "httponly", "samesite", "path", "domain")}
        for name, morsel in answer.cookies.items()
    }
    body = b"" if answer.streaming else answer.content
    return {"status": answer.status_code, "headers": dict(answer.headers), "cookies": cookies,
            "body": body.decode("utf-8", "replace")}  # fmt: skip


def main() -> None:
    settings.STATIC_ROOT = str(Path(settings.GESTALTWEB_HOME).parent / "static")
    with contextlib.redirect_stdout(io.StringIO()):
        call_command("collectstatic", "--noinput", verbosity=0)
        call_command("init_site", "--no-extractor", verbosity=0)
    from diagnosis.models import RoleGrant, User

    user = User.objects.create_user("geneticist", password="correct horse battery")
    RoleGrant.objects.create(user=user, role="geneticist")
    client = Client(raise_request_exception=False)
    found = {"plain": facts(client.get("/account/login/", HTTP_HOST=HOST))}
    found["login_page"] = facts(client.get("/account/login/", **BEHIND))
    form = {"login": "geneticist", "password": "correct horse battery"}
    found["login"] = facts(client.post("/account/login/", form, **BEHIND))
    for name, path in {
        "home": "/cases/",
        "api": "/api/cases/",
        "docs": "/api/docs/",
        "missing": "/nowhere/",
    }.items():
        found[name] = facts(client.get(path, **BEHIND))
    found["other_host"] = facts(client.get("/", **(BEHIND | {"HTTP_HOST": "evil.example"})))
    found["broken"] = broken(client)
    print(json.dumps(found))


def broken(client: Client) -> dict[str, Any]:
    """A page that fails while a name is at hand: neither page nor log may tell it."""
    from django.urls import clear_url_caches, path

    import gestaltweb.urls

    def fail(request: Any) -> None:
        secret_name = "Canaryname"  # a local variable, as a view of a patient has
        raise RuntimeError(f"no page for {len(secret_name)} letters")

    gestaltweb.urls.urlpatterns.append(path("broken/", fail))
    clear_url_caches()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    answer = facts(client.post("/broken/", {"family_name": "Canaryname"}, **BEHIND))
    logging.getLogger().removeHandler(handler)
    return answer | {"log": stream.getvalue()}


main()
