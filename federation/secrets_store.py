"""What one secure sum needs and nobody else may have: sessions' secrets, plain inputs, and what was opened.

Files in GESTALTWEB_KEYS/sums, mode 0600, durable before the call returns. The key folder is outside backups,
so a restore brings no attempt back and takes no opening back: whoever restores an old database has no
secrets for the attempts in it, and leaves them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from diagnosis.errors import NotReady
from diagnosis.vault import write_private

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,120}")
KINDS: Final = ("session", "input", "facts")
#: A file, or what is left of one whose writing was cut off.
_FILE: Final = re.compile(r"\.?(?P<name>[A-Za-z0-9._-]{1,120})\.(?:session|input|facts)(?:\.[0-9a-f]{8})?")


def _folder() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "sums"


def _path(name: str, kind: str) -> Path:
    if _NAME.fullmatch(name) is None or kind not in KINDS:
        raise ValueError("a sum's name has letters, digits, dots and dashes only")
    return _folder() / f"{name}.{kind}"


def write(name: str, kind: str, data: bytes) -> None:
    """Keep what a sum needs, durably, in place of what was there."""
    write_private(_path(name, kind), data)


def read(name: str, kind: str) -> bytes | None:
    """What was kept, or None."""
    path = _path(name, kind)
    return path.read_bytes() if path.exists() else None


def require(name: str, kind: str) -> bytes:
    """What was kept. NotReady after a restore, which brings no attempt's secrets back."""
    found = read(name, kind)
    if found is None:
        raise NotReady("The secrets of this attempt are not here, as after a restore. The attempt is left.")
    return found


def forget(name: str, *kinds: str) -> None:
    """Remove what is not needed any more, and what a cut-off write has left of it."""
    for kind in kinds or KINDS:
        path = _path(name, kind)
        path.unlink(missing_ok=True)
        for partial in path.parent.glob(f".{path.name}.*"):
            partial.unlink(missing_ok=True)


def names() -> list[str]:
    """Sums that something is kept of."""
    files = _folder().iterdir() if _folder().exists() else ()
    found = (_FILE.fullmatch(path.name) for path in files if path.is_file())
    return sorted({match["name"] for match in found if match})


# --- what was opened ---


def _opening_path(base_model: str, purpose: str) -> Path:
    return _folder() / "opened" / f"{base_model}.{purpose.replace('/', '-')}.json"


def openings(base_model: str, purpose: str) -> list[frozenset[str]]:
    """Every survivor set for which this site gave its shares, for this base model and purpose."""
    path = _opening_path(base_model, purpose)
    kept: list[list[str]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return [frozenset(sites) for sites in kept]


def opening_note(base_model: str, purpose: str, survivors: frozenset[str]) -> None:
    """Remember a survivor set for good, before its answer is sent."""
    known = openings(base_model, purpose)
    if survivors not in known:
        lists: list[Any] = [sorted(sites) for sites in (*known, survivors)]
        write_private(_opening_path(base_model, purpose), json.dumps(lists).encode())
