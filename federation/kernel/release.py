"""The release policy as a state machine: (state, query, distances) → (answer, state, what was said to whom).

Pure and deterministic: the same log played again gives the same answers and counters. Rows that may not stand
behind an answer are taken out before anything is compared, so that an answer is, bit for bit, that of a
gallery without them: rows of the asker, of the same person, spent for the asker, and those the photo was
answered about.

An answer names classes. What would name a patient, a look-alike without a diagnosis or a class of fewer than
`policy.crowd` patients, is a match: proposed to its owner, and no part of the asker's answer before the owner
accepts. Answer and matches are chosen apart, so that a waiting match leaves no gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from federation.kernel.errors import DecisionRefused, QueryRefused
from federation.kernel.gallery import Gallery
from federation.kernel.policy import Policy
from federation.kernel.state import Bound, BoundPhotos, Pair, Stand, State, pair_id

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Said = tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Query:
    """asker: site; asking: `patient_name` of the patient asked for; photo, commitment: `commitments.Opening`.

    vector_sha256: of the masked rows; day: of the coordinator's clock, whole days since 1970.
    """

    asker: str
    asking: str
    photo: str
    commitment: str
    model_sha256: str
    vector_sha256: str
    day: int


@dataclass(frozen=True)
class Candidate:
    """A class and its band; elsewhere in the federation, nobody says where."""

    tag: str
    band: str


@dataclass(frozen=True)
class Step:
    """answer: by band, then by tag, so that its order says nothing more. said: (site, line) for the log."""

    answer: tuple[Candidate, ...]
    state: State
    said: Said


@dataclass(frozen=True)
class _Fresh:
    """A row that may be named for the first time."""

    patient: str
    owner: str
    tag: str
    band: str


def ask(
    state: State, policy: Policy, query: Query, gallery: Gallery, distances: Float32,
    *, nearest_earlier: float | None = None,
) -> Step:  # fmt: skip
    """distances (N,) of the query to the gallery; nearest_earlier: to the asker's other photos, if any.

    QueryRefused, with nothing charged or remembered, for a question that the policy does not allow.
    """
    bound = _bind(state, policy, query, nearest_earlier)
    days, number = state.days.count(query.asker, query.day, policy)
    present = _present(state, policy, query, gallery, distances)
    classes, matches = _nearest(policy, gallery, distances, present, state.pairs_of(query.photo).keys())
    chosen = _choose(state, policy, query, gallery, classes)
    step = replace(state, days=days, bound=bound)
    said: list[tuple[str, dict[str, Any]]] = []
    for fresh in chosen:
        step = _add(step, policy, query, fresh, "answered")
        said.append((fresh.owner, _charge_line("charged", step, query, fresh)))
    answer, shown = _answer(step, policy, query, gallery, {fresh.patient for fresh in chosen})
    for fresh in matches:
        if step.shown.is_spent(query.asking, fresh.owner, policy):
            continue
        step = _add(step, policy, query, fresh, "proposed")
        said.append((fresh.owner, _charge_line("proposed", step, query, fresh) | {"band": fresh.band}))
    line = {"kind": "answered", "photo": query.photo, "model": query.model_sha256, "day": query.day,
            "number": number, "candidates": shown}  # fmt: skip
    return Step(answer, step, ((query.asker, line), *said))


def decide(state: State, photo: str, patient: str, *, owner: str, accept: bool) -> Step:
    """The owner's word on a proposed match. The asker hears of an accepted one, and nothing of others.

    DecisionRefused for anybody else's match, or one that waits no longer.
    """
    pair = state.pairs_of(photo).get(patient)
    if pair is None or pair.owner != owner or pair.stand != "proposed":
        raise DecisionRefused("This match does not wait for a decision of this hospital.")
    decided = replace(pair, stand="accepted" if accept else "declined")
    name = pair_id(photo, patient)
    said: list[tuple[str, dict[str, Any]]] = [
        (owner, {"kind": "decided", "row": patient, "pair": name, "accepted": accept})
    ]
    if accept:
        line = {"kind": "matched", "photo": photo, "pair": name, "tag": pair.tag, "band": pair.band}
        said.append((pair.asker, line))
    answer = (Candidate(pair.tag, pair.band),) if accept else ()
    return Step(answer, state.with_pair(photo, patient, decided), tuple(said))


def matches_of(state: State, photo: str) -> tuple[Candidate, ...]:
    """What the asker may see of accepted matches: band and tag."""
    found = [pair for pair in state.pairs_of(photo).values() if pair.stand == "accepted"]
    return tuple(
        sorted((Candidate(pair.tag, pair.band) for pair in found), key=lambda own: (own.band, own.tag))
    )


def proposals_for(state: State, owner: str) -> tuple[tuple[str, str, Pair], ...]:
    """(photo, patient, pair) of the matches that wait for this owner."""
    return tuple(
        (photo, patient, pair)
        for photo, own in state.pairs.items()
        for patient, pair in own.items()
        if pair.owner == owner and pair.stand == "proposed"
    )


# --- who may stand behind an answer -------------------------------------------------------------------------


def _bind(state: State, policy: Policy, query: Query, nearest: float | None) -> BoundPhotos:
    """One vector per photo and model, one asker and patient per photo."""
    wanted = Bound(query.asker, query.asking, query.commitment, query.vector_sha256)
    models = state.bound.get(query.photo, {})
    if any((found.asker, found.asking) != (query.asker, query.asking) for found in models.values()):
        raise QueryRefused("The photo belongs to another question. Ask with a photo of this patient.")
    known = models.get(query.model_sha256)
    if known is not None and known != wanted:
        raise QueryRefused("The photo was asked about with other numbers before. Ask with the same ones.")
    if known is None and nearest is not None and nearest < policy.near_identical:
        raise QueryRefused("The photo is nearly the same as one asked about before. Use that one's answer.")
    return {**state.bound, query.photo: {**models, query.model_sha256: wanted}}


def _present(state: State, policy: Policy, query: Query, gallery: Gallery, distances: Float32) -> Bools:
    """(N,) bool: the gallery that this question sees.

    A spent row that the photo was answered about stays: asking again changes nothing.
    """
    if distances.shape != (len(gallery.rows),) or not np.isfinite(distances).all():
        raise QueryRefused("The distances do not fit the gallery. Compute them again.")
    present: Bools = (distances > policy.same_person) & (gallery.owners != query.asker)
    out = state.budgets.spent(query.asker, policy) - state.pairs_of(query.photo).keys()
    present[[gallery.positions[name] for name in out if name in gallery.positions]] = False
    return present


def _nearest(
    policy: Policy, gallery: Gallery, distances: Float32, present: Bools, known: Iterable[str]
) -> tuple[list[_Fresh], list[_Fresh]]:
    """Nearest new row within a band of each class of a crowd; new ones among the nearest matches.

    Matches are the nearest `candidates` of all that go to owners, known ones among them, so that asking again
    does not walk down the list. A class is a crowd by all its rows, known or not.
    """
    seen_before, places = frozenset(known), np.flatnonzero(present)
    sizes = Counter(gallery.rows[place].tag for place in places.tolist())
    classes: dict[str, _Fresh] = {}
    matches: list[_Fresh] = []
    small: set[str] = set()
    for place in places[np.argsort(distances[places], kind="stable")].tolist():
        row, band = gallery.rows[place], policy.band(float(distances[place]))
        if band is None:
            break
        fresh = _Fresh(row.patient, row.owner, row.tag, band)
        if row.tag != "" and sizes[row.tag] >= policy.crowd:
            if row.patient not in seen_before:
                classes.setdefault(row.tag, fresh)
        elif row.tag not in small:
            small |= {row.tag} - {""}  # every unsolved patient is a match of their own
            matches.append(fresh)
    new = [fresh for fresh in matches[: policy.candidates] if fresh.patient not in seen_before]
    return list(classes.values()), new


# --- what is said -------------------------------------------------------------------------------------------


def _standing(state: State, query: Query, gallery: Gallery) -> dict[str, tuple[str, str]]:
    """{patient: (tag, band)} of answers that the photo has had and whose patient is still here."""
    return {
        patient: (pair.tag, pair.band)
        for patient, pair in state.pairs_of(query.photo).items()
        if pair.stand == "answered" and patient in gallery.positions
    }


def _choose(
    state: State, policy: Policy, query: Query, gallery: Gallery, classes: Iterable[_Fresh]
) -> list[_Fresh]:
    """New rows that get into the answer: their class was not named in this band or a nearer one before."""
    best: dict[str, int] = {}
    for tag, band in _standing(state, query, gallery).values():
        best[tag] = min(policy.place(band), best.get(tag, len(policy.bands)))
    ranked = [(place, 0, 0.0, tag) for tag, place in best.items()]
    by_tag = {fresh.tag: fresh for fresh in classes}
    for order, fresh in enumerate(classes):
        place = policy.place(fresh.band)
        if place < best.get(fresh.tag, len(policy.bands)):
            ranked = [entry for entry in ranked if entry[3] != fresh.tag]
            ranked.append((place, 1, float(order), fresh.tag))
    named = sorted(ranked)[: policy.candidates]
    return [by_tag[tag] for _, new, _, tag in named if new]


def _answer(
    state: State, policy: Policy, query: Query, gallery: Gallery, fresh: set[str]
) -> tuple[tuple[Candidate, ...], list[dict[str, str]]]:
    """The answer from pairs alone, old and new, and its lines for the asker's log."""
    best: dict[str, tuple[int, int, str]] = {}
    for patient, (tag, band) in _standing(state, query, gallery).items():
        entry = (policy.place(band), int(patient in fresh), patient)
        best[tag] = min(entry, best.get(tag, entry))
    ranked = sorted((place, new, tag, patient) for tag, (place, new, patient) in best.items())
    named = sorted((place, tag, patient) for place, _, tag, patient in ranked[: policy.candidates])
    candidates = tuple(Candidate(tag, policy.bands[place][0]) for place, tag, _ in named)
    lines = [
        {"tag": own.tag, "band": own.band, "pair": pair_id(query.photo, patient)}
        for own, (_, _, patient) in zip(candidates, named, strict=True)
    ]
    return candidates, lines


def _add(state: State, policy: Policy, query: Query, fresh: _Fresh, stand: Stand) -> State:
    pair = Pair(query.asker, query.asking, fresh.owner, fresh.tag, fresh.band, stand)
    budgets = state.budgets.charge(fresh.patient, query.asker, policy)
    shown = state.shown
    if stand == "proposed":
        shown = shown.charge(query.asking, fresh.owner, policy)
    return replace(state, budgets=budgets, shown=shown).with_pair(query.photo, fresh.patient, pair)


def _charge_line(kind: str, state: State, query: Query, fresh: _Fresh) -> dict[str, Any]:
    """What the owner's log says: which of its rows, who asked, and how far the counters are."""
    return {
        "kind": kind,
        "row": fresh.patient,
        "hospital": query.asker,
        "pair": pair_id(query.photo, fresh.patient),
        "by_hospital": state.budgets.by_hospital(fresh.patient, query.asker),
        "in_all": state.budgets.in_all(fresh.patient),
    }
