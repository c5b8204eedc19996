"""A question from embeddings to answer and log, and what both ends find when they check."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kernel_cases import MODEL, POLICY, SECRET, Coordinator, config, make_gallery, people

from federation.kernel import audit
from federation.kernel.commitments import Opening, class_tag, patient_name, vector_sha256
from federation.kernel.errors import AuditFailed, QueryRefused, RowsRefused
from federation.kernel.gallery import Gallery, Row
from federation.kernel.mask import Mask
from federation.kernel.release import Query
from federation.kernel.session import Earlier, answer_query
from federation.kernel.state import State

IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)
PUBLIC = IDENTITY.public_key().public_bytes_raw()
SESSION = config().digest()
NOTHING = Earlier((), np.empty((0, 2, 576), np.float32))


def towards(start: np.ndarray, other: np.ndarray, distance: float) -> np.ndarray:
    """(m, d) unit rows at exactly this cosine distance from `start`, in the direction of `other`."""
    away = other - np.sum(other * start, axis=1, keepdims=True) * start
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = 1.0 - distance
    return (cosine * start + np.sqrt(1.0 - cosine * cosine) * away).astype(np.float32)


def ask_about(
    face: np.ndarray, gallery: Gallery, photo: str = "01" * 32, state: State | None = None, **changes: Any
) -> Any:
    rows = Mask.derive(SECRET, config()).apply(face[None])[0]
    own = Opening.of(bytes([1]) * 32, photo)
    query = Query(
        "a",
        patient_name(bytes([1]) * 32, photo),
        own.photo,
        own.commitment(MODEL),
        MODEL,
        vector_sha256(rows),
        1,
    )
    return answer_query(state or State(), POLICY, replace(query, **changes), rows, gallery, NOTHING)


@pytest.fixture(scope="module")
def story() -> SimpleNamespace:
    faces = people(8, seed=3)
    mask = Mask.derive(SECRET, config())
    rows = tuple(
        Row(patient_name(bytes([2]) * 32, str(index)), "b", class_tag(SECRET, f"SYN:{index}"))
        for index in range(8)
    )
    return SimpleNamespace(faces=faces, mask=mask, gallery=Gallery(rows, mask.apply(faces)))


def test_a_question_is_answered_from_masked_rows_as_from_embeddings(story: SimpleNamespace) -> None:
    other = people(1, seed=9)[0]
    for distance, band in ((0.36, "High"), (0.44, "Medium"), (0.48, None), (0.25, None)):
        answer = ask_about(towards(story.faces[3], other, distance), story.gallery).answer
        named = {own.band for own in answer if own.tag == class_tag(SECRET, "SYN:3")}
        assert named == ({band} if band else set())


def test_numbers_that_are_not_of_unit_length_or_not_those_named_are_refused(story: SimpleNamespace) -> None:
    with pytest.raises(RowsRefused):
        ask_about(story.faces[3] * np.float32(1.1), story.gallery)
    with pytest.raises(QueryRefused, match="not those that it names"):
        ask_about(story.faces[3], story.gallery, vector_sha256="0" * 64)


def test_nearly_the_same_photo_is_noticed_under_the_mask(story: SimpleNamespace) -> None:
    masked = story.mask.apply(np.stack([story.faces[0], towards(story.faces[0], story.faces[1], 0.02)]))
    earlier = Earlier(("p", "q"), masked)
    found = story.mask.apply(towards(story.faces[0], story.faces[1], 0.04)[None])[0]
    own = [earlier.nearest_other(photo, found) for photo in ("p", "q", "r")]
    slow = [1.0 - float(np.mean(np.sum(found * row, axis=1))) for row in masked]
    assert own == pytest.approx([slow[1], slow[0], min(slow)], abs=1e-5)
    assert NOTHING.nearest_other("p", found) is None


# --- both ends check ----------------------------------------------------------------------------------------


def logs(own: Coordinator) -> dict[str, list[audit.Line]]:
    """Each site's signed lines of what the coordinator said to it."""
    found: dict[str, list[audit.Line]] = {}
    for site, bodies in own.lines.items():
        lines: list[audit.Line] = []
        for body in bodies:
            last = lines[-1] if lines else None
            lines.append(audit.next_line(last, body, session=SESSION, site=site, identity=IDENTITY))
        found[site] = lines
    return found


@pytest.fixture
def played() -> tuple[Coordinator, dict[str, list[audit.Line]]]:
    """Two askers, named classes, look-alikes accepted and declined, budgets used up."""
    own = Coordinator(make_gallery(("p0", "b", "t"), ("p1", "c", "s"), ("u0", "b", ""), ("u1", "c", "")))
    for number in range(6):
        for asker in "ad":
            own.ask(
                f"{asker}{number}", {"p0": 0.35, "p1": 0.42, "u0": 0.36, "u1": 0.33}, asker=asker, day=number
            )
    own.ask("a0", {"p0": 0.35, "p1": 0.42}, asker="a", day=7)
    own.decide("a0", "u0", "b", accept=True)
    own.decide("a0", "u1", "c", accept=False)
    return own, logs(own)


