"""How large a request may be, decided before Django reads it.

Django's ASGI handler spools a body larger than FILE_UPLOAD_MAX_MEMORY_SIZE to a temporary file before any
view is asked, unencrypted and without an upper bound. Here every body has a cap below that size, so photos
stay in memory until they are sealed, and nobody can fill a disk.
"""

from __future__ import annotations

import json
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
FEDERATION: Final = "/federation/v1/"
CHUNK_PATHS: Final = re.compile(r"^/federation/v1/blobs/[0-9a-f]{64}/[0-9]{1,16}$")
ENTRY_PATH: Final = "/federation/v1/entries"
MEGA: Final = 1024 * 1024
SLACK: Final = 4096  # so that what is a little too large gets the door's own answer


class BodyTooLarge(Exception):
    """The body grew beyond its cap while it was read."""


def cap_for(path: str) -> int:
    """Bytes that a request to `path` may carry."""
    if PHOTO_PATHS.match(path):
        return int(settings.UPLOAD_TOTAL_BYTES)
    if BASE64_PATHS.match(path):
        return int(settings.UPLOAD_MAX_BYTES) * 4 // 3 + SMALL
    if path.startswith(FEDERATION):
        return _federation_cap(path)
    return SMALL


def _federation_cap(path: str) -> int:
    """A chunk of 8 MiB, an entry of 1 MiB, and nothing elsewhere."""
    if CHUNK_PATHS.match(path):
        return 8 * MEGA + SLACK
    return (MEGA if path == ENTRY_PATH else 0) + SLACK


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
            await _refuse(send, cap, scope["path"])
            return
        try:
            await self.application(scope, _counted(receive, cap), send)
        except BodyTooLarge:  # raised while the body was read, so no answer has begun
            await _refuse(send, cap, scope["path"])


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


def _person(cap: int) -> tuple[bytes, bytes]:
    sentence = (
        f"This is larger than the {cap // MEGA} MB that fit here. Send fewer or smaller photos at a time.\n"
    )
    return b"text/plain; charset=utf-8", sentence.encode()


def _program(cap: int) -> tuple[bytes, bytes]:
    answer = {"error": f"The body has more than the {cap} bytes that fit here.", "reason": "too-large"}
    return b"application/json", json.dumps(answer).encode()


async def _refuse(send: Send, cap: int, path: str) -> None:
    kind, body = _program(cap) if path.startswith(FEDERATION) else _person(cap)
    headers = [
        (b"content-type", kind), (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
        (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
