"""Classifier rows of syndromes too rare to be shared: they stay at the site, for its own next round.

Such a row is nearly an embedding of the few patients behind it. So it is sealed under the data key of every
photo it was trained on, one around the other: when any of them is erased, nobody can open it again.
A round starts from the rows of the round before, never from its own, or a repeated attempt would differ.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings

from diagnosis import selectors, vault
from diagnosis.errors import Unreadable
from diagnosis.models import Photo
from federation.plans import RoundPlan
from federation.services.population import Entrant

if TYPE_CHECKING:
    from federation.learning.heads import Float32, Rows


def _folder() -> Path:
    return Path(settings.GESTALTWEB_HOME) / "federation" / "local_rows"


def _path(round_sha256: str, member: str) -> Path:
    """<round, 16 digits>/<hash of the member's name>.json"""
    name = hashlib.sha256(member.encode()).hexdigest()[:16]
    return _folder() / round_sha256[:16] / f"{name}.json"


def _purpose(member: str, syndrome: str) -> str:
    return f"local-row/{member}/{syndrome}"


def _keys(photos: Sequence[int]) -> list[uuid.UUID]:
    """Data keys of these photos in their order; Unreadable when one is gone."""
    found = dict(Photo.objects.filter(pk__in=photos).values_list("pk", "key"))
    if len(found) != len(photos):
        raise Unreadable("A photo behind this row was erased.")
    return [found[pk] for pk in photos]


def rows_keep(*, plan: RoundPlan, member: str, rows: Rows, entrants: Iterable[Entrant]) -> None:
    """Keep (513,) rows of the syndromes of these entrants. A row whose photo was erased is dropped.

    Rows of rounds before the plan's previous one go: nobody starts from them any more.
    """
    behind = _photos_by_syndrome(entrants)
    kept: dict[str, Any] = {}
    for name in sorted(rows):
        with contextlib.suppress(Unreadable):
            kept[name] = _sealed(member, name, rows[name], behind[name])
    _write(_path(plan.sha256, member), kept)
    for folder in _folder().iterdir():
        if folder.name not in (plan.sha256[:16], plan.previous_round[:16]):
            shutil.rmtree(folder, ignore_errors=True)


def _sealed(member: str, syndrome: str, row: Float32, photos: list[int]) -> dict[str, Any]:
    data = np.ascontiguousarray(row, dtype="<f4").tobytes()
    for key in _keys(photos):
        data = vault.seal(key, data, purpose=_purpose(member, syndrome))
    return {"photos": photos, "sealed": base64.b64encode(data).decode()}


def _write(path: Path, kept: dict[str, Any]) -> None:
    vault.write_private(path, json.dumps(kept, sort_keys=True).encode())


def rows_kept(*, plan: RoundPlan, member: str, entrants: Iterable[Entrant]) -> Rows:
    """The rows kept after the plan's previous round, of syndromes whose photos may all still be used."""
    path = _path(plan.previous_round, member)
    if not plan.previous_round or not path.exists():
        return {}
    behind = _photos_by_syndrome(entrants)
    rows: Rows = {}
    for name, entry in json.loads(path.read_text("utf-8")).items():
        if set(entry["photos"]) <= set(behind.get(name, ())):
            with contextlib.suppress(Unreadable):
                rows[name] = _opened(member, name, entry)
    return rows


def rows_discard() -> int:
    """Drop rows behind which a photo stands that may not be trained with any more; returns how many."""
    dropped = 0
    for path in sorted(_folder().glob("*/*.json")):
        entries = json.loads(path.read_text("utf-8"))
        kept = {name: entry for name, entry in entries.items() if _all_allowed(entry["photos"])}
        if len(kept) < len(entries):
            _write(path, kept)
        dropped += len(entries) - len(kept)
    return dropped


def _all_allowed(photos: list[int]) -> bool:
    return selectors.for_training().filter(pk__in=photos).count() == len(photos)


def _opened(member: str, syndrome: str, entry: dict[str, Any]) -> Float32:
    data = base64.b64decode(entry["sealed"])
    for key in reversed(_keys(entry["photos"])):
        data = vault.unseal(key, data, purpose=_purpose(member, syndrome))
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _photos_by_syndrome(entrants: Iterable[Entrant]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entrant in sorted(entrants):
        found.setdefault(entrant.syndrome, []).append(entrant.photo)
    return found
