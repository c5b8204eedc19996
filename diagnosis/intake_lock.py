"""A tablet in a patient's hands shows the intake and nothing else until staff sign in again.

Starting on a tablet signs the staff member out, so no page of the clinic could answer anyway; the lock
additionally brings every other address back to the intake. Signing in, second factor included, lifts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

LOCKED = "intake_locked"
OPEN_NAMES = frozenset({"account_login", "mfa_authenticate", "clinic:language"})
OPEN_PREFIX = "clinic:intake_"


def lock(request: HttpRequest) -> None:
    """Hold this session to the intake."""
    request.session[LOCKED] = True


def is_locked(request: HttpRequest) -> bool:
    return bool(request.session.get(LOCKED))


class IntakeLockMiddleware:
    """In a locked session, every page but the intake and the sign-in leads back to the intake."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if not is_locked(request):
            return None
        name = request.resolver_match.view_name if request.resolver_match else ""
        if name in OPEN_NAMES or name.startswith(OPEN_PREFIX):
            return None
        return redirect("clinic:intake_now")


@receiver(user_logged_in)
def unlock(sender: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Staff are back: lift the lock and forget the visit."""
    if request is not None and hasattr(request, "session"):
        request.session.pop(LOCKED, None)
        request.session.pop("intake", None)
