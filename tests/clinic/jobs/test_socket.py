"""The socket of a case page: who may listen, from where, and how soon an idle one hears."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from diagnosis import progress
from diagnosis.consumers import same_origin

pytestmark = pytest.mark.django_db(transaction=True)
HOST = b"127.0.0.1:8001"


def signed_in(user) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key


class Line(ApplicationCommunicator):
    """One socket through the whole ASGI application (channels' own helper needs daphne)."""

    async def connect(self, timeout: float = 5) -> tuple[bool, Any]:
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(timeout)
        return answer["type"] == "websocket.accept", answer.get("code")

    async def receive_json_from(self, timeout: float) -> Any:
        return json.loads((await self.receive_output(timeout))["text"])

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)


def socket(case: int, session: str = "", origin: bytes = b"http://127.0.0.1:8001") -> Line:
    from gestaltweb.asgi import application

    cookie = f"{django_settings.SESSION_COOKIE_NAME}={session}".encode()
    scope = {
        "type": "websocket", "path": f"/ws/cases/{case}/", "raw_path": b"", "query_string": b"",
        "headers": [(b"host", HOST), (b"origin", origin), (b"cookie", cookie)], "subprotocols": [],
    }  # fmt: skip
    return Line(application, scope)


@pytest.fixture
def scene(make_user, make_patient, make_case, team):
    user = make_user(team=team)
    return user, make_case(make_patient()), signed_in(user)


@pytest.mark.asyncio
async def test_an_idle_socket_hears_of_a_worker_threads_progress_within_half_a_second(scene) -> None:
    """The worker is a thread, the loop sleeps: the case in which an in-memory layer can wait for seconds."""
    _, case, session = scene
    line = socket(case.pk, session)
    assert (await line.connect(timeout=5))[0]
    progress.serve_from(asyncio.get_running_loop())
    try:
        await asyncio.sleep(1.0)
        sent: list[float] = []

        def work() -> None:
            sent.append(time.perf_counter())
            progress.say(case=case.pk, photo=3, step="finding the face", percent=15)

        await asyncio.to_thread(work)
        assert await line.receive_json_from(timeout=5) == {
            "photo": 3,
            "step": "finding the face",
            "progress": 15,
        }
        delay = time.perf_counter() - sent[0]
        print(f"progress after {delay * 1000:.0f} ms")
        assert delay < 0.5
    finally:
        progress.serve_from(None)
        await line.disconnect()


@pytest.mark.asyncio
async def test_strangers_and_other_teams_are_refused(scene, make_user) -> None:
    _, case, _ = scene
    users = [await sync_to_async(make_user)(**kind) for kind in ({}, {"roles": ("site_admin",)})]
    others = [await sync_to_async(signed_in)(user) for user in users]
    for session in ["", "nonsense", *others]:
        line = socket(case.pk, session)
        assert (await line.connect(timeout=5))[0] is False


@pytest.mark.asyncio
async def test_a_case_that_is_not_there_is_refused_like_one_that_is_not_yours(scene) -> None:
    _, case, session = scene
    assert await socket(case.pk + 999, session).connect(timeout=5) == (False, 4403)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["role", "team", "inactive", "signed out"])
async def test_permission_is_asked_again_before_every_message(scene, change: str) -> None:
    user, case, session = scene
    line = socket(case.pk, session)
    assert (await line.connect(timeout=5))[0]
    await database_sync_to_async(take_away)(user, session, change)
    progress.serve_from(asyncio.get_running_loop())
    try:
        await asyncio.to_thread(progress.say, case=case.pk, photo=1, step="ready", percent=100)
        answer = await line.receive_output(timeout=5)
    finally:
        progress.serve_from(None)
    assert answer == {"type": "websocket.close", "code": 4403}


def take_away(user, session: str, change: str) -> None:
    if change == "role":
        user.grants.all().delete()
    elif change == "team":
        user.teams.clear()
    elif change == "inactive":
        type(user).objects.filter(pk=user.pk).update(is_active=False)
    else:
        SessionStore(session).delete()


@pytest.mark.asyncio
@pytest.mark.parametrize("origin", [b"http://evil.example", b"http://127.0.0.1:8002", b"", b"null"])
async def test_pages_of_other_origins_are_refused(scene, origin: bytes) -> None:
    _, case, session = scene
    assert (await socket(case.pk, session, origin).connect(timeout=5))[0] is False


def test_origins_one_by_one(settings) -> None:
    settings.ALLOWED_HOSTS = ["clinic.example"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://proxy.example"]
    assert same_origin("https://clinic.example", "clinic.example")
    assert same_origin("https://CLINIC.example:8443", "clinic.example:8443")
    assert same_origin("https://proxy.example", "clinic.example")
    assert not same_origin("https://clinic.example:8443", "clinic.example")
    assert not same_origin("https://clinic.example.evil", "clinic.example")
    assert not same_origin("http://rebound.example", "rebound.example"), "a host that is not ours"
    assert not same_origin("file://clinic.example", "clinic.example")


@pytest.mark.asyncio
async def test_what_a_page_says_is_ignored(scene) -> None:
    _, case, session = scene
    line = socket(case.pk, session)
    await line.connect(timeout=5)
    await line.send_input({"type": "websocket.receive", "text": "{not json"})
    await line.send_input({"type": "websocket.receive", "bytes": b"\0\xff"})
    assert await line.receive_nothing(timeout=0.3)
    await line.disconnect()
