"""Sites that sign requests, honestly or not, and an engine that only keeps what it accepts."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client
from django.utils import timezone

from federation.clock import Clock
from federation.errors import InvalidMessage
from federation.identity import identity_create, public_hex
from federation.models import Blob, Membership, Nonce, Peer, TranscriptLink
from federation.signing import Message, request_sign
from federation.transcript import GENESIS, Entry, Link, decode_entry
from federation.transport import Coordinator

ADDRESS = "http://127.0.0.1:8009"
FEDERATION = "f0" * 32
V1 = "/federation/v1"
TOKEN = "right-invitation"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def effects() -> list[Any]:
    """What members have said and sent."""
    return [
        list(TranscriptLink.objects.values_list("seq", "sha256")),
        list(Blob.objects.values_list("sha256", "size", "received", "complete", "owner")),
    ]


def everything() -> list[Any]:
    """What a refusal must leave as it was: effects, nonces, and when each site was seen."""
    return [
        *effects(),
        list(Nonce.objects.values_list("peer__name", "value")),
        list(Peer.objects.values_list("name", "public_key", "state", "last_seen_at")),
    ]


class Engine:
    """entry_append, links_after and head_now as the doors call them."""

    def __init__(self) -> None:
        self.after_append: Callable[[], None] = lambda: None

    def entry_append(self, *, peer: Peer | None, data: bytes, invitation: str = "") -> dict[str, Any]:
        entry = decode_entry(data)
        if peer is None and invitation != TOKEN:
            raise InvalidMessage("This invitation is not valid.")
        entry.verify(peer.public_key if peer else entry.body["public_key"])
        last = TranscriptLink.objects.order_by("seq").last()
        previous = last.sha256 if last else GENESIS
        link = Link((last.seq if last else 0) + 1, previous, 0, entry)
        TranscriptLink.objects.create(
            seq=link.seq, sha256=link.sha256, previous=previous, at=0, author=entry.author, kind=entry.kind,
            key=entry.key, text=data.decode(),
        )  # fmt: skip
        self.after_append()
        return {"seq": link.seq, "head": self.head_now()}

    def news_since(self, seq: int) -> bool:
        return TranscriptLink.objects.filter(seq__gt=seq).exists()

    def links_after(self, *, seq: int, limit_bytes: int) -> list[dict[str, Any]]:
        rows = TranscriptLink.objects.filter(seq__gt=seq)
        return [{"seq": row.seq, "previous": row.previous, "at": row.at, "entry": row.text} for row in rows]

    def head_now(self) -> dict[str, Any]:
        return {"federation": FEDERATION, "seq": TranscriptLink.objects.count()}


@dataclass
class Site:
    """A site with its key. Every argument of `send` that is not honest is named by its test."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def entry(self, key: str = "hello", kind: str = "Leave", **body: Any) -> bytes:
        entry = Entry(FEDERATION, self.name, kind, key, 0, GENESIS, body or {"reason": ""})
        return entry.sign(self.key).encode()

    def headers(
        self, method: str, path: str, *, body: bytes = b"", now: dt.datetime | None = None, nonce: str = "",
        address: str = ADDRESS, extra: dict[str, str] | None = None,
    ) -> dict[str, str]:  # fmt: skip
        message = Message(method, address + V1 + path, dict(extra or {}))
        request_sign(message, body=body, key=self.key, now=now or timezone.now(), nonce=nonce)
        return message.headers

    def send(self, method: str, path: str, *, body: bytes = b"", **options: Any) -> Any:
        return raw(method, path, body, self.headers(method, path, body=body, **options))

    def coordinator(
        self, transport: httpx2.BaseTransport | None = None, address: str = ADDRESS
    ) -> Coordinator:
        made = Coordinator(
            address=address, identity=self.key, name=self.name, clock=Clock(),
            coordinator_key=Membership.objects.get(pk=1).coordinator_key,
        )  # fmt: skip
        if transport is not None:
            made._client = httpx2.Client(transport=transport)
        return made


def raw(method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
    """A request with exactly these headers, by a client that shows a 500 instead of raising."""
    client = Client(raise_request_exception=False)
    return client.generic(method, V1 + path, body, content_type="application/octet-stream", headers=headers)


def reply(status: int, content: bytes | dict[str, Any] = b"", **headers: str) -> httpx2.Response:
    """An answer as it comes from a socket: not read yet."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(body))


@dataclass
class Bridge(httpx2.BaseTransport):
    """Carries requests into the doors without a socket. cut: before which request the line breaks
    (counted from 1); lost: whether it breaks after the doors have answered instead."""

    cut: int = 0
    lost: bool = False
    seen: list[str] = field(default_factory=list)
    sent_bytes: int = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(f"{request.method} {request.url.path}")
        breaks = len(self.seen) == self.cut
        if breaks and not self.lost:
            raise httpx2.ConnectError("cut", request=request)
        body = request.read()
        path = request.url.raw_path.decode().removeprefix(V1)
        answer = raw(request.method, path, body, dict(request.headers))
        self.sent_bytes += len(body)
        if breaks:
            raise httpx2.ReadError("cut", request=request)
        return reply(answer.status_code, answer.content, **dict(answer.items()))


@dataclass
class Found:
    berlin: Site
    hamburg: Site
    removed: Site
    stranger: Site


def found() -> Found:
    """The rows of a federation at its coordinator."""
    public = identity_create()
    Membership.objects.create(
        pk=1, role="coordinator", federation=FEDERATION, name="coordinator", title="Coordinator",
        coordinator_address=ADDRESS, coordinator_key=public,
    )  # fmt: skip
    sites = Found(*(Site(name) for name in ("berlin", "hamburg", "removed", "stranger")))
    for site, state in ((sites.berlin, "joined"), (sites.hamburg, "joined"), (sites.removed, "removed")):
        Peer.objects.create(
            name=site.name, title=site.name.title(), public_key=public_hex(site.key), state=state
        )
    return sites
