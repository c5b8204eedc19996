"""Typed readers of environment variables. A secret may come from NAME or from the file NAME_FILE.

Secrets have no defaults: a missing one stops the start with a sentence that says what to set.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    """The value of `name`, stripped, or `default`."""
    return os.environ.get(name, default).strip()


def flag(name: str, default: bool = False) -> bool:
    """A yes/no switch; anything but the usual spellings is an error, not a guess."""
    value = os.environ.get(name, "1" if default else "0").strip().lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; use 1 or 0")


def integer(name: str, default: int) -> int:
    """A whole number."""
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number") from error


def choice(name: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words; the first is the default."""
    value = text(name, allowed[0])
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; use {' or '.join(allowed)}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list without empty entries."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Comma-separated addresses or networks, such as 10.0.0.5 or 10.0.0.0/24."""
    try:
        return [ip_network(word) for word in words(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from error


def secret(name: str) -> str:
    """A secret from NAME or from the file that NAME_FILE names. Never defaulted."""
    file = text(f"{name}_FILE")
    value = Path(file).read_text(encoding="utf-8").strip() if file else text(name)
    if not value:
        raise ImproperlyConfigured(f"set {name}, or {name}_FILE to a file that holds it")
    return value


def home(default: Path) -> Path:
    """GESTALTWEB_HOME: the one folder with everything of this site."""
    return Path(text("GESTALTWEB_HOME", str(default))).resolve()
