"""A coordinator with two hospitals and one removed, and an engine small enough to see what it did."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def engine(monkeypatch: Any) -> Any:
    """Stands in for the engine behind the doors: checks the entry, keeps it as a link, numbers it."""
    import wire_site

    made = wire_site.Engine()
    monkeypatch.setitem(sys.modules, "federation.services.coordination", made)
    return made


@pytest.fixture
def federation(db: None, engine: Any, settings: Any) -> Iterator[Any]:
    import wire_site

    settings.ROOT_URLCONF = "wire_urls"
    yield wire_site.found()


@pytest.fixture
def small_chunks(monkeypatch: Any) -> int:
    """Chunks of 1000 bytes everywhere, so that a file of many chunks is a small one."""
    from federation import storage, transport
    from federation.doors import blobs

    for module in (storage, transport, blobs):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    return 1000
