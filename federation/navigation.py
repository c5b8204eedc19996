"""The federation's entry in the main navigation."""

from __future__ import annotations

from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from diagnosis.registries import navigation
from federation import permissions


def places(user: Any) -> list[tuple[str, str]]:
    """[(label, address)]: the console, for those who may look at it."""
    if not permissions.can(user, "federation.view"):
        return []
    try:
        return [(_("Federation"), reverse("federation:home"))]
    except NoReverseMatch:
        return []


def register() -> None:
    """Called once, when the app is ready."""
    navigation.register("federation", places)
