"""The socket of an open case page: small hints upon which the page refreshes its partial.

Permission is asked when it opens and again before every message, on a freshly read session and user: who
was signed out, moved to another team or disabled in between hears nothing more.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path

from diagnosis.models import Case
from diagnosis.permissions import can
from diagnosis.progress import group

NOT_ALLOWED = 4403


class CaseProgress(AsyncJsonWebsocketConsumer):
    """ws/cases/<case>/ → {"photo": pk or null, "step": str, "progress": per cent}. It takes no messages."""

    case: int
    group: str = ""

    async def connect(self) -> None:
        self.case = self.scope["url_route"]["kwargs"]["case"]
        if not await self._allowed():
            await self.close(NOT_ALLOWED)
            return
        self.group = group(self.case)
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any) -> None:
        """A page has nothing to say here; what arrives is dropped unread."""

    async def case_changed(self, message: dict[str, Any]) -> None:
        """A hint from progress.say."""
        if not await self._allowed():
            await self.close(NOT_ALLOWED)
            return
        await self.send_json({key: message[key] for key in ("photo", "step", "progress")})

    async def _allowed(self) -> bool:
        fresh = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        user = await get_user({"session": fresh})
        return bool(await database_sync_to_async(_may_follow)(user, self.case))


def _may_follow(user: Any, case: int) -> bool:
    found = Case.objects.filter(pk=case).first()
    return found is not None and can(user, "case.view", found)


class SameOrigin:
    """Refuses sockets that another site's page opens: browsers send cookies along, but also the Origin.

    Host and port must be those the browser asked (two sites on one host differ only by port), or the
    origin be named in CSRF_TRUSTED_ORIGINS. Without an Origin it is no browser's page: refused.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not same_origin(headers.get(b"origin", ""), headers.get(b"host", "")):
            await receive()  # the connect message
            await send({"type": "websocket.close", "code": NOT_ALLOWED})
            return
        await self.application(scope, receive, send)


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` may open a socket to `host`, which must be one of this site's names."""
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


websocket_urlpatterns = [path("ws/cases/<int:case>/", CaseProgress.as_asgi())]
