"""Loaded by every Python process of a fenced demonstration: notes each file under the demonstration's folder that
a site's process opens, lists, moves or removes. A process of no site (the supervisor) is not noted.

GESTALTWEB_FENCE: the folder for notes, one file a process: the process's own home, then a path a line.
"""

from __future__ import annotations

import os
import sys

_EVENTS = {
    "open", "sqlite3.connect", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.link",
    "os.symlink", "os.truncate", "shutil.copyfile", "shutil.rmtree",
}  # fmt: skip
_home, _folder = os.environ.get("GESTALTWEB_HOME", ""), os.environ["GESTALTWEB_DEMO"]


def _watch() -> None:
    notes = os.open(
        f"{os.environ['GESTALTWEB_FENCE']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.write(notes, f"{_home}\n".encode())
    seen = set()

    def note(event: str, arguments: tuple) -> None:
        if event not in _EVENTS:
            return
        for path in arguments[:2]:
            if isinstance(path, (str, bytes, os.PathLike)):
                name = os.path.abspath(os.fsdecode(path).removeprefix("file:"))  # noqa: PTH100  resolving opens
                if name.startswith(_folder + os.sep) and name not in seen:
                    seen.add(name)
                    os.write(notes, f"{name}\n".encode())

    sys.addaudithook(note)


if _home.startswith(_folder + os.sep):
    _watch()
