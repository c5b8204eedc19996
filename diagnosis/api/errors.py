"""Errors of the API: the clinic's sentences with proper HTTP codes, as {"detail": …}."""

from __future__ import annotations

from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler

from diagnosis.errors import ClinicError
from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.states import IllegalMove


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's handler plus ours; anything unknown stays a plain 500 without details."""
    if isinstance(error, ClinicError):
        return Response({"detail": str(error)}, status=error.status)
    if isinstance(error, IllegalMove):
        return Response({"detail": str(error)}, status=409)
    if isinstance(error, PhotoRefused):
        return Response({"detail": str(error), "code": error.code}, status=422)
    return exception_handler(error, context)
