"""The table of HPO terms: sound rows, scores as defined, and shapes that do what the names say."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from diagnosis.synthetic import features
from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, ONE_SIDED, resolve_change
from diagnosis.synthetic.people import draw_person


def test_table_has_at_least_forty_distinct_well_formed_terms() -> None:
    terms = [row.term for row in features.ALL_FEATURES]
    assert len(terms) >= 40
    assert len(set(terms)) == len(terms)
    assert all(re.fullmatch(r"HP:\d{7}", term) for term in terms)
    assert len({row.name for row in features.ALL_FEATURES}) == len(terms)


def test_every_change_exists_and_one_sided_shapes_are_only_added() -> None:
    for row in features.ALL_FEATURES:
        assert row.changes, row.name
        for name, value in row.changes:
            assert name in features.TRAIT_INDEX or resolve_change(name)
            assert name not in ONE_SIDED or value > 0, (row.name, name)
    with pytest.raises(KeyError):
        resolve_change("*-eye-colour")


def test_no_two_terms_are_the_same_face() -> None:
    directions = np.stack([row.direction() for row in features.ALL_FEATURES])
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = unit @ unit.T - np.eye(len(unit))
    assert cosines.max() < 0.85


def test_scores_equal_a_least_squares_fit_of_each_term_alone() -> None:
    face = draw_person(7, 3).face
    scores = features.feature_scores(face)
    for row in features.ALL_FEATURES:
        fitted, *_ = np.linalg.lstsq(row.direction()[:, None], face, rcond=None)
        assert scores[row.term] == pytest.approx(float(fitted[0]), abs=1e-12)


@pytest.mark.parametrize("row", features.ALL_FEATURES, ids=lambda row: row.name)
def test_a_rendered_sign_is_present_and_its_opposite_absent(row: features.FacialFeature) -> None:
    assert features.assess_terms(features.face_of({row.term: 0.8}), [row.term]) == {row.term: "present"}
    assert features.assess_terms(features.face_of({row.term: 0.3}), [row.term]) == {row.term: "unclear"}
    assert features.assess_terms(features.face_of({row.term: -0.8}), [row.term]) == {row.term: "absent"}


def test_faces_of_several_terms_add() -> None:
    both = features.face_of({"HP:0000316": 0.5, "HP:0000343": 1.0})
    apart = features.FEATURE_BY_TERM["HP:0000316"].direction() * 0.5
    apart = apart + features.FEATURE_BY_TERM["HP:0000343"].direction()
    np.testing.assert_allclose(both, apart)


# Parts of the template, m: person's left is +x, front is −y. Measured on an adult with no other feature.
PARTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "left inner corner of the eye": lambda c, m: near(c, 0.0142, -0.141, 0.728, 0.004),
    "left outer corner of the eye": lambda c, m: near(c, 0.0437, -0.1355, 0.728, 0.006),
    "left upper lid": lambda c, m: near(c, 0.031, -0.140, 0.7385, 0.007),
    "left lower bag": lambda c, m: near(c, 0.031, -0.140, 0.709, 0.007),
    "left brow": lambda c, m: near(c, 0.034, -0.142, 0.750, 0.006),
    "bridge of the nose": lambda c, m: near(c, 0.0, -0.155, 0.728, 0.006),
    "sides of the bridge": lambda c, m: box(c, (0.004, 0.012), (0.718, 0.735), -0.14),
    "tip of the nose": lambda c, m: near(c, 0.0, -0.168, 0.692, 0.006),
    "nostrils": lambda c, m: box(c, (0.008, 0.020), (0.683, 0.697), -0.14),
    "groove of the philtrum": lambda c, m: near(c, 0.0, -0.156, 0.676, 0.003),
    "border of the upper lip": lambda c, m: near(c, 0.0, -0.157, 0.6722, 0.003),
    "red of the upper lip": lambda c, m: box(c, (-0.012, 0.012), (0.6635, 0.676), -0.13) & (m[:, 0] > 0.5),
    "red of the lower lip": lambda c, m: box(c, (-0.012, 0.012), (0.648, 0.6620), -0.13) & (m[:, 0] > 0.5),
    "corners of the mouth": lambda c, m: box(c, (0.024, 0.030), (0.655, 0.670), -0.12),
    "chin": lambda c, m: box(c, (-0.03, 0.03), (0.612, 0.640), -0.12),
    "point of the chin": lambda c, m: near(c, 0.0, -0.1345, 0.616, 0.010),
    "left cheek": lambda c, m: near(c, 0.050, -0.120, 0.675, 0.012),
    "left cheekbone": lambda c, m: near(c, 0.058, -0.115, 0.705, 0.012),
    "forehead": lambda c, m: box(c, (-0.02, 0.02), (0.770, 0.795), -0.12),
    "temples": lambda c, m: box(c, (0.045, 0.075), (0.755, 0.790), -0.07),
    "top of the head": lambda c, m: c[:, 2] > 0.835,
    "left ear": lambda c, m: (c[:, 0] > 0.07) & (m[:, 3] > 0.5),
    "top of the left ear": lambda c, m: (c[:, 0] > 0.06) & (m[:, 3] > 0.3) & (c[:, 2] > 0.728),
    "lobe of the left ear": lambda c, m: (c[:, 0] > 0.05) & (m[:, 3] > 0.3) & (c[:, 2] < 0.695),
    "skull": lambda c, m: (c[:, 2] > 0.72) & (m[:, 3] < 0.1),
    "jaw": lambda c, m: box(c, (-0.08, 0.08), (0.625, 0.655), -0.05),
    "face": lambda c, m: box(c, (-0.08, 0.08), (0.61, 0.75), -0.05),
}
X, Y, Z = range(3)
# (term, part, axis, "place" = mean or "size" = extent, direction): what the term is named for.
EFFECTS = [
    ("HP:0000316", "left inner corner of the eye", X, "place", +1),
    ("HP:0000601", "left inner corner of the eye", X, "place", -1),
    ("HP:0000286", "left inner corner of the eye", X, "place", +1),
    ("HP:0000286", "left inner corner of the eye", Y, "place", -1),
    ("HP:0000582", "left outer corner of the eye", Z, "place", +1),
    ("HP:0000494", "left outer corner of the eye", Z, "place", -1),
    ("HP:0000490", "left brow", Y, "place", -1),
    ("HP:0000637", "left outer corner of the eye", X, "place", +1),
    ("HP:0000637", "left inner corner of the eye", X, "place", -1),
    ("HP:0000568", "left upper lid", Z, "place", -1),
    ("HP:0001090", "left upper lid", Z, "place", +1),
    ("HP:0045025", "left upper lid", Z, "place", -1),
    ("HP:0000629", "left lower bag", Y, "place", -1),
    ("HP:0002553", "left brow", Z, "place", +1),
    ("HP:0005280", "bridge of the nose", Y, "place", +1),
    ("HP:0000426", "bridge of the nose", Y, "place", -1),
    ("HP:0000431", "sides of the bridge", X, "place", +1),
    ("HP:0000446", "sides of the bridge", X, "place", -1),
    ("HP:0000463", "tip of the nose", Z, "place", +1),
    ("HP:0000437", "tip of the nose", Z, "place", -1),
    ("HP:0003196", "tip of the nose", Z, "place", +1),
    ("HP:0003189", "tip of the nose", Z, "place", -1),
    ("HP:0000448", "tip of the nose", Y, "place", -1),
    ("HP:0000445", "nostrils", X, "place", +1),
    ("HP:0000460", "nostrils", X, "place", -1),
    ("HP:0000430", "nostrils", X, "place", -1),
    ("HP:0000414", "tip of the nose", X, "size", +1),
    ("HP:0000343", "border of the upper lip", Z, "place", -1),
    ("HP:0000322", "border of the upper lip", Z, "place", +1),
    ("HP:0000319", "groove of the philtrum", Y, "place", -1),
    ("HP:0002002", "groove of the philtrum", Y, "place", +1),
    ("HP:0000219", "red of the upper lip", Z, "size", -1),
    ("HP:0000215", "red of the upper lip", Z, "size", +1),
    ("HP:0000179", "red of the lower lip", Z, "size", +1),
    ("HP:0010282", "red of the lower lip", Z, "size", -1),
    ("HP:0010804", "border of the upper lip", Z, "place", +1),
    ("HP:0002714", "corners of the mouth", Z, "place", -1),
    ("HP:0000154", "corners of the mouth", X, "place", +1),
    ("HP:0000160", "corners of the mouth", X, "place", -1),
    ("HP:0000347", "point of the chin", Y, "place", +1),
    ("HP:0000303", "point of the chin", Y, "place", -1),
    ("HP:0000307", "chin", X, "size", -1),
    ("HP:0011822", "chin", X, "size", +1),
    ("HP:0000331", "point of the chin", Z, "place", +1),
    ("HP:0400000", "point of the chin", Z, "place", -1),
    ("HP:0000293", "left cheek", X, "place", +1),
    ("HP:0009938", "left cheek", X, "place", -1),
    ("HP:0000272", "left cheekbone", X, "place", -1),
    ("HP:0010620", "left cheekbone", X, "place", +1),
    ("HP:0011800", "tip of the nose", Y, "place", +1),
    ("HP:0011800", "border of the upper lip", Y, "place", +1),
    ("HP:0002007", "forehead", Y, "place", -1),
    ("HP:0000340", "forehead", Y, "place", +1),
    ("HP:0000348", "top of the head", Z, "place", +1),
    ("HP:0000337", "temples", X, "place", +1),
    ("HP:0000341", "temples", X, "place", -1),
    ("HP:0000369", "left ear", Z, "place", -1),
    ("HP:0000358", "top of the left ear", Y, "place", +1),
    ("HP:0000400", "left ear", Z, "size", +1),
    ("HP:0008551", "left ear", Z, "size", -1),
    ("HP:0000411", "left ear", X, "place", +1),
    ("HP:0009748", "lobe of the left ear", Z, "size", +1),
    ("HP:0000311", "face", X, "size", +1),
    ("HP:0000325", "chin", X, "size", -1),
    ("HP:0000321", "jaw", X, "size", +1),
    ("HP:0000276", "face", Z, "size", +1),
    ("HP:0000275", "skull", X, "size", -1),
    ("HP:0000283", "skull", X, "size", +1),
    ("HP:0000248", "skull", Y, "size", -1),
    ("HP:0000268", "skull", Y, "size", +1),
    ("HP:0000324", "tip of the nose", X, "place", +1),
]


def near(c: np.ndarray, x: float, y: float, z: float, radius: float) -> np.ndarray:
    return np.linalg.norm(c - np.array([x, y, z]), axis=1) < radius


def box(c: np.ndarray, x: tuple[float, float], z: tuple[float, float], front: float) -> np.ndarray:
    inside = (c[:, 0] > x[0]) & (c[:, 0] < x[1]) & (c[:, 2] > z[0]) & (c[:, 2] < z[1])
    return inside & (c[:, 1] < front)


@pytest.mark.parametrize(("term", "part", "axis", "kind", "sign"), EFFECTS)
def test_terms_move_the_part_that_they_are_named_for(
    term: str, part: str, axis: int, kind: str, sign: int
) -> None:
    pytest.importorskip("anny")
    pytest.importorskip("warp")
    plain, shown = (part_measure({term: severity}, part, axis, kind) for severity in (0.0, 1.0))
    assert sign * (shown - plain) > 0.0006, f"{plain:.4f} m became {shown:.4f} m"


def part_measure(severities: dict[str, float], part: str, axis: int, kind: str) -> float:
    from diagnosis.synthetic import anatomy

    pack = anatomy.load_head()
    weights = anatomy.anchor_weights(0.5, anatomy.age_coordinate(25.0), 0.5, (0.3, 0.3, 0.4))
    changes = features.face_of(severities)[: len(FACIAL_CHANGES)]
    shape = anatomy.shape_heads(pack, weights[None], changes[None], np.zeros((1, len(pack.actions))))[0]
    body = np.arange(len(shape)) < int(pack.curtain_start)
    chosen = shape[PARTS[part](pack.canonical, pack.masks) & body, axis]
    assert len(chosen) >= 3, part
    return float(np.ptp(chosen) if kind == "size" else chosen.mean())


def test_every_modelled_term_has_an_effect_that_is_checked() -> None:
    painted = {row.term for row in features.ALL_FEATURES
               if all(name in features.TRAIT_INDEX for name, _ in row.changes)}  # fmt: skip
    not_measured = {"HP:0000444", "HP:0002263"}  # curvature of the ridge, form of the bow: judged by eye
    assert {term for term, *_ in EFFECTS} == set(features.FEATURE_BY_TERM) - painted - not_measured
