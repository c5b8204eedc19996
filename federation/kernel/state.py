"""Everything that a kernel session remembers about what was said. Plain JSON, no distance, no embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from federation.kernel.budgets import Budgets, Days
from federation.kernel.errors import ConfigRefused

#: "answered" to the asker at once; a match is "proposed" to its owner, who accepts or declines.
Stand = Literal["answered", "proposed", "accepted", "declined"]
VERSION = 1


@dataclass(frozen=True)
class Pair:
    """What was said, or waits to be said, about one photo and one patient; its band never changes."""

    asker: str
    asking: str
    owner: str
    tag: str
    band: str
    stand: Stand


@dataclass(frozen=True)
class Bound:
    """Which vector a photo has under a model, and who asks with it for which patient."""

    asker: str
    asking: str
    commitment: str
    vector_sha256: str


Pairs = Mapping[str, Mapping[str, Pair]]
BoundPhotos = Mapping[str, Mapping[str, Bound]]


@dataclass(frozen=True)
class State:
    """pairs: {photo: {patient: Pair}}; bound: {photo: {model: Bound}}; shown: askers' patients to owners.

    budgets count the gallery's patients by the hospital that asked. shown counts the patients asked about by
    the owner to whom a match was proposed: an owner that plants rows learns of a question what an asker
    learns of a row.
    """

    budgets: Budgets = field(default_factory=Budgets)
    shown: Budgets = field(default_factory=Budgets)
    days: Days = field(default_factory=Days)
    bound: BoundPhotos = field(default_factory=dict)
    pairs: Pairs = field(default_factory=dict)

    def pairs_of(self, photo: str) -> Mapping[str, Pair]:
        """{patient: Pair} of one photo."""
        return self.pairs.get(photo, {})

    def with_pair(self, photo: str, patient: str, pair: Pair) -> State:
        """The state with this pair added or changed."""
        return replace(self, pairs={**self.pairs, photo: {**self.pairs_of(photo), patient: pair}})

    def forget(self, patients: Iterable[str]) -> State:
        """After these patients left: what was said about them goes, their counters stay."""
        gone = frozenset(patients)
        kept = {
            photo: {name: pair for name, pair in own.items() if not gone & {name, pair.asking}}
            for photo, own in self.pairs.items()
        }
        bound = {
            photo: models
            for photo, models in self.bound.items()
            if not any(found.asking in gone for found in models.values())
        }
        return replace(self, pairs={photo: own for photo, own in kept.items() if own}, bound=bound)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "v": VERSION,
            "budgets": {patient: dict(own) for patient, own in self.budgets.used.items()},
            "shown": {patient: dict(own) for patient, own in self.shown.used.items()},
            "days": {hospital: list(entry) for hospital, entry in self.days.asked.items()},
            "bound": {
                photo: {model: asdict(found) for model, found in models.items()}
                for photo, models in self.bound.items()
            },
            "pairs": {
                photo: {patient: asdict(pair) for patient, pair in own.items()}
                for photo, own in self.pairs.items()
            },
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> State:
        """The reverse of `as_json`; ConfigRefused for anything else."""
        try:
            if found["v"] != VERSION:
                raise ValueError("version")
            days = {hospital: (int(day), int(count)) for hospital, (day, count) in found["days"].items()}
            pairs = {
                photo: {patient: Pair(**pair) for patient, pair in own.items()}
                for photo, own in found["pairs"].items()
            }
            bound = {
                photo: {model: Bound(**entry) for model, entry in models.items()}
                for photo, models in found["bound"].items()
            }
            return cls(Budgets(found["budgets"]), Budgets(found["shown"]), Days(days), bound, pairs)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigRefused("The kernel session's memory is damaged. Restore it from its log.") from None


def pair_id(photo: str, patient: str) -> str:
    """Names a pair in both hospitals' logs; says nothing to who knows one half (both are 256-bit secrets)."""
    return hashlib.sha256(f"gestaltweb/kernel-pair/1/{photo}/{patient}".encode()).hexdigest()
