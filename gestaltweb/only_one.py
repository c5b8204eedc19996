"""A lock file in the site's home, so that what may run only once on a machine does."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from django.conf import settings


def only_one(name: str, what: str) -> IO[str]:
    """The lock GESTALTWEB_HOME/`name`, held until the file is closed or the process ends, however it ends.

    RuntimeError with a sentence about `what` when another process holds it.
    """
    path = Path(settings.GESTALTWEB_HOME) / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RuntimeError(
            f"{what} already runs for {settings.GESTALTWEB_HOME}. Stop it first, or use another home."
        ) from None
    return lock
