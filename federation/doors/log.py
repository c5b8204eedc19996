"""The transcript: sites add entries and wait for links."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import HttpRequest, JsonResponse

from federation.doors.answers import async_door, door, whole
from federation.doors.peer import ACTIVE, peer_admit, peer_authenticate, signer_of
from federation.errors import NotAuthentic
from federation.models import Peer
from federation.signing import INVITATION, Signer
from federation.transcript import MAXIMUM_BYTES, decode_entry

LINKS_BYTES: Final = 2_000_000
LONGEST_WAIT: Final = 25
#: Seconds between looks while a site waits. Nobody who waits holds the database or another request.
INTERVAL: Final = 0.2


@door("POST")
def entries(request: HttpRequest) -> JsonResponse:
    """Add an entry: {"seq", "head"}. A site that is not a member yet sends its Join with an invitation."""
    from federation.services.coordination import entry_append

    signer = signer_of(request, limit=MAXIMUM_BYTES)
    invitation = request.headers.get(INVITATION, "")
    with transaction.atomic():
        if invitation and not Peer.objects.filter(public_key=signer.public_key).exists():
            _require_own_join(request.body, signer)
            return JsonResponse(entry_append(peer=None, data=request.body, invitation=invitation))
        return JsonResponse(entry_append(peer=peer_admit(signer), data=request.body))


def _require_own_join(data: bytes, signer: Signer) -> None:
    """NotAuthentic unless this is a Join of the key that signed the request."""
    entry = decode_entry(data)
    if entry.kind != "Join" or entry.body.get("public_key") != signer.public_key:
        raise NotAuthentic("An invitation is for a Join entry of the key that signs the request.")


@async_door("GET")
async def links(request: HttpRequest) -> JsonResponse:
    """{"links", "head", "health"} after `after`; waits up to `wait` seconds for the first link."""
    from federation.services.coordination import links_after, news_since

    await sync_to_async(peer_authenticate)(request)
    after = whole(request.GET.get("after"), "number after which links are asked for")
    until = time.monotonic() + whole(request.GET.get("wait", "0"), "wait", maximum=LONGEST_WAIT)
    while not await sync_to_async(news_since)(after) and time.monotonic() < until:
        await asyncio.sleep(INTERVAL)
    found = await sync_to_async(links_after)(seq=after, limit_bytes=LINKS_BYTES)
    return JsonResponse(await sync_to_async(_news)(found))


def _news(found: list[dict[str, Any]]) -> dict[str, Any]:
    from federation.services.coordination import head_now

    return {"links": found, "head": head_now(), "health": _health()}


def _health() -> dict[str, str | None]:
    """{site: when it was last heard of}, active sites only."""
    seen = Peer.objects.filter(state=ACTIVE).values_list("name", "last_seen_at")
    return {name: at.isoformat(timespec="seconds") if at else None for name, at in seen}
