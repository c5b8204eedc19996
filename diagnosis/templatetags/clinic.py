"""What templates need beyond Django's own: permission questions, the places a user may go, ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _

from diagnosis import permissions
from diagnosis.models import GalleryVersion
from diagnosis.registries import navigation

register = template.Library()


@dataclass(frozen=True)
class Place:
    """One entry of the main navigation: shown to those who may do `action`."""

    label: Any
    url_name: str
    action: str


PLACES = (
    Place(_("Cases"), "clinic:case_list", "case.list"),
    Place(_("Patients"), "clinic:patient_list", "patient.list"),
    Place(_("Model"), "clinic:model_page", "model.view"),
    Place(_("Users"), "clinic:user_list", "users.manage"),
    Place(_("Audit"), "clinic:audit_list", "audit.view"),
)


@register.simple_tag(takes_context=True)
def places(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The main navigation of this user: [{label, url, here}], own pages first, then other rooms'."""
    request: HttpRequest | None = context.get("request")
    user = getattr(request, "user", None)
    links = [(place.label, _address(place)) for place in PLACES if _may_open(user, place)]
    links += [link for _name, more in navigation.items() for link in more(user)]
    path = request.path if request else ""
    return [{"label": label, "url": url, "here": _is_here(path, url)} for label, url in links if url]


def _may_open(user: Any, place: Place) -> bool:
    """A site admin without a second factor still sees the entry; the page says what is missing."""
    roles = getattr(user, "roles", frozenset()) if getattr(user, "is_authenticated", False) else frozenset()
    return bool(roles & permissions.ACTIONS[place.action])


def _address(place: Place) -> str:
    """Where a place is, or "" while its page is not part of this site."""
    try:
        return reverse(place.url_name)
    except NoReverseMatch:
        return ""


def _is_here(path: str, url: str) -> bool:
    return path == url or (url != "/" and path.startswith(url))


@register.filter
def may(user: Any, action: str) -> bool:
    """{% if user|may:"case.open" %}: whether the user's roles allow an action at all."""
    return permissions.can(user, action)


@register.filter
def age(months: int | None) -> str:
    """An age in words: 50 → "4 y 2 m", 7 → "7 m", None → ""."""
    if months is None:
        return ""
    years, rest = divmod(int(months), 12)
    if not years:
        return f"{rest} m"
    return f"{years} y {rest} m" if rest and years < 18 else f"{years} y"


@register.filter
def short_hash(value: str) -> str:
    """The first eight signs of a hash, for a footer; the whole one stands on the model page."""
    return f"{value[:8]}…" if value else ""


@register.filter
def lookup(table: dict[Any, Any], key: Any) -> Any:
    """table[key], or None."""
    return table.get(key) if table else None


@register.simple_tag
def gallery_newest() -> GalleryVersion | None:
    """The newest gallery version of this hospital, for the footer."""
    return GalleryVersion.objects.order_by("-number").first()
