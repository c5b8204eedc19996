"""Every test that docs/threat-model.md names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_the_threat_model_names_tests_that_exist() -> None:
    named = NAMED.findall((ROOT / "docs" / "threat-model.md").read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{path}::{test}" for path, test in named
        if not (ROOT / path).exists() or (test and f"def {test}(" not in (ROOT / path).read_text("utf-8"))
    ]  # fmt: skip
    assert not missing
