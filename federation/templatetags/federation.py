"""What the federation's templates need: sizes, shares, hashes in groups, moments."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from federation.models import Round
from federation.moments import at
from federation.plans import parse_plan
from federation.words import TABLES

register = template.Library()


@register.filter
def size(number: int | None) -> str:
    """Bytes in words: 51_800_000 → "51.8 MB"."""
    if number is None:
        return "–"
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"


@register.filter
def lasting(seconds: float) -> str:
    """A measured span in words: 340 → "about 6 minutes"."""
    if seconds < 90:
        return _("about %d seconds") % max(1, round(seconds))
    if seconds < 90 * 60:
        return _("about %d minutes") % round(seconds / 60)
    return _("about %.1f hours") % (seconds / 3600)


@register.filter
def unlocalized(value: float) -> str:
    """A number as SVG wants it, whatever the language."""
    return f"{value:g}"


@register.filter
def percent(value: float | None) -> str:
    """A share in [0, 1] in per cent without decimals; a dash for none."""
    return "–" if value is None else f"{100 * value:.0f}\u00a0%"


@register.filter
def points_of(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign: 0.07 → "+7"."""
    if value is None:
        return "–"
    number = round(100 * value)
    return f"+{number}" if number > 0 else f"{number}".replace("-", "−")


@register.filter
def of_milliseconds(value: int | None) -> dt.datetime | None:
    """Milliseconds since 1970 as a moment."""
    return at(value) if value else None


@register.filter
def groups(value: str) -> str:
    """A hash in groups of eight, to be compared by eye."""
    return " ".join(value[start : start + 8] for start in range(0, len(value), 8))


@register.filter
def ago(moment: dt.datetime | None) -> Any:
    """How long ago, roughly: "just now", "4 minutes ago", "3 hours ago", then the day."""
    if moment is None:
        return _("not heard of yet")
    minutes = int((timezone.now() - moment).total_seconds() // 60)
    if minutes < 1:
        return _("just now")
    if minutes < 60:
        return ngettext("%d minute ago", "%d minutes ago", minutes) % minutes
    if minutes < 48 * 60:
        return ngettext("%d hour ago", "%d hours ago", minutes // 60) % (minutes // 60)
    return ngettext("%d day ago", "%d days ago", minutes // 1440) % (minutes // 1440)


# --- words -----------------------------------------------------------------------------------------


@register.filter
def words(key: str, table: str) -> Any:
    """{{ key|words:"ballot" }}: what `key` means in that table of federation.words."""
    return TABLES[table].get(key, key)


@register.filter
def state_since(round_: Round) -> dt.datetime | None:
    """When a round came into the state that it is in, by the coordinator's clock."""
    return of_milliseconds(round_.moments.get(round_.state))


@register.filter
def answer_by(round_: Round) -> dt.datetime:
    """Until when hospitals may answer."""
    return at(parse_plan(round_.plan).schedule.answer_by)


@register.filter
def is_past(moment: dt.datetime) -> bool:
    """Whether a moment is over."""
    return moment <= timezone.now()
