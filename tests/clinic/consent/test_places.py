"""Whom a wrong try is counted for: the client, not the proxy, and never what the client claims."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from diagnosis.places import place_of
from gestaltweb import env

PROXIES = "10.0.0.5,10.1.0.0/16,fd00::5"


def place(address: str, forwarded: str = "") -> str:
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    return place_of(RequestFactory().get("/", REMOTE_ADDR=address, **headers))


@pytest.fixture
def proxies(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", PROXIES)
    settings.TRUSTED_PROXIES = env.networks("TRUSTED_PROXY")


@pytest.mark.parametrize(("address", "forwarded", "expected"), [
    ("10.0.0.5", "203.0.113.7", "203.0.113.7"),
    ("10.0.0.5", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the first entry is the client's own claim
    ("10.0.0.5", "203.0.113.7, 10.1.2.3", "203.0.113.7"),  # two proxies in a row
    ("fd00::5", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("::ffff:10.0.0.5", "203.0.113.7", "203.0.113.7"),
    ("10.0.0.5", "", "10.0.0.5"),
    ("10.0.0.5", "unknown", "10.0.0.5"),
    ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody trusted wrote this
    ("", "198.51.100.1", ""),
])  # fmt: skip
def test_the_client_behind_trusted_proxies(
    proxies: None, address: str, forwarded: str, expected: str
) -> None:
    assert place(address, forwarded) == expected


def test_without_a_trusted_proxy_the_header_is_not_read(settings: Any) -> None:
    settings.TRUSTED_PROXIES = []
    assert place("10.0.0.5", "203.0.113.7") == "10.0.0.5"


def test_one_household_is_one_place_however_it_is_written() -> None:
    same = ["2001:db8::1", "2001:db8:0:0:ffff::1", "2001:0db8:0000:0000:1:2:3:4", "2001:DB8::7%eth0"]
    assert {place(address) for address in same} == {"2001:db8::/64"}
    assert place("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert place("::ffff:203.0.113.7") == place("203.0.113.7") == "203.0.113.7"


def test_a_proxy_that_is_no_address_stops_the_start(monkeypatch: Any) -> None:
    monkeypatch.setenv("TRUSTED_PROXY", "proxy.example")
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXY"):
        env.networks("TRUSTED_PROXY")


def test_a_flood_of_names_does_not_push_a_lock_out() -> None:
    """LocMemCache culls beyond its limit; a lock must outlive whoever fills it with wrong codes."""
    cache.clear()
    cache.set("ledger-code:locked", 5, 3600)
    for number in range(2000):
        cache.set(f"tries:ledger:{number}", 1, 60)
    assert cache.get("ledger-code:locked") == 5


def test_behind_a_proxy_that_is_not_named_the_check_warns(settings: Any) -> None:
    from diagnosis.security_checks import proxy_is_trusted

    settings.SECURE_PROXY_SSL_HEADER, settings.TRUSTED_PROXIES = ("HTTP_X_FORWARDED_PROTO", "https"), []
    assert [message.id for message in proxy_is_trusted()] == ["gestaltweb.W110"]
    settings.TRUSTED_PROXIES = ["10.0.0.5"]
    assert proxy_is_trusted() == []
