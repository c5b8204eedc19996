"""Who calls: an API account with a token, as `Authorization: Bearer …` or as the password of HTTP Basic."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from diagnosis.models import ApiToken, Role
from diagnosis.services.users import token_hash

WRONG = "Unknown account or token. Ask a site admin for a token of an API account."
NOT_BASIC = "The Authorization header is not valid HTTP Basic."


class TokenAuthentication(BaseAuthentication):
    """Bearer token, or Basic with the account's user name and a token as password (as Arc's clients do).

    A token works as long as it is not revoked, its account is active and still holds the role API.
    """

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        kind, _, value = get_authorization_header(request).decode("latin-1").partition(" ")
        if kind.lower() == "bearer":
            return self._check(value.strip(), None)
        if kind.lower() == "basic":
            username, token = self._basic(value)
            return self._check(token, username)
        return None

    def authenticate_header(self, request: Request) -> str:
        """The challenge of a 401: the door's own, else Bearer. Basic would make a browser ask for a password
        that no person has."""
        view = (request.parser_context or {}).get("view")
        return str(getattr(view, "challenge", 'Bearer realm="GestaltWeb"'))

    def _basic(self, value: str) -> tuple[str, str]:
        try:
            username, colon, token = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            raise AuthenticationFailed(NOT_BASIC) from None
        if not colon:
            raise AuthenticationFailed(NOT_BASIC)
        return username, token

    def _check(self, token: str, username: str | None) -> tuple[Any, ApiToken]:
        row = ApiToken.objects.select_related("user").filter(token_hash=token_hash(token)).first()
        if row is None or row.revoked_at is not None or not row.user.is_active:
            raise AuthenticationFailed(WRONG)
        if Role.API not in row.user.roles or username not in (None, row.user.username):
            raise AuthenticationFailed(WRONG)
        user: Any = row.user
        user.second_factor_proved = False  # a token is one factor
        return user, row


class TokenScheme(OpenApiAuthenticationExtension):
    """How the schema names the two ways to send a token."""

    target_class = TokenAuthentication
    name = ["token", "tokenAsPassword"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [{"type": "http", "scheme": "bearer"}, {"type": "http", "scheme": "basic"}]
