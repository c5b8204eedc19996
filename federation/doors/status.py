"""The coordinator's time, signed for one question. Open to all: a site whose clock is off cannot sign yet."""

from __future__ import annotations

import re
from typing import Final

from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from federation.clock import milliseconds, time_sign
from federation.doors.answers import door
from federation.errors import InvalidMessage
from federation.identity import identity_now

_NONCE: Final = re.compile(r"[0-9a-f]{32}")


@door("GET")
def time(request: HttpRequest) -> JsonResponse:
    """{"at": milliseconds since 1970, "nonce", "signature"}; says nothing about the federation."""
    nonce = request.GET.get("nonce", "")
    if _NONCE.fullmatch(nonce) is None:
        raise InvalidMessage("The time is told for a nonce of 32 hex digits.")
    at = milliseconds(timezone.now())
    return JsonResponse(
        {"at": at, "nonce": nonce, "signature": time_sign(identity_now(), nonce=nonce, at=at)}
    )
