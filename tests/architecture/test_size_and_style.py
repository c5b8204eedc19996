"""Size, as the house wants it: functions median ≤ 10 and 95th percentile ≤ 40 lines, files ≤ 350."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gestaltweb", "federation", "diagnosis")


def sources() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts
    ]


def function_lengths() -> dict[str, int]:
    lengths = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = (
                    (node.end_lineno or node.lineno) - node.lineno + 1
                )
    return lengths


def test_functions_are_small() -> None:
    lengths = function_lengths()
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:12]
    print("\n".join(f"{lines:4d} {where}" for where, lines in longest))
    assert median(lengths.values()) <= 10
    assert quantiles(lengths.values(), n=20)[-1] <= 40, longest


def test_files_are_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text().splitlines())) > 350
    }
    assert not long


def test_the_top_level_is_fixed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line}
    assert folders <= {
        "gestaltweb", "federation", "diagnosis", "templates", "static", "tests", "docs", "benchmarks", ".ci",
    }  # fmt: skip
