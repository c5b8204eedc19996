"""An API account with its token, a client that speaks JSON, and a gallery to be ranked against."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client


@pytest.fixture(autouse=True)
def no_throttle_memory() -> None:
    """Counts of the last minute belong to another test."""
    cache.clear()


@pytest.fixture
def api_account(make_user: Any) -> Callable[..., tuple[Any, str]]:
    """api_account(roles={…}, team=…) → (User with the role API added, token)."""
    from diagnosis.services.users import token_create

    def make(*, roles: Any = (), team: Any = None) -> tuple[Any, str]:
        user = make_user(roles={"api", *roles}, team=team)
        return user, token_create(user=None, target=user, label="test")

    return make


@pytest.fixture
def speak() -> Callable[..., Client]:
    """speak(token) → a client with that bearer token, which lets errors of ours become a 500."""

    def make(token: str) -> Client:
        return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def basic() -> Callable[[str, str], str]:
    """basic(user name, token) → the Authorization header of HTTP Basic."""

    def make(username: str, token: str) -> str:
        return "Basic " + base64.b64encode(f"{username}:{token}".encode()).decode()

    return make
