"""How allauth is bent to a hospital: nobody signs up by themselves, and secrets at rest are sealed."""

from __future__ import annotations

import base64
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.http import HttpRequest

from diagnosis import vault


class ClosedAccounts(DefaultAccountAdapter):
    """Accounts are made by a site admin, never by signing up."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SealedSecondFactor(DefaultMFAAdapter):
    """TOTP secrets and recovery seeds lie encrypted in the database, under a key of their own."""

    def encrypt(self, text: str) -> str:
        import secrets

        nonce = secrets.token_bytes(vault.NONCE_BYTES)
        sealed = AESGCM(vault.derive_key("second-factor")).encrypt(nonce, text.encode(), None)
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, encrypted_text: str) -> str:
        raw = base64.b64decode(encrypted_text)
        nonce, sealed = raw[: vault.NONCE_BYTES], raw[vault.NONCE_BYTES :]
        return AESGCM(vault.derive_key("second-factor")).decrypt(nonce, sealed, None).decode()

    def get_totp_issuer(self) -> str:
        from django.conf import settings

        return f"GestaltWeb {settings.SITE_NAME}"

    def get_public_key_credential_rp_entity(self) -> dict[str, Any]:  # pragma: no cover  passkeys are off
        raise NotImplementedError("passkeys are not offered")
