"""System checks at start, beside those of `checks`: what would put patients' data at risk stops the site.

They run with every command (`serve`, `check`, …). Those marked deploy run with `check --deploy` only.
"""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils import timezone

# The clock cannot stand before the day this version was finished. Certificates, one-time codes, leases and
# consent times all hang on it.
WRITTEN: Final = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
KEY_FILES: Final = ("django.key", "master/*")


@register(Tags.security)
def keys_are_private(**_: Any) -> list[CheckMessage]:
    """The keys that wrap all others can be read by this site's account alone."""
    folder = Path(settings.GESTALTWEB_KEYS)
    return [
        Error(
            f"Others on this machine can read {path}.",
            hint="chmod 600 it, and make new keys if anybody may have read it.",
            id="gestaltweb.E101",
        )
        for pattern in KEY_FILES
        for path in folder.glob(pattern)
        if path.stat().st_mode & OTHERS
    ]


@register(Tags.security)
def home_is_never_served(**_: Any) -> list[CheckMessage]:
    """Neither the site's home nor its keys may lie in a folder that a web server hands out."""
    own = {"GESTALTWEB_HOME": settings.GESTALTWEB_HOME, "GESTALTWEB_KEYS": settings.GESTALTWEB_KEYS}
    return [
        Error(
            f"{name} lies inside {served}, which is served to everybody.",
            hint=f"Set {name} to a folder elsewhere.",
            id="gestaltweb.E102",
        )
        for name, folder in own.items()
        for served in _served_folders()
        if Path(folder).resolve().is_relative_to(served)
    ]


def _served_folders() -> Iterator[Path]:
    folders: list[Any] = [settings.STATIC_ROOT, settings.MEDIA_ROOT, *settings.STATICFILES_DIRS]
    yield from (Path(folder).resolve() for folder in folders if folder)


@register(Tags.security)
def keys_are_apart_from_files(**_: Any) -> list[CheckMessage]:
    """A copy of the files must not be a copy of their keys, else a withdrawal erases nothing in it."""
    keys, files = Path(settings.GESTALTWEB_KEYS).resolve(), Path(settings.GESTALTWEB_FILES).resolve()
    if not keys.is_relative_to(files):
        return []
    return [Error("The keys lie among the sealed files.", hint="Move GESTALTWEB_KEYS.", id="gestaltweb.E103")]


@register(Tags.security)
def debug_is_off(**_: Any) -> list[CheckMessage]:
    """A debug page shows local variables, and here those are patients."""
    if not settings.DEBUG:
        return []
    hint = "No settings of this project turn it on; remove it."
    return [Error("DEBUG is on.", hint=hint, id="gestaltweb.E104")]


@register(Tags.security)
def clock_is_sane(**_: Any) -> list[CheckMessage]:
    """One-time codes, leases, sessions and the times in evidence need a clock that is about right."""
    if timezone.now() >= WRITTEN:
        return []
    return [
        Error(
            f"This machine's clock says {timezone.now():%Y-%m-%d}, before this version was written.",
            hint="Set the clock (NTP) before anything is signed or audited.",
            id="gestaltweb.E105",
        )
    ]


@register(Tags.security, deploy=True)
def hosts_are_named(**_: Any) -> list[CheckMessage]:
    """Links in letters and one-time links are built from the host that was asked for."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [Error("ALLOWED_HOSTS admits every name.", hint="Name this site's hosts.", id="gestaltweb.E106")]


@register(Tags.security, deploy=True)
def origins_are_encrypted(**_: Any) -> list[CheckMessage]:
    """A trusted origin over plain HTTP lets whoever is on the line post in a clinician's name."""
    plain = [origin for origin in settings.CSRF_TRUSTED_ORIGINS if not origin.startswith("https://")]
    if not plain:
        return []
    return [Error(f"CSRF_TRUSTED_ORIGINS trusts {plain[0]}.", hint="Use https://.", id="gestaltweb.E107")]


@register(Tags.security, deploy=True)
def proxy_is_named(**_: Any) -> list[CheckMessage]:
    """`manage.py serve` speaks plain HTTP: without the proxy's header every page redirects to itself."""
    if settings.SECURE_PROXY_SSL_HEADER or not settings.SECURE_SSL_REDIRECT:
        return []
    return [
        Warning(
            "HTTPS is demanded, but no proxy is said to provide it.",
            hint="Set BEHIND_TLS_PROXY=1 if a proxy sets X-Forwarded-Proto and removes what clients send.",
            id="gestaltweb.W108",
        )
    ]


@register(Tags.security, deploy=True)
def proxy_is_trusted(**_: Any) -> list[CheckMessage]:
    """Behind a proxy that is not named, ten wrong codes of anybody lock the ledger for everybody."""
    if settings.TRUSTED_PROXIES or not settings.SECURE_PROXY_SSL_HEADER:
        return []
    return [
        Warning(
            "Behind a proxy all patients share one address, and one limit of tries.",
            hint="Set TRUSTED_PROXY to the proxy's address; it must add the client to X-Forwarded-For.",
            id="gestaltweb.W110",
        )
    ]


@register(Tags.security, deploy=True)
def policy_has_no_holes(**_: Any) -> list[CheckMessage]:
    """A Content-Security-Policy with unsafe-… or a wildcard stops no injected script."""
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    words = {word.strip("'\"") for values in directives.values() for word in values}
    holes = sorted(word for word in words if word.startswith("unsafe-") or word == "*")
    if not holes:
        return []
    return [Error(f"The Content-Security-Policy allows {holes[0]}.", hint="Remove it.", id="gestaltweb.E109")]
