"""Classifier rows of syndromes too rare to be shared: they stay at the site, for its own next round.

Such a row is nearly an embedding of the few patients behind it. So it is sealed under the data key of every
photo it was trained on, one around the other: when any of them is erased, nobody can open it again.
A round starts from the rows of the round before, never from its own, or a repeated attempt would differ.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings

from diagnosis import vault
from diagnosis.errors import Unreadable
from diagnosis.models import Photo
from federation.services.population import Entrant

if TYPE_CHECKING:
    from federation.learning.heads import Float32, Rows


def _path(round_sha256: str, member: str) -> Path:
    name = vault.keyed_hash("local-rows", f"{round_sha256}/{member}".encode())[:32]
    return Path(settings.GESTALTWEB_HOME) / "federation" / "local_rows" / f"{name}.json"


def _purpose(member: str, syndrome: str) -> str:
    return f"local-row/{member}/{syndrome}"


def _keys(photos: Sequence[int]) -> list[uuid.UUID]:
    """Data keys of these photos in their order; Unreadable when one is gone."""
    found = dict(Photo.objects.filter(pk__in=photos).values_list("pk", "key"))
    if len(found) != len(photos):
        raise Unreadable("A photo behind this row was erased.")
    return [found[pk] for pk in photos]


def rows_keep(*, round_sha256: str, member: str, rows: Rows, entrants: Iterable[Entrant]) -> None:
    """Keep (513,) rows of the syndromes of these entrants. A row whose photo was erased is dropped."""
    behind = _photos_by_syndrome(entrants)
    kept: dict[str, Any] = {}
    for name in sorted(rows):
        try:
            data = np.ascontiguousarray(rows[name], dtype="<f4").tobytes()
            for key in _keys(behind[name]):
                data = vault.seal(key, data, purpose=_purpose(member, name))
        except Unreadable:
            continue
        kept[name] = {"photos": behind[name], "sealed": base64.b64encode(data).decode()}
    vault.write_private(_path(round_sha256, member), json.dumps(kept, sort_keys=True).encode())


def rows_kept(*, round_sha256: str, member: str, entrants: Iterable[Entrant]) -> Rows:
    """The rows that were kept after this round, of syndromes whose photos may all still be used."""
    path = _path(round_sha256, member)
    if not round_sha256 or not path.exists():
        return {}
    behind = _photos_by_syndrome(entrants)
    rows: Rows = {}
    for name, entry in json.loads(path.read_text("utf-8")).items():
        if set(entry["photos"]) <= set(behind.get(name, ())):
            row = _opened(member, name, entry)
            if row is not None:
                rows[name] = row
    return rows


def _opened(member: str, syndrome: str, entry: dict[str, Any]) -> Float32 | None:
    data = base64.b64decode(entry["sealed"])
    try:
        for key in reversed(_keys(entry["photos"])):
            data = vault.unseal(key, data, purpose=_purpose(member, syndrome))
    except Unreadable:
        return None
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _photos_by_syndrome(entrants: Iterable[Entrant]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entrant in sorted(entrants):
        found.setdefault(entrant.syndrome, []).append(entrant.photo)
    return found
