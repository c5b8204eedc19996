"""Doors for programs: JSON in both directions, a sentence and a reason for every refusal, and no session."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, IntegrityError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from diagnosis.errors import ClinicError
from diagnosis.states import IllegalMove
from federation.errors import Conflict, FederationError, InvalidMessage, NoRoom, TooLarge, Unreachable
from federation.transcript import EntryRefused

View = Callable[..., HttpResponse]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponse]]
log = logging.getLogger(__name__)
MAXIMUM: Final = 1 << 53
_WHOLE: Final = re.compile(r"[0-9]{1,16}")
#: What databases say to text that is none (a lone surrogate, a NUL), or to a number or name beyond a column.
_UNFIT: Final = (DataError, UnicodeEncodeError, OverflowError)
#: What may go wrong while a stranger's request is answered; anything else is an error of this program.
_KNOWN: Final = (
    ClinicError, IllegalMove, EntryRefused, RequestDataTooBig, UnreadablePostError, OperationalError,
    IntegrityError, *_UNFIT,
)  # fmt: skip


def door(*methods: str) -> Callable[[View], View]:
    """A view for these methods; known errors become JSON answers."""

    def wrap(view: View) -> View:
        @csrf_exempt
        @functools.wraps(view)
        def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                return _wrong_method(methods)
            try:
                return view(request, **kwargs)
            except _KNOWN as error:
                return refusal(error)

        return answer

    return wrap


def async_door(*methods: str) -> Callable[[AsyncView], AsyncView]:
    """The same for a view that waits."""

    def wrap(view: AsyncView) -> AsyncView:
        @csrf_exempt
        @functools.wraps(view)
        async def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                return _wrong_method(methods)
            try:
                return await view(request, **kwargs)
            except _KNOWN as error:
                return refusal(error)

        return answer

    return wrap


def refusal(error: Exception) -> JsonResponse:
    """{"error": sentence, "reason": word, …} with the error's status."""
    known = _as_clinic_error(error)
    body: dict[str, Any] = {"error": str(known), "reason": getattr(known, "reason", "refused")}
    return JsonResponse(body | getattr(known, "details", {}), status=known.status)


def _as_clinic_error(error: Exception) -> ClinicError:
    if isinstance(error, ClinicError):
        return error
    if isinstance(error, RequestDataTooBig):
        return TooLarge("The request is larger than anything of the protocol.")
    if isinstance(error, UnreadablePostError):
        return FederationError("The request ended before its body did. Send it again.")
    if isinstance(error, IllegalMove):
        return FederationError("This step is not possible now.")
    if isinstance(error, EntryRefused):
        return InvalidMessage(str(error))
    return _database_trouble(error)


def _database_trouble(error: Exception) -> FederationError:
    log.error("the database refused a site's request: %s", type(error).__name__)
    if isinstance(error, _UNFIT):
        return InvalidMessage("The request holds a text or a number that cannot be stored.")
    if isinstance(error, IntegrityError):
        return Conflict("The request contradicts what is stored already.")
    if "full" in str(error) or "No space left" in str(error):
        return NoRoom("The coordinator's disk is full. Nothing was changed; send again later.")
    return Unreachable("The coordinator's database is busy. Nothing was changed; send again.")


def _wrong_method(methods: tuple[str, ...]) -> JsonResponse:
    answer = JsonResponse(
        {"error": "This address does not take that method.", "reason": "method"}, status=405
    )
    answer["Allow"] = ", ".join(methods)
    return answer


def whole(text: str | None, what: str, *, maximum: int = MAXIMUM) -> int:
    """A whole number from 0 to `maximum` out of a URL, or InvalidMessage."""
    if text is None or _WHOLE.fullmatch(text) is None or int(text) > maximum:
        raise InvalidMessage(f"The {what} must be a whole number from 0 to {maximum}.")
    return int(text)
