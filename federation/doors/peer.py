"""Who sends a request: the signature, the roster, and whether it was sent before."""

from __future__ import annotations

import datetime as dt
from typing import Final
from urllib.parse import quote

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from federation.errors import NotAMember, NotAuthentic, TooLarge
from federation.models import Membership, Nonce, Peer
from federation.signing import Message, Signer, request_verify

#: A nonce is kept longer than any signature counts, in case the coordinator's clock is set back.
KEEP: Final = dt.timedelta(hours=1)
ACTIVE: Final = "joined"


def signer_of(request: HttpRequest, *, limit: int) -> Signer:
    """Whose key signed exactly this request, or NotAuthentic; TooLarge when its body has over `limit`."""
    body = request.body
    if len(body) > limit:
        raise TooLarge(f"The body has more than the {limit} bytes that fit here.")
    *others, last = _origins(request)
    for origin in others:
        try:
            return _verified(request, origin, body)
        except NotAuthentic as refusal:
            if refusal.reason != "forged":
                raise
    return _verified(request, last, body)


def _verified(request: HttpRequest, origin: str, body: bytes) -> Signer:
    query = request.META.get("QUERY_STRING", "")
    url = origin + quote(request.path, safe="/") + (f"?{query}" if query else "")
    message = Message(str(request.method), url, dict(request.headers))
    return request_verify(message, body=body, now=timezone.now())


def _origins(request: HttpRequest) -> list[str]:
    """Where this coordinator may be reached: its published address, and the host (one of ALLOWED_HOSTS) that
    the request names, which an invitation may have given. One made for another coordinator fits neither."""
    address = Membership.objects.filter(pk=1).values_list("coordinator_address", flat=True).first()
    here = f"{request.scheme}://{request.get_host()}"
    return [address.rstrip("/"), here] if address and address.rstrip("/") != here else [here]


def peer_admit(signer: Signer) -> Peer:
    """The active peer that signed, with its nonce used up and its time noted. NotAMember, or NotAuthentic for
    a nonce seen before. To be called in the transaction of the request's effect."""
    # no_key: other sites' entries may name this peer while it waits for the transcript.
    peers = list(Peer.objects.select_for_update(no_key=True).filter(public_key=signer.public_key))
    if not peers:
        raise NotAMember("The federation does not know this key. Join with an invitation first.")
    peer = next((peer for peer in peers if peer.state == ACTIVE), None)
    if peer is None:
        raise NotAMember("This site is not a member of the federation any more.")
    _nonce_use(peer, signer)
    peer.last_seen_at = timezone.now()
    peer.save(update_fields=["last_seen_at"])
    return peer


def _nonce_use(peer: Peer, signer: Signer) -> None:
    Nonce.objects.filter(peer=peer, expires_at__lt=timezone.now() - KEEP).delete()
    _, is_new = Nonce.objects.get_or_create(
        peer=peer, value=signer.nonce, defaults={"expires_at": signer.expires}
    )
    if not is_new:
        raise NotAuthentic("This request was received before.", reason="replayed")


def peer_authenticate(request: HttpRequest) -> Peer:
    """The active peer behind a request that only reads."""
    signer = signer_of(request, limit=0)
    with transaction.atomic():
        return peer_admit(signer)
