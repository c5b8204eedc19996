"""docs/operations.md names what the code reads: every variable, in both directions, and every command."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
READ = re.compile(
    r'env\.(?:text|flag|integer|choice|words|networks|secret)\(\s*"([A-Z0-9_]+)"|environ(?:\.get)?[\[(]\s*"([A-Z0-9_]+)"'
)
GIVEN_BY_OTHERS = {"XDG_CACHE_HOME"}  # a desktop's own variable, read where GESTALTWEB_CACHE is not set


def variables_read() -> set[str]:
    sources = [
        path for room in ("gestaltweb", "federation", "diagnosis") for path in (ROOT / room).rglob("*.py")
    ]
    found = {a or b for path in sources for a, b in READ.findall(path.read_text("utf-8"))}
    return (found | {"GESTALTWEB_HOME"}) - GIVEN_BY_OTHERS


def variables_named() -> set[str]:
    table = PAGE.split("### Variables")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([A-Z0-9_]+)`", cell)}


def test_every_variable_is_described_and_every_description_is_read() -> None:
    extra = {"DJANGO_SETTINGS_MODULE", "SECRET_KEY_FILE"}  # read by Django, and by env.secret
    assert variables_read() - variables_named() == set(), "describe these in docs/operations.md"
    assert variables_named() - variables_read() - extra == set(), "nothing reads these any more"


def test_every_command_on_the_page_exists() -> None:
    named = set(re.findall(r"manage\.py (\w+)", PAGE)) | set(re.findall(r"`(init_site|serve)`", PAGE))
    assert {"init_site", "serve", "backup", "restore", "check"} <= named <= set(get_commands())
