"""People are the same in any order, show their syndrome, and their findings follow from their faces."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from diagnosis.synthetic import people
from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, ONE_SIDED
from diagnosis.synthetic.features import FEATURE_BY_TERM, assess_terms
from diagnosis.synthetic.photos import draw_photo


def person_values(person: people.Person) -> dict[str, object]:
    return dataclasses.asdict(person) | {"face": person.face.tolist()}


def test_a_person_does_not_depend_on_who_is_drawn_before() -> None:
    syndrome = people.draw_syndrome(6001)
    alone = people.draw_person(9, 41, syndrome)
    for number in range(40, 0, -1):
        people.draw_person(9, number, syndrome)
    assert person_values(people.draw_person(9, 41, syndrome)) == person_values(alone)
    photo = draw_photo(alone, 2, 8.0)
    draw_photo(alone, 1, 7.0)
    assert draw_photo(alone, 2, 8.0) == photo


def test_people_seeds_and_photos_differ() -> None:
    faces = [people.draw_person(seed, number).face for seed in (1, 2) for number in (1, 2, 12)]
    for i, face in enumerate(faces):
        assert all(np.abs(face - other).max() > 0.05 for other in faces[i + 1 :])
    person = people.draw_person(1, 1)
    assert draw_photo(person, 1, 8.0).yaw != draw_photo(person, 2, 8.0).yaw


def test_no_two_purposes_share_a_stream() -> None:
    draws = [people.stream(purpose, 5, 5).integers(2**60) for purpose in people.Draw]
    assert len(set(draws)) == len(people.Draw)


@pytest.mark.parametrize("number", range(1, 60))
def test_syndromes_have_four_to_seven_terms_of_different_groups(number: int) -> None:
    syndrome = people.draw_syndrome(number)
    groups = [FEATURE_BY_TERM[sign.term].group for sign in syndrome.features]
    assert 4 <= len(groups) <= 7
    assert len(set(groups)) == len(groups)
    assert all(0.5 <= s.severity <= 1.0 and 0.7 <= s.frequency <= 0.98 for s in syndrome.features)
    assert syndrome == people.draw_syndrome(number)
    assert (syndrome.identifier, syndrome.gene) == (f"SYN:{number:04d}", f"SYNG{number:04d}")
    assert "Synthetic" in syndrome.name


def test_signs_show_with_their_frequency_and_expressivity() -> None:
    syndrome = people.draw_syndrome(6003)
    patients = [people.draw_person(11, number, syndrome) for number in range(400)]
    strangers = [people.draw_person(11, number) for number in range(400)]
    for sign in syndrome.features:
        direction = FEATURE_BY_TERM[sign.term].direction()
        size = direction @ direction
        added = [(p.face - s.face) @ direction / size for p, s in zip(patients, strangers, strict=True)]
        shown = np.array(added) > 0.25 * sign.severity
        assert shown.mean() == pytest.approx(sign.frequency, abs=0.07)
        low, high = people.EXPRESSIVITY
        assert np.median(np.array(added)[shown]) == pytest.approx(sign.severity * (low + high) / 2, rel=0.15)


def test_findings_follow_from_the_rendered_face_and_some_were_not_assessed() -> None:
    syndrome = people.draw_syndrome(6004)
    assessed = 0
    for number in range(100):
        person = people.draw_person(12, number, syndrome)
        seen = assess_terms(person.face, list(person.findings))
        for term, finding in person.findings.items():
            assert finding in (seen[term], "not assessed")
            assessed += seen[term] != "unclear" and finding != "not assessed"
    decided = sum(
        finding != "unclear"
        for number in range(100)
        for finding in assess_terms(
            people.draw_person(12, number, syndrome).face, list(FEATURE_BY_TERM)
        ).values()
    )
    assert assessed / decided == pytest.approx(people.CHECKED_SHARE, abs=0.03)


def test_faces_stay_within_what_the_head_model_can_show() -> None:
    one_sided = [FACIAL_CHANGES.index(name) for name in ONE_SIDED]
    for number in range(60):
        face = people.draw_person(13, number, people.draw_syndrome(6000 + number)).face
        assert np.isfinite(face).all()
        assert np.abs(face).max() <= 1.6
        assert face[one_sided].min() >= 0.0


def test_ages_rise_and_start_where_a_clinic_sees_people() -> None:
    for number in range(200):
        ages = people.draw_ages(14, number, 3)
        assert len(ages) == 3
        assert 0.3 <= ages[0] <= 65.0
        assert list(ages) == sorted(ages)


def test_trained_and_evaluated_numbers_are_disjoint() -> None:
    ranges = [people.DEMO_SYNDROMES, people.EVALUATION_SYNDROMES, people.CALIBRATION_SYNDROMES,
              people.TRAINING_SYNDROMES]  # fmt: skip
    for i, one in enumerate(ranges):
        for other in ranges[i + 1 :]:
            assert not set(one) & set(other)
    seeds = {people.DEMO_SEED, people.EVALUATION_SEED, people.CALIBRATION_SEED}
    assert len(seeds) == 3
    assert max(seeds) < people.FIRST_TRAINING_SEED
