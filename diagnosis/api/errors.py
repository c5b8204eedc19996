"""Errors of the API: the clinic's sentences with proper HTTP codes, as {"detail": …}."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import exception_handler

from diagnosis.errors import ClinicError
from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.states import IllegalMove


class TooMuch(APIException):
    """A body larger than this door reads."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "This request is larger than this site reads. Send less at once."
    default_code = "too_large"


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's handler plus ours; anything unknown stays a plain 500 without details."""
    if isinstance(error, PhotoRefused):
        return Response({"detail": str(error), "code": error.code}, status=422)
    if isinstance(error, ClinicError):
        return Response({"detail": str(error)}, status=error.status)
    if isinstance(error, IllegalMove):
        return Response({"detail": str(error)}, status=409)
    if isinstance(error, RequestDataTooBig):
        return exception_handler(TooMuch(), context)
    if isinstance(error, SuspiciousOperation):
        return Response({"detail": "This request cannot be read."}, status=400)
    return exception_handler(error, context)
