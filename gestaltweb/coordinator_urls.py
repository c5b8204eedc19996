"""Root URLs of a coordinator: doors for the member hospitals, console, accounts and audit. No patients."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path
from django.views.decorators.http import require_GET

from diagnosis.models import Role
from diagnosis.permissions import can
from diagnosis.urls import administration_patterns
from diagnosis.views.cases import user_of
from gestaltweb import urls


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The console; the account for an admin who still has to set up a second factor, and without a role."""
    user = user_of(request)
    unprotected = Role.SITE_ADMIN in user.roles and not can(user, "coordinator.manage")
    return redirect("mfa_index" if unprotected or not can(user, "federation.view") else "federation:home")


urlpatterns: urls.Patterns = [
    path("", home, name="home"),
    path("", include("federation.doors.urls")),
    *urls.common,
    path("", include((administration_patterns, "clinic"))),
]
handler400, handler403, handler404, handler500 = (
    urls.handler400, urls.handler403, urls.handler404, urls.handler500,
)  # fmt: skip
