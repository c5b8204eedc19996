"""Codes of the demonstration's second factors. Each counts once, so whoever needs two waits for the next."""

from __future__ import annotations

import threading
import time
from typing import Final

PERIOD_SECONDS: Final = 30  # RFC 6238's default, which allauth keeps
MARGIN_SECONDS: Final = 3  # a code that is sent must still stand when it is read
_used: dict[str, int] = {}
_lock: Final = threading.Lock()


def current_code(secret: str) -> str:
    """The six digits of a second factor at this moment (RFC 6238)."""
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

    return str(format_hotp_value(hotp_value(secret, _period())))


def fresh_code(secret: str) -> str:
    """A code that this process has not given out yet; waits up to PERIOD_SECONDS for one."""
    while True:
        with _lock:
            if (
                _used.get(secret) != _period()
                and time.time() % PERIOD_SECONDS < PERIOD_SECONDS - MARGIN_SECONDS
            ):
                _used[secret] = _period()
                return current_code(secret)
        time.sleep(0.2)


def _period() -> int:
    return int(time.time()) // PERIOD_SECONDS
