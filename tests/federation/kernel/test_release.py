"""The release policy: what is answered, what is charged, what stays silent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import POLICY, Coordinator, make_gallery, make_query

from federation.kernel.errors import ConfigRefused, DecisionRefused, QueryRefused
from federation.kernel.release import Candidate, ask, matches_of, proposals_for
from federation.kernel.state import State

HIGH, MEDIUM, FAR, SAME = 0.35, 0.42, 0.7, 0.2


def world(*rows: tuple[str, str, str], **changes: Any) -> Coordinator:
    return Coordinator(make_gallery(*rows), replace(POLICY, **changes))


def test_bands_of_three_classes_at_most_and_nothing_beyond() -> None:
    own = world(*[(f"p{index}", "b", f"t{index}") for index in range(5)], ("far", "b", "t9"))
    distances = {"p0": 0.45, "p1": 0.36, "p2": 0.31, "p3": 0.40, "p4": 0.38}
    assert own.ask("q", distances) == [("t1", "High"), ("t2", "High"), ("t4", "High")]
    assert own.ask("r", {"p0": 0.45}) == [("t0", "Medium")]
    assert own.ask("s", {}) == []


def test_the_order_within_a_band_says_nothing_of_distance() -> None:
    for nearer in ("p0", "p1"):
        own = world(("p0", "b", "x"), ("p1", "b", "w"))
        distances = {"p0": 0.37, "p1": 0.37} | {nearer: 0.32}
        assert own.ask("q", distances) == [("w", "High"), ("x", "High")]


def test_an_answer_says_no_number_patient_or_hospital() -> None:
    own = world(("p0", "b", "t"), ("u", "c", ""))
    answer = ask(State(), own.policy, make_query("q"), own.gallery, np.array([HIGH, HIGH], np.float32))
    assert answer.answer == (Candidate("t", "High"),)
    told = [body for site, body in answer.said if site == "a"]
    assert len(told) == 1 and set(told[0]) == {"kind", "photo", "model", "day", "number", "candidates"}
    assert [set(entry) for entry in told[0]["candidates"]] == [{"tag", "band", "pair"}]
    assert "p0" not in json.dumps(told) and not {"b", "c"} & {told[0]["candidates"][0]["tag"]}


def test_the_nearest_row_of_a_class_stands_behind_it() -> None:
    own = world(("p0", "b", "t"), ("p1", "c", "t"))
    own.ask("q", {"p0": MEDIUM, "p1": HIGH})
    assert own.state.budgets.in_all("p1") == 1 and own.state.budgets.in_all("p0") == 0
    assert [body["row"] for body in own.lines["c"]] == ["p1"] and "b" not in own.lines


def test_own_rows_are_left_to_the_hospital_itself() -> None:
    own = world(("p0", "a", "t"), ("p1", "b", "s"))
    assert own.ask("q", {"p0": HIGH, "p1": MEDIUM}) == [("s", "Medium")]


def test_four_answers_to_one_hospital_twelve_over_all_and_never_more() -> None:
    own = world(("p0", "z", "t"))
    for hospital in "abcd":
        got = [own.ask(f"{hospital}{number}", {"p0": HIGH}, asker=hospital) for number in range(6)]
        expected = 4 if hospital != "d" else 0
        assert [bool(answer) for answer in got] == [True] * expected + [False] * (6 - expected)
    assert own.state.budgets.in_all("p0") == 12


def test_a_new_model_a_withdrawal_and_a_restart_reset_no_counter() -> None:
    own = world(("p0", "z", "t"))
    for number in range(4):
        own.ask(f"q{number}", {"p0": HIGH}, model=f"{number}" * 64)
    own.state = State.from_json(json.loads(json.dumps(own.state.forget(["p0"]).as_json())))
    assert own.state.pairs == {}
    assert own.ask("new", {"p0": HIGH}, model="f" * 64) == []
    assert own.state.budgets.by_hospital("p0", "a") == 4


def test_a_pair_answered_once_keeps_its_answer_for_nothing_under_every_model() -> None:
    own = world(("p0", "z", "t"))
    for model, distance in (("1", HIGH), ("2", MEDIUM), ("3", FAR), ("3", HIGH)):
        assert own.ask("q", {"p0": distance}, model=model * 64) == [("t", "High")]
    assert own.state.budgets.in_all("p0") == 1 and len(own.lines["z"]) == 1


def test_a_spent_row_still_answers_the_photos_it_answered() -> None:
    own = world(("p0", "z", "t"))
    for number in range(4):
        own.ask(f"q{number}", {"p0": HIGH})
    assert own.ask("q0", {"p0": HIGH}) == [("t", "High")]
    assert own.ask("q9", {"p0": HIGH}) == []


def test_a_withdrawn_row_answers_nothing_any_more() -> None:
    own = world(("p0", "z", "t"), ("p1", "z", "s"))
    own.ask("q", {"p0": HIGH, "p1": HIGH})
    own.gallery, own.state = make_gallery(("p1", "z", "s")), own.state.forget(["p0"])
    assert own.ask("q", {"p1": HIGH}) == [("s", "High")]


def test_a_new_nearer_row_is_named_and_charged_beside_the_known() -> None:
    own = world(("p0", "z", "t"))
    own.ask("q", {"p0": MEDIUM})
    own.gallery = make_gallery(("p0", "z", "t"), ("p1", "z", "s"), ("p2", "z", "t"))
    assert own.ask("q", {"p0": MEDIUM, "p1": MEDIUM, "p2": MEDIUM}) == [("s", "Medium"), ("t", "Medium")]
    assert own.ask("q", {"p0": MEDIUM, "p1": MEDIUM, "p2": HIGH}) == [("t", "High"), ("s", "Medium")]
    assert [own.state.budgets.in_all(name) for name in ("p0", "p1", "p2")] == [1, 1, 1]


# --- a gallery without them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("crowd", [1, 3])
def test_the_patient_s_own_photo_sees_a_gallery_without_the_patient(crowd: int) -> None:
    """Answer, every line to the asker, and every other owner's lines are the same."""
    rows = [("victim", "b", "t"), ("p1", "b", "t"), ("p2", "c", "t"), ("p3", "c", "t"), ("p4", "c", "s")]
    distances = {"victim": SAME, "p1": HIGH, "p2": MEDIUM, "p3": MEDIUM, "p4": HIGH}
    with_row, without = world(*rows, crowd=crowd), world(*rows[1:], crowd=crowd)
    for photo in ("photo of the victim", "another photo of the victim"):
        assert with_row.ask(photo, distances) == without.ask(photo, distances)
    assert with_row.lines == without.lines and with_row.state == without.state


