"""A hospital of coloured patches, with the tiny network known everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tiny network among those that a site knows."""
    from learning_cases import TinyNet

    from diagnosis import engine
    from diagnosis.phenotype.embed.backbone import BACKBONES

    monkeypatch.setitem(BACKBONES, "tiny", TinyNet)
    engine.forget()
    yield
    engine.forget()


@pytest.fixture
def hospital(db: None, tiny: None, tmp_path: Path) -> Any:
    """The helper module, with catalogue and extractor in place."""
    import hospital as made

    made.catalogue()
    made.install(tmp_path)
    return made


@pytest.fixture
def story(hospital: Any) -> Any:
    return hospital.Story()
