"""What templates need beyond Django's own: permission questions, the places a user may go, ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _

from diagnosis import permissions
from diagnosis.models import Case, GalleryVersion, Photo
from diagnosis.registries import navigation
from diagnosis.words import BAND_WORDS, STATE_WORDS

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
    if not getattr(user, "is_authenticated", False):
        return False
    return bool(user.roles & permissions.ACTIONS[place.action])


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


# --- words -----------------------------------------------------------------------------------------


@register.filter
def state_words(case: Case) -> Any:
    """A case's state in words."""
    return STATE_WORDS.get(case.state, case.state)


@register.filter
def band_words(band: str) -> Any:
    """A band in words; "" is no band."""
    return BAND_WORDS.get(band, _("no band"))


@register.filter
def waiting_words(case: Case) -> Any:
    """Why a case has no list yet."""
    states = {photo.state for photo in case.photos.all()}
    if not states:
        return _("waiting for a photo")
    if states & {"received", "analysing"}:
        return _("being analysed")
    if "ready" in states:
        return _("waiting to be ranked")
    return _("photo needs your attention")


@register.filter
def share(value: float | None) -> str:
    """A measured share in per cent without decimals, as its sample size warrants: 0.873 → "87 %"."""
    return "–" if value is None else f"{100 * float(value):.0f} %"


@register.filter
def share_interval(estimate: dict[str, Any]) -> str:
    """{low: 0.81, high: 0.92, …} → "81–92 %"."""
    return f"{100 * float(estimate['low']):.0f}–{100 * float(estimate['high']):.0f} %"


@register.filter
def reference_url(identifier: str) -> str:
    """Where a disorder is described: OMIM or Orphanet, "" for synthetic ones."""
    scheme, _colon, number = identifier.partition(":")
    if not number.isdigit():
        return ""
    places = {
        "OMIM": f"https://omim.org/entry/{number}",
        "ORPHA": f"https://www.orpha.net/en/disease/detail/{number}",
    }
    return places.get(scheme, "")


# --- photos ----------------------------------------------------------------------------------------

GOOD = (
    (_("sharp"), frozenset({"blurred"})),
    (_("frontal"), frozenset({"turned_away"})),
    (_("well lit"), frozenset({"too_dark", "too_bright", "low_contrast"})),
)
PROBLEMS = {
    "too_small": _("small"), "too_dark": _("dark"), "too_bright": _("overexposed"),
    "low_contrast": _("low contrast"), "blurred": _("blurred"), "turned_away": _("turned away"),
    "eyes_covered": _("eyes covered?"), "mouth_covered": _("mouth covered?"),
    "photo_turned": _("photo lies on its side"), "several_faces": _("several faces"),
}  # fmt: skip


@register.filter
def quality_chips(photo: Photo) -> list[dict[str, Any]]:
    """What is good and what is not about a photo: [{label, kind, sentence}], the worst first."""
    warned = [
        {"label": PROBLEMS.get(row["code"], _("look closely")), "kind": "chip-warn",
         "sentence": f"{row['sentence']} {row.get('remedy', '')}".strip()}
        for row in photo.warnings
    ]  # fmt: skip
    if not photo.measures:
        return warned
    codes = {row["code"] for row in photo.warnings} | {(photo.refusal or {}).get("code", "")}
    good: list[Any] = [label for label, problems in GOOD if not codes & problems]
    if len(photo.faces) == 1:
        good.insert(0, _("one face"))
    if "eye_distance_px" in photo.measures:
        good.append(_("eyes %d px apart") % round(photo.measures["eye_distance_px"]))
    if photo.quality is not None:
        good.append(_("quality %.2f") % photo.quality)
    return warned + [{"label": label, "kind": "chip-yes", "sentence": ""} for label in good]


@register.filter
def photo_to_show(case: Case) -> Photo | None:
    """The picture of a case in the list: its newest analysed photo, else its newest."""
    photos = list(case.photos.all()) if case.state != "withdrawn" else []
    ready = [photo for photo in photos if photo.state == "ready"]
    chosen = ready or photos
    return chosen[-1] if chosen else None


@register.filter
def face_kind(photo: Photo) -> str:
    """The aligned face where there is one, else the whole photo made small; neither cuts a face."""
    return "crop" if photo.state == "ready" and photo.crop else "thumb"


@register.filter
def own_crop(photo: Photo | None, photos: list[Photo]) -> Photo | None:
    """The photo whose aligned face stands for the patient: the chosen one if it has one, else the best."""
    aligned = [other for other in photos if other.state == "ready" and other.crop]
    if photo in aligned:
        return photo
    return max(aligned, key=lambda other: other.quality or 0.0, default=None)


@register.filter
def place_in(photo: Photo, photos: list[Photo]) -> int:
    """Which of the case's photos this is, from 1."""
    return photos.index(photo) + 1


@register.filter
def points(photo: Photo) -> list[dict[str, Any]]:
    """The landmarks for drawing: [{place, x, y, x_whole, y_whole}] in px of the photo."""
    return [
        {"place": place, "x": round(float(x), 1), "y": round(float(y), 1), "x_whole": round(float(x)),
         "y_whole": round(float(y))}
        for place, (x, y) in enumerate(photo.landmarks or [])
    ]  # fmt: skip


@register.simple_tag
def translate_name(place: int, names: list[Any]) -> Any:
    """The name of landmark number `place`."""
    return names[place]


@register.filter
def rectangle(box: list[float]) -> dict[str, float]:
    """[x0, y0, x1, y1] → {x, y, width, height}, as SVG wants it."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return {"x": x0, "y": y0, "width": max(x1 - x0, 0.0), "height": max(y1 - y0, 0.0)}


def _unit(photo: Photo) -> float:
    """About 4 px of the screen where the photo is shown 270 px wide, in px of the photo."""
    return max(photo.width, photo.height, 1) / 68


@register.filter
def point_size(photo: Photo, times: float) -> float:
    """A radius in px of the photo that looks the same for every photo."""
    return round(_unit(photo) * times, 2)


@register.filter
def cross_path(photo: Photo) -> str:
    """A small cross that marks the very point."""
    arm = round(_unit(photo) * 0.55, 2)
    return f"M-{arm} 0H{arm}M0 -{arm}V{arm}"


@register.filter
def text_size(photo: Photo) -> float:
    """A letter height in px of the photo."""
    return round(_unit(photo) * 4, 1)
