"""How large a request may be, decided before Django reads it.

Django's ASGI handler spools a body larger than FILE_UPLOAD_MAX_MEMORY_SIZE to a temporary file before any
view is asked, unencrypted and without an upper bound. Here every body has a cap below that size, so photos
stay in memory until they are sealed, and nobody can fill a disk.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from django.conf import settings

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SMALL: Final = 2 * 1024 * 1024  # forms, JSON, a drawn signature
PHOTO_PATHS: Final = re.compile(r"^(/api)?/cases/\d+/photos/?$")
BASE64_PATHS: Final = re.compile(r"^/(predict|encode|crop)/?$")
MEGA: Final = 1024 * 1024


class BodyTooLarge(Exception):
    """The body grew beyond its cap while it was read."""


def cap_for(path: str) -> int:
    """Bytes that a request to `path` may carry."""
    if PHOTO_PATHS.match(path):
        return int(settings.UPLOAD_TOTAL_BYTES)
    if BASE64_PATHS.match(path):
        return int(settings.UPLOAD_MAX_BYTES) * 4 // 3 + SMALL
    return SMALL


class BodyLimit:
    """Answers 413 with a sentence for a body that is announced or turns out to be too large."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        cap = cap_for(scope["path"])
        if _announced(scope) > cap:
            await _refuse(send, cap)
            return
        try:
            await self.application(scope, _counted(receive, cap), send)
        except BodyTooLarge:  # raised while the body was read, so no answer has begun
            await _refuse(send, cap)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _counted(receive: Receive, cap: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > cap:
                raise BodyTooLarge
        return message

    return counted


async def _refuse(send: Send, cap: int) -> None:
    sentence = (
        f"This is larger than the {cap // MEGA} MB that fit here. Send fewer or smaller photos at a time.\n"
    )
    body = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
        (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
