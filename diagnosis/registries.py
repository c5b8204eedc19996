"""What other rooms may add to the clinic's pages without the clinic knowing them.

A registry maps a name to a callable; registering twice is an error, so that two rooms cannot fight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries in order of registration."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> None:
        """Add `entry`; ValueError if the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.what} {name!r} is registered already")
        self._entries[name] = entry

    def items(self) -> list[tuple[str, T]]:
        """All entries, oldest first."""
        return list(self._entries.items())


@dataclass(frozen=True)
class RankingSource:
    """Another list beside this hospital's own. `rank(case, user)` answers a template context or None."""

    label: str
    explanation: str
    rank: Callable[[Any, Any], dict[str, Any] | None]


@dataclass(frozen=True)
class CasePanel:
    """A panel on the case page: a template and what fills it."""

    template: str
    context: Callable[[Any, Any], dict[str, Any] | None]


ranking_sources: Registry[RankingSource] = Registry("ranking source")
case_panels: Registry[CasePanel] = Registry("case panel")
ledger_lines: Registry[Callable[[dict[str, Any]], str]] = Registry("ledger line")
navigation: Registry[Callable[[Any], list[tuple[str, str]]]] = Registry("navigation entry")
# Called after keys were destroyed: drop whatever a process still holds in memory of erased photos.
after_erasure: Registry[Callable[[], None]] = Registry("memory to forget")
