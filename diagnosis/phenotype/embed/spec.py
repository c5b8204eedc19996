"""What an ensemble is, as data: members, and the table of rows that one photo's embedding set has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from diagnosis.phenotype.embed.views import ALL_VIEWS, LUMA_WEIGHTS, View
from diagnosis.phenotype.errors import FormatError

FORMAT = "gestaltweb-ensemble/1"
INPUT = "arcface-112-rgb (x/255-0.5)/0.5"
MAX_ROWS = 64
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """One network of an ensemble; sha256 is that of its safetensors file.

    synthetic says that it was trained on rendered faces, so is for demonstration only. origin and licence
    are shown to users and decide nothing.
    """

    name: str
    architecture: str
    sha256: str
    synthetic: bool = False
    origin: str = ""
    licence: str = ""


@dataclass(frozen=True)
class EnsembleRow:
    """One row of an embedding set: the view that the named member embeds."""

    member: str
    flip: bool
    grey: bool

    @property
    def view(self) -> View:
        """The view of the face that goes into the member."""
        return View(flip=self.flip, grey=self.grey)


@dataclass(frozen=True)
class EnsembleSpec:
    """Members and rows; row r of every embedding set is rows[r]. Checked at construction (FormatError)."""

    members: tuple[Member, ...]
    rows: tuple[EnsembleRow, ...]

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        if not names or len(set(names)) != len(names) or not all(names):
            raise FormatError("An ensemble needs at least one member, each with a name of its own.")
        for member in self.members:
            if not SHA256_PATTERN.fullmatch(member.sha256):
                raise FormatError(f"Member {member.name} needs a sha256 of 64 lower-case hexadecimal digits.")
        used = {row.member for row in self.rows}
        if used != set(names) or len(set(self.rows)) != len(self.rows) or len(self.rows) > MAX_ROWS:
            raise FormatError(
                f"The rows of an ensemble (at most {MAX_ROWS}, none twice) must use each member and no other."
            )

    @cached_property
    def sha256(self) -> str:
        """Identity of the numbers that this ensemble gives: rows, weights and preprocessing.

        Two ensembles with the same sha256 give the same embeddings, whatever their members are called.
        """
        by_name = {member.name: member for member in self.members}
        rows = [
            [by_name[row.member].architecture, by_name[row.member].sha256, row.flip, row.grey]
            for row in self.rows
        ]
        facts = {"format": FORMAT, "input": INPUT, "luma": LUMA_WEIGHTS, "rows": rows}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def synthetic(self) -> bool:
        """Whether any member was trained on synthetic faces: then it is for demonstration only."""
        return any(member.synthetic for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` makes an equal specification."""
        return {
            "format": FORMAT,
            "members": [asdict(member) for member in self.members],
            "rows": [asdict(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EnsembleSpec:
        """The specification in an object of `to_json`. FormatError for anything else."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise FormatError(f"This is no ensemble of format {FORMAT}; write it with this version again.")
        try:
            members = tuple(Member(**member) for member in data["members"])
            rows = tuple(EnsembleRow(**row) for row in data["rows"])
        except (KeyError, TypeError) as error:
            raise FormatError(
                "An ensemble lists members (name, architecture, sha256) and rows (member, flip, grey)."
            ) from error
        _check_types(members, rows)
        return cls(members, rows)


def _check_types(members: tuple[Member, ...], rows: tuple[EnsembleRow, ...]) -> None:
    texts = [text for m in members for text in (m.name, m.architecture, m.sha256, m.origin, m.licence)]
    texts += [row.member for row in rows]
    flags = [m.synthetic for m in members] + [flag for row in rows for flag in (row.flip, row.grey)]
    if not (all(isinstance(t, str) for t in texts) and all(isinstance(f, bool) for f in flags)):
        raise FormatError(
            "In an ensemble, names and hashes are texts; synthetic, flip and grey true or false."
        )


def full_ensemble(members: Iterable[Member], views: Iterable[View] = ALL_VIEWS) -> EnsembleSpec:
    """Every member on every view: member outer, then flip, then grey (m = 12 for three members)."""
    members, views = tuple(members), tuple(views)
    rows = tuple(EnsembleRow(member.name, v.flip, v.grey) for member in members for v in views)
    return EnsembleSpec(members, rows)
