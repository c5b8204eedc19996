"""Embedding rows of photos under a round's candidate, as the extractor that is made of it gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from diagnosis import pictures, vault
from diagnosis.errors import NotReady, Unreadable
from diagnosis.models import Photo
from federation.plans import RoundPlan
from federation.services.features import photos_allowed
from federation.storage import blob_path

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.ensemble import Ensemble
    from diagnosis.phenotype.embed.spec import EnsembleSpec

#: RoundPlan.rows_per_member → (flip, grey) of the extractor that is made of a candidate.
VIEWS = {1: (False, False), 2: (True, False), 4: (True, True)}


def views_of(plan: RoundPlan) -> tuple[bool, bool]:
    """(flip, grey) of the plan's rows. NotReady for a number of rows that no extractor has."""
    if plan.rows_per_member not in VIEWS:
        raise NotReady("The plan asks for a number of rows per photo that no extractor has.")
    return VIEWS[plan.rows_per_member]


def candidate_spec(plan: RoundPlan, members: Sequence[dict[str, Any]]) -> EnsembleSpec:
    """The ensemble of these members ({name, weights, …}), in the plan's order, on the plan's views."""
    from diagnosis.phenotype.embed.spec import Member, full_ensemble
    from diagnosis.phenotype.embed.views import ALL_VIEWS

    flip, grey = views_of(plan)
    views = [view for view in ALL_VIEWS if (flip or not view.flip) and (grey or not view.grey)]
    networks = [Member(m["name"], plan.member(m["name"]).architecture, m["weights"]) for m in members]
    return full_ensemble(networks, views)


def candidate_ensemble(plan: RoundPlan, members: Sequence[dict[str, Any]]) -> Ensemble:
    """The candidate's networks, from the blobs that this site computed or fetched. Checked by hash."""
    from diagnosis.phenotype.embed.ensemble import load_ensemble

    paths = {member["weights"]: blob_path(member["weights"]) for member in members}
    return load_ensemble(candidate_spec(plan, members), paths)


def rows_of(photos: Iterable[int], ensemble: Ensemble) -> dict[int, npt.NDArray[np.float32]]:
    """Photo primary key → (m, 512) float32 unit rows, of photos that may be trained with at this moment.

    As `diagnosis.engine` embeds the stored crop. Photos erased meanwhile are left out.
    """
    rows: dict[int, npt.NDArray[np.float32]] = {}
    for photo in photos_allowed(sorted(set(photos)), at_once=1):
        with contextlib.suppress(Unreadable):
            rows[photo.pk] = _embedded(photo, ensemble)
    return rows


def _embedded(photo: Photo, ensemble: Ensemble) -> npt.NDArray[np.float32]:
    pixels = pictures.read_stored(vault.blob_read(photo.key, photo.crop, purpose="crop"))
    return np.asarray(ensemble.embed(pixels[None])[0].rows)
