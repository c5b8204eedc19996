"""Short texts that every member reads: names of sites and reasons."""

from __future__ import annotations

from typing import Final

from diagnosis.errors import InvalidInput

TITLE_LENGTH: Final = 80
REASON_LENGTH: Final = 200


def require_title(title: str) -> str:
    """A name as people read it, in 1 to 80 printable characters, or InvalidInput."""
    title = " ".join(title.split())
    if not 0 < len(title) <= TITLE_LENGTH or not title.isprintable():
        raise InvalidInput(f"Give a name of 1 to {TITLE_LENGTH} characters, as people should read it.")
    return title


def require_reason(reason: str) -> str:
    """A reason in 1 to 200 printable characters, or InvalidInput."""
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_LENGTH or not reason.isprintable():
        raise InvalidInput(f"Give a reason of at most {REASON_LENGTH} characters. Every member reads it.")
    return reason
