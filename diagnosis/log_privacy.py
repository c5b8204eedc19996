"""What a log line may say about a request: its path without query and without anything like a secret."""

from __future__ import annotations

import logging
import re

# One-time links carry their secret in the path; long random parts do not go into the log.
_SECRET = re.compile(r"[A-Za-z0-9_-]{20,}")


def redact(text: str) -> str:
    """A path as it may be logged; other texts are returned as they are."""
    return _SECRET.sub("…", text.partition("?")[0]) if text.startswith("/") else text


class WithoutSecrets(logging.Filter):
    """Paths among a record's arguments lose their query string and everything that looks like a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True