def test_a_spent_row_is_as_if_it_had_gone() -> None:
    rows = [("p0", "b", "t"), ("p1", "b", "t"), ("p2", "c", "s")]
    spent, without = world(*rows), world(*rows[1:])
    for number in range(4):
        spent.ask(f"spend{number}", {"p0": HIGH})
        without.ask(f"spend{number}", {})
    distances = {"p0": HIGH, "p1": MEDIUM, "p2": MEDIUM}
    assert spent.ask("q", distances) == without.ask("q", distances) == [("s", "Medium"), ("t", "Medium")]
    assert spent.lines["a"][-1] == without.lines["a"][-1]


# --- what goes to the owner first ---------------------------------------------------------------------------


def test_a_look_alike_is_shown_to_its_owner_and_told_only_when_accepted() -> None:
    own, empty = world(("u", "b", "")), world(("u", "b", ""))
    assert own.ask("q", {"u": HIGH}) == empty.ask("q", {}) == []
    assert own.lines["a"] == empty.lines["a"]
    [(photo, patient, pair)] = proposals_for(own.state, "b")
    assert (photo, patient, pair.band, pair.stand) == ("q", "u", "High", "proposed")
    assert own.decide("q", "u", "b", accept=True) == [("", "High")]
    assert matches_of(own.state, "q") == (Candidate("", "High"),)
    assert own.lines["a"][-1]["kind"] == "matched" and proposals_for(own.state, "b") == ()


