"""Invitations: a code that one hospital joins with, once, within 14 days."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import Final

from django.db import transaction
from django.utils import timezone

from diagnosis.errors import InvalidInput
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation.models import Invitation
from federation.permissions import require, require_coordinator
from federation.services.own import membership_now
from federation.services.texts import require_title
from federation.transport import require_address

LIFETIME: Final = dt.timedelta(days=14)
MAXIMUM_CODE: Final = 2000
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_FIELDS: Final = {"address", "federation", "coordinator_key", "token", "title"}


@dataclass(frozen=True)
class InvitationCode:
    """What a code says: where the coordinator is, its key and federation (64 hex), the one-time token."""

    address: str
    federation: str
    coordinator_key: str
    token: str = field(repr=False)
    title: str = ""


def invitation_create(*, user: User | None, title: str, address: str = "") -> str:
    """Coordinator: a code for the hospital of this title. Shown once: only its token's hash is kept.

    address: where hospitals reach the coordinator, if not the one it was founded with. user None: the
    site's own set-up.
    """
    require_coordinator()
    if user is not None:
        require(user, "coordinator.manage")
    title, membership = require_title(title), membership_now()
    address = address or membership.coordinator_address
    if not address:
        raise InvalidInput("Say under which address hospitals reach the coordinator (https://…).")
    token = secrets.token_urlsafe(32)
    code = InvitationCode(
        require_address(address), membership.federation, membership.coordinator_key, token, title
    )
    with transaction.atomic():
        row = Invitation.objects.create(
            token_sha256=hashlib.sha256(token.encode()).hexdigest(), title=title, created_by=user,
            expires_at=timezone.now() + LIFETIME,
        )  # fmt: skip
        audit(actor=user, action="federation.invited", subject=f"invitation:{row.pk}")
    return _encoded(code)


def _encoded(code: InvitationCode) -> str:
    text = json.dumps(asdict(code), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def code_parse(code: str) -> InvitationCode:
    """The invitation in this code. InvalidInput with what to do for anything else.

    Line breaks and spaces that mail programs add are taken out. Plain http counts on this machine only.
    """
    text = "".join(code.split())
    if not text or len(text) > MAXIMUM_CODE:
        raise InvalidInput("Enter the invitation's code, all of it and nothing else.")
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidInput("This is no invitation code, or a part of it is missing. Copy it again.") from None
    if not isinstance(found, dict) or found.keys() != _FIELDS or not _strings(found):
        raise InvalidInput(
            "This code is not in the form of an invitation. Ask the coordinator for a new one."
        )
    parsed = InvitationCode(**found)
    hexadecimal = (parsed.federation, parsed.coordinator_key)
    if not all(map(_HEX64.fullmatch, hexadecimal)) or _TOKEN.fullmatch(parsed.token) is None:
        raise InvalidInput("The invitation's code is damaged. Ask the coordinator for a new one.")
    require_address(parsed.address)
    return parsed


def _strings(found: dict[str, object]) -> bool:
    return all(isinstance(value, str) and len(value) <= 200 for value in found.values())
