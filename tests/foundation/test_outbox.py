"""The outbox forgets nothing a reader has not finished with, and repeats nothing it has."""

from __future__ import annotations

import pytest

from diagnosis import outbox
from diagnosis.registries import Registry


def seen_by(reader: str) -> list[str]:
    with outbox.read(reader) as events:
        return [event.subject for event in events]


def test_each_reader_sees_each_event_once_in_order(db) -> None:
    for number in range(3):
        outbox.publish("gallery.changed", f"gallery:{number}")
    assert seen_by("a") == ["gallery:0", "gallery:1", "gallery:2"]
    outbox.publish("model.adopted", "extractor:1")
    assert seen_by("a") == ["extractor:1"]
    assert seen_by("a") == []
    assert len(seen_by("b")) == 4


def test_a_reader_that_fails_sees_the_events_again(db) -> None:
    outbox.publish("consent.withdrawn", "patient:1")
    with pytest.raises(RuntimeError), outbox.read("a"):
        raise RuntimeError("died while reading")
    assert seen_by("a") == ["patient:1"]


def test_unknown_kinds_and_double_names_are_errors(db) -> None:
    with pytest.raises(ValueError, match="unknown"):
        outbox.publish("gossip", "patient:1")
    registry: Registry[int] = Registry("number")
    registry.register("one", 1)
    with pytest.raises(ValueError, match="already"):
        registry.register("one", 2)
    assert registry.items() == [("one", 1)]