def test_a_declined_match_is_never_heard_of_and_never_proposed_again() -> None:
    own, empty = world(("u", "b", "")), world(("u", "b", ""))
    for one, distances in ((own, {"u": HIGH}), (empty, {})):
        one.ask("q", distances)
    own.decide("q", "u", "b", accept=False)
    for one, distances in ((own, {"u": HIGH}), (empty, {})):
        one.ask("q", distances, model="f" * 64)
    assert own.lines["a"] == empty.lines["a"] and matches_of(own.state, "q") == ()
    assert [body["kind"] for body in own.lines["b"]] == ["proposed", "decided"]
    assert own.state.budgets.in_all("u") == 1


def test_only_the_owner_decides_and_once() -> None:
    own = world(("u", "b", ""))
    own.ask("q", {"u": HIGH})
    for owner, patient in (("c", "u"), ("a", "u"), ("b", "v")):
        with pytest.raises(DecisionRefused):
            own.decide("q", patient, owner, accept=True)
    own.decide("q", "u", "b", accept=False)
    with pytest.raises(DecisionRefused):
        own.decide("q", "u", "b", accept=True)


def test_a_class_below_the_crowd_is_a_patient() -> None:
    rows = [(f"t{index}", "b", "t") for index in range(3)] + [(f"s{index}", "b", "s") for index in range(2)]
    own = world(*rows, crowd=3)
    distances = {name: HIGH for name, _, _ in rows}
    assert own.ask("q", distances) == [("t", "High")]
    assert [(pair.tag, pair.stand) for _, _, pair in proposals_for(own.state, "b")] == [("s", "proposed")]
    assert own.ask("q", distances) == [("t", "High")]  # the row it was answered about still counts
    assert len(own.lines["b"]) == 2


def test_waiting_matches_leave_no_gap_in_the_answer() -> None:
    named = [(f"t{index}", "b", f"t{index}") for index in range(3)]
    looks = [(f"u{index}", "b", "") for index in range(5)]
    own, without = world(*named, *looks), world(*named)
    distances = {name: HIGH for name, _, _ in named} | {name: 0.31 for name, _, _ in looks}
    assert own.ask("q", distances) == without.ask("q", distances)
    assert own.lines["a"] == without.lines["a"]
    assert len(proposals_for(own.state, "b")) == 3
    own.ask("q", distances)
    assert len(proposals_for(own.state, "b")) == 3  # asking again does not walk down the list


def test_planted_rows_hear_of_a_patient_four_times_each_hospital() -> None:
    """An owner's counter of a question is bounded as an asker's counter of a row is."""
    own = world(*[(f"u{index}", "b", "") for index in range(30)])
    for index in range(10):
        own.ask(f"q{index}", {f"u{3 * index + part}": HIGH for part in range(3)}, asking="patient")
    assert len(proposals_for(own.state, "b")) == 4
    assert own.state.shown.by_hospital("patient", "b") == 4


# --- what is refused ----------------------------------------------------------------------------------------


def refused(own: Coordinator, *args: Any, **changes: Any) -> None:
    before = own.state.as_json()
    with pytest.raises(QueryRefused):
        own.ask(*args, **changes)
    assert own.state.as_json() == before


def test_one_vector_one_patient_and_one_asker_for_each_photo() -> None:
    own = world(("p0", "z", "t"))
    own.ask("q", {"p0": HIGH})
    refused(own, "q", {"p0": HIGH}, asker="b", asking="patient of q")
    refused(own, "q", {"p0": HIGH}, asking="another patient")
    refused(own, "q", {"p0": HIGH}, asking="another patient", model="f" * 64)
    other = replace(make_query("q"), vector_sha256="0" * 64)
    with pytest.raises(QueryRefused, match="other numbers"):
        ask(own.state, own.policy, other, own.gallery, np.array([HIGH], np.float32))
    with pytest.raises(QueryRefused, match="other numbers"):
        ask(
            own.state,
            own.policy,
            replace(make_query("q"), commitment="0" * 64),
            own.gallery,
            np.array([HIGH], np.float32),
        )


def test_a_nearly_identical_photo_is_refused_and_a_second_one_is_not() -> None:
    own = world(("p0", "z", "t"))
    refused(own, "q", {"p0": HIGH}, nearest_earlier=0.049)
    assert own.ask("q", {"p0": HIGH}, nearest_earlier=0.051) == [("t", "High")]
    assert own.ask("q", {"p0": HIGH}, nearest_earlier=0.01) == [("t", "High")]  # bound before


