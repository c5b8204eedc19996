"""No request is read beyond its cap, announced or not, and large uploads are kept whole in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.files.uploadedfile import InMemoryUploadedFile
from django.test import RequestFactory

from gestaltweb.limits import SMALL, BodyLimit, cap_for


async def ask(path: str, chunks: list[bytes], *, length: int | None = None) -> tuple[int, int]:
    """(status, bytes that the application saw) of one POST."""
    seen, sent = 0, []
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        while (message := await receive())["more_body"]:
            seen += len(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = [(b"content-length", str(length).encode())] if length is not None else []
    await BodyLimit(application)({"type": "http", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], seen


@pytest.mark.parametrize("path", ["/ledger/", "/account/login/", "/cases/7/photos/extra/", "/predict/x"])
def test_a_body_beyond_the_cap_is_refused_while_it_streams(path: str) -> None:
    chunks = [bytes(256 * 1024)] * 12
    status, seen = asyncio.run(ask(path, chunks))
    assert status == 413 and seen <= SMALL


def test_an_announced_giant_is_refused_unread() -> None:
    assert asyncio.run(ask("/ledger/", [b"x"], length=10**11)) == (413, 0)


def test_what_fits_passes_and_photos_have_more_room(settings) -> None:
    assert asyncio.run(ask("/ledger/", [bytes(1000)], length=1000)) == (200, 1000)
    assert asyncio.run(ask("/cases/7/photos/", [bytes(3 * SMALL)])) == (200, 3 * SMALL)
    assert cap_for("/cases/7/photos/") < settings.FILE_UPLOAD_MAX_MEMORY_SIZE, "nothing is spooled to disk"


def test_sites_of_a_federation_have_room_for_a_chunk_and_an_entry_and_nothing_more(settings) -> None:
    chunk = f"/federation/v1/blobs/{'0' * 64}/8388608"
    assert 8 * 2**20 <= cap_for(chunk) < 8 * 2**20 + 2**16
    assert 2**20 <= cap_for("/federation/v1/entries") < 2**20 + 2**16
    assert cap_for("/federation/v1/links") < 2**16 and cap_for(chunk + "/x") < 2**16
    assert cap_for("/federation/v1/blobs/X/0") < 2**16
    assert cap_for(chunk) < settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    assert asyncio.run(ask(chunk, [bytes(2**20)] * 9))[0] == 413


def test_several_large_files_arrive_all_and_in_memory() -> None:
    import io

    files = [io.BytesIO(bytes([index]) * (9 * 1024 * 1024)) for index in range(4)]
    for index, file in enumerate(files):
        file.name = f"{index}.jpg"
    request = RequestFactory().post("/cases/7/photos/", {"photos": files})
    got = request.FILES.getlist("photos")
    assert [file.size for file in got] == [9 * 1024 * 1024] * 4
    assert all(isinstance(file, InMemoryUploadedFile) for file in got)