def test_honest_logs_pass_and_give_the_counters_of_the_coordinator(played: Any) -> None:
    own, lines = played
    for site, found in lines.items():
        audit.check_lines(found, PUBLIC, session=SESSION, site=site)
        audit.recheck_answers(found, own.policy)
        for patient, used in audit.recount(found, own.policy).used.items():
            assert used == own.state.budgets.used[patient]
    counted = audit.recount(lines["b"], own.policy)
    assert {"p0", "u0"} == set(counted.used) and counted.by_hospital("p0", "a") == 4
    for asker in "ad":
        audit.compare_ends(asker, lines[asker], {site: lines[site] for site in "bc"})


def test_lines_that_are_changed_left_out_swapped_or_of_others_are_noticed(played: Any) -> None:
    _, lines = played
    own = lines["b"]
    other = Ed25519PrivateKey.generate()
    forged = audit.next_line(None, own[0].body, session=SESSION, site="b", identity=other)
    for wrong in (
        [replace(own[0], body=own[0].body | {"in_all": 9}), *own[1:]], own[1:], [own[0], *own[2:]],
        [own[1], own[0], *own[2:]], [own[0], own[0], *own[1:]], [forged], lines["c"],
        [replace(own[0], signature="zz"), *own[1:]],
    ):  # fmt: skip
        with pytest.raises(AuditFailed):
            audit.check_lines(wrong, PUBLIC, session=SESSION, site="b")
    with pytest.raises(AuditFailed):
        audit.check_lines(own, PUBLIC, session="0" * 64, site="b")


@pytest.mark.parametrize("changes", [{"in_all": 7}, {"by_hospital": 0}, {"row": "p9"}, {"hospital": "e"}])
def test_counters_that_do_not_add_up_are_noticed(played: Any, changes: dict[str, Any]) -> None:
    own, lines = played
    wrong = [*lines["b"][:3], replace(lines["b"][3], body=lines["b"][3].body | changes), *lines["b"][4:]]
    with pytest.raises(AuditFailed):
        audit.recount(wrong, own.policy)


def test_a_pair_charged_twice_and_a_budget_passed_are_noticed(played: Any) -> None:
    own, lines = played
    charges = [line for line in lines["b"] if line.body["kind"] == "charged" and line.body["hospital"] == "a"]
    with pytest.raises(AuditFailed):
        audit.recount([charges[0], charges[0]], own.policy)
    fifth = {"by_hospital": 5, "in_all": 5, "pair": "0" * 64}
    more = [replace(line, body=line.body | {"in_all": count}) for count, line in enumerate(charges, start=1)]
    audit.recount(more, own.policy)
    with pytest.raises(AuditFailed):
        audit.recount([*more, replace(charges[0], body=charges[0].body | fifth)], own.policy)


def test_answers_beyond_the_policy_or_changed_later_are_noticed(played: Any) -> None:
    own, lines = played
    asked = lines["a"]
    first = asked[0].body["candidates"]
    assert len(first) == 2
    for changes in (
        {"candidates": [*first, *[entry | {"tag": f"x{index}"} for index, entry in enumerate(first)]]},
        {"candidates": [first[0], first[0]]}, {"number": 2}, {"day": 9},
    ):  # fmt: skip
        wrong = [replace(asked[0], body=asked[0].body | changes), *asked[1:]]
        with pytest.raises(AuditFailed):
            audit.recheck_answers(wrong, own.policy)
    changed = [{**entry, "band": "Medium"} for entry in first]
    again = next(line for line in asked if line.body.get("day") == 7)
    with pytest.raises(AuditFailed, match="otherwise"):
        audit.recheck_answers(
            [*asked[:-2], replace(again, body=again.body | {"candidates": changed})], own.policy
        )
    with pytest.raises(AuditFailed):
        audit.recheck_answers(asked, replace(own.policy, queries_per_day=1, candidates=1))


def test_an_answer_nobody_was_charged_for_is_noticed_when_both_ends_are_compared(played: Any) -> None:
    _, lines = played
    owners = {"b": lines["b"], "c": lines["c"]}
    for left_out in ("charged", "decided"):
        fewer = {"b": [line for line in lines["b"] if line.body["kind"] != left_out], "c": lines["c"]}
        with pytest.raises(AuditFailed):
            audit.compare_ends("a", lines["a"], fewer)
    with pytest.raises(AuditFailed):
        audit.compare_ends("a", lines["a"][1:-1], owners)
