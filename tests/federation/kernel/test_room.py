"""The room stands alone: neither Django nor torch is loaded by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_kernel_imports_neither_django_nor_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, federation.kernel as room\n"
        "for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(len(list(pkgutil.iter_modules(room.__path__))),"
        " [name for name in ('django', 'torch', 'celery', 'rest_framework') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    count, _, loaded = found.stdout.strip().partition(" ")
    assert int(count) > 10 and loaded == "[]"