def test_a_day_has_so_many_questions() -> None:
    own = world(("p0", "z", "t"), queries_per_day=2)
    own.ask("q0", {}, day=5)
    own.ask("q1", {}, day=5)
    refused(own, "q2", {"p0": HIGH}, day=5)
    own.ask("r", {}, asker="b", day=5)
    assert own.ask("q2", {"p0": HIGH}, day=6) == [("t", "High")]
    refused(own, "q3", {}, day=5)


@pytest.mark.parametrize("distances", [[0.4], [0.4, np.nan], [[0.4, 0.4]]])
def test_distances_of_another_gallery_are_refused(distances: Any) -> None:
    refused(world(("p0", "z", "t"), ("p1", "z", "s")), "q", distances)


@pytest.mark.parametrize(
    "changes",
    [
        {"bands": ()}, {"bands": (("High", 0.4), ("High", 0.5))}, {"bands": (("A", 0.5), ("B", 0.4))},
        {"same_person": 0.39}, {"near_identical": 0.31}, {"near_identical": float("nan")}, {"crowd": 0},
        {"candidates": 4}, {"answers_per_hospital": 13}, {"queries_per_day": 0}, {"crowd": True},
        {"bands": (("High", 0.39), ("Medium", 2.5))},
    ],
)  # fmt: skip
def test_a_policy_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefused):
        replace(POLICY, **changes)


@pytest.mark.parametrize("found", [{}, {"v": 2}, {"v": 1, "budgets": 3}, []])
def test_a_damaged_memory_is_refused(found: Any) -> None:
    with pytest.raises(ConfigRefused):
        State.from_json(found)


# --- any story ----------------------------------------------------------------------------------------------

DISTANCE = st.sampled_from([0.2, 0.31, 0.35, 0.38, 0.4, 0.42, 0.45, 0.6])
ROWS = st.lists(
    st.tuples(st.sampled_from("bcd"), st.sampled_from(["", "r", "s", "t"])), min_size=1, max_size=6
)
QUESTION = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, 4),
    st.sampled_from("12"),
    st.lists(DISTANCE, min_size=6, max_size=6),
)
DECISION = st.booleans()


@settings(max_examples=120, deadline=None, derandomize=True)
@given(rows=ROWS, story=st.lists(st.one_of(QUESTION, DECISION), max_size=25), crowd=st.sampled_from([1, 2]))
def test_whatever_is_asked_the_budgets_hold_and_asking_again_changes_nothing(
    rows: Any, story: Any, crowd: int
) -> None:
    gallery = make_gallery(*[(f"p{index}", owner, tag) for index, (owner, tag) in enumerate(rows)])
    own = Coordinator(gallery, replace(POLICY, crowd=crowd, answers_in_all=6))
    named: dict[tuple[str, str], set[str]] = {}
    for step in story:
        if isinstance(step, bool):
            for owner in "bcd":
                for photo, patient, _ in proposals_for(own.state, owner)[:1]:
                    own.decide(photo, patient, owner, accept=step)
            continue
        asker, number, model, distances = step
        photo, found = f"{asker}{number}", distances[: len(rows)]
        answer = own.ask(photo, found, asker=asker, model=model * 64)
        assert len(answer) <= 3 and len({tag for tag, _ in answer}) == len(answer)
        for tag, band in answer:
            named.setdefault((asker, tag), set()).add(photo)
            assert band in ("High", "Medium")
        memory = own.state.as_json()
        assert own.ask(photo, found, asker=asker, model=model * 64) == answer
        assert {**own.state.as_json(), "days": 0} == {**memory, "days": 0}
        assert State.from_json(json.loads(json.dumps(own.state.as_json()))) == own.state
    for row in gallery.rows:
        assert own.state.budgets.in_all(row.patient) <= 6
        for hospital in "abcd":
            assert own.state.budgets.by_hospital(row.patient, hospital) <= 4
    for (asker, tag), photos in named.items():
        owners = [row for row in gallery.rows if row.tag == tag and row.owner != asker]
        assert len(photos) <= 4 * len(owners)
