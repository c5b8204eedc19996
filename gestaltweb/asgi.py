"""HTTP and WebSocket, and a lifespan that Django itself ignores: it starts and stops what is embedded."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gestaltweb.settings.dev")
os.umask(0o077)  # however the server was started, what it writes is this account's alone
http = get_asgi_application()  # first: it sets Django up for the imports below

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from diagnosis.consumers import SameOrigin, websocket_urlpatterns  # noqa: E402
from gestaltweb.embedded import worker  # noqa: E402
from gestaltweb.limits import BodyLimit  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger(__name__)


class Lifespan:
    """ASGI's lifespan protocol around an application that does not speak it."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.application(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send(await self._startup())
            elif message["type"] == "lifespan.shutdown":
                await self._shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _startup(self) -> dict[str, Any]:
        try:
            if settings.EMBEDDED_WORKER:
                await asyncio.to_thread(worker.start, asyncio.get_running_loop())
        except Exception as error:
            log.exception("the server could not start")
            return {"type": "lifespan.startup.failed", "message": str(error)}
        return {"type": "lifespan.startup.complete"}

    async def _shutdown(self) -> None:
        if settings.EMBEDDED_WORKER:
            await asyncio.to_thread(worker.stop)


def _sockets() -> list[Any]:
    """Progress of cases; a coordinator has none."""
    return websocket_urlpatterns if settings.SITE_ROLE == "hospital" else []


application = Lifespan(
    ProtocolTypeRouter(
        {
            "http": BodyLimit(cast(Application, http)),
            "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(_sockets()))),
        }
    )
)
