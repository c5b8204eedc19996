"""Large files: every active site may send, resume and read them, by sha256 and in chunks."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from federation.doors.answers import door, whole
from federation.doors.peer import peer_admit, peer_authenticate, signer_of
from federation.storage import CHUNK_BYTES, blob_complete, blob_state, chunk_read, chunk_store


@door("GET")
def state(request: HttpRequest, sha256: str) -> JsonResponse:
    """{"size", "received", "complete"}."""
    peer_authenticate(request)
    return JsonResponse(blob_state(sha256))


@door("GET", "PUT")
def chunk(request: HttpRequest, sha256: str, offset: str) -> HttpResponse:
    """One chunk in or out."""
    if request.method == "PUT":
        return _put(request, sha256, offset)
    peer_authenticate(request)
    data = chunk_read(sha256=sha256, offset=whole(offset, "place in the file"))
    return HttpResponse(data, content_type="application/octet-stream")


def _put(request: HttpRequest, sha256: str, offset: str) -> JsonResponse:
    """Store a chunk; the last one also has the whole file's hash checked, outside the transaction."""
    signer = signer_of(request, limit=CHUNK_BYTES)
    place, size = whole(offset, "place in the file"), whole(request.GET.get("size"), "size")
    with transaction.atomic():
        owner = peer_admit(signer).name
        blob = chunk_store(sha256=sha256, offset=place, size=size, data=request.body, owner=owner)
    if blob.received == blob.size:
        blob_complete(sha256)
    return JsonResponse(blob_state(sha256))
