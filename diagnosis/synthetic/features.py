"""The table from facial HPO terms to what the renderer changes, and back.

Each row: HPO identifier, name, group, and local changes with the value they take at severity 1 (a sign that a
clinician would note without hesitation). "*-" stands for both sides. Rows of one group exclude each other in
one syndrome. Identifiers and names: Human Phenotype Ontology, https://hpo.jax.org.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, resolve_change

Array = npt.NDArray[np.float64]

# What is painted, not modelled: 0 is an ordinary face, ±1 a clear sign.
TRAITS: tuple[str, ...] = ("brow-thickness", "brow-arch", "synophrys", "hairline-up", "hair-density")
TRAIT_INDEX: dict[str, int] = {name: len(FACIAL_CHANGES) + i for i, name in enumerate(TRAITS)}
FACE_SIZE = len(FACIAL_CHANGES) + len(TRAITS)

# Above PRESENT a sign is noted, below ABSENT it is noted as absent; between, two clinicians would disagree.
PRESENT_SCORE = 0.5
ABSENT_SCORE = 0.2


@dataclass(frozen=True)
class FacialFeature:
    """One HPO term and the signed changes that show it at severity 1."""

    term: str
    name: str
    group: str
    changes: tuple[tuple[str, float], ...]

    def direction(self) -> Array:
        """(FACE_SIZE,) float64: the face vector of this term at severity 1."""
        vector = np.zeros(FACE_SIZE)
        for name, value in self.changes:
            indices = (TRAIT_INDEX[name],) if name in TRAIT_INDEX else resolve_change(name)
            vector[list(indices)] = value
        return vector


def _row(term: str, name: str, group: str, **changes: float) -> FacialFeature:
    """Keyword names: "pair_" is both sides, underscores are hyphens."""
    named = tuple((key.replace("pair_", "*-").replace("_", "-"), value) for key, value in changes.items())
    return FacialFeature(term, name, group, named)


FEATURES: tuple[FacialFeature, ...] = (
    # Eyes
    _row("HP:0000316", "Hypertelorism", "eye distance", pair_eye_trans_out=1.0, nose_width1_incr=0.35),
    _row("HP:0000601", "Hypotelorism", "eye distance", pair_eye_trans_out=-1.0),
    # eye-epicanthus-out draws the fold over the inner corner; it is 2.5 times as large as its opposite.
    _row("HP:0000286", "Epicanthus", "inner eye", pair_eye_epicanthus_out=0.4, pair_eye_corner2_up=-0.4),
    # eye-corner1 is the outer corner, eye-corner2 the inner one.
    _row("HP:0000494", "Downslanted palpebral fissures", "eye slant", pair_eye_corner2_up=1.0,
         pair_eye_corner1_up=-0.5),
    _row("HP:0000582", "Upslanted palpebral fissure", "eye slant", pair_eye_corner2_up=-1.0,
         pair_eye_corner1_up=0.5),
    _row("HP:0000490", "Deeply set eye", "eye depth", pair_eye_push1_out=-0.8, pair_eye_push2_out=-0.8,
         eyebrows_trans_forward=0.7),
    # eye-push1 and -push2 move the outer and inner corner of the eye outwards and inwards.
    _row("HP:0000637", "Long palpebral fissure", "eye depth", pair_eye_push1_out=0.9, pair_eye_push2_out=0.9,
         pair_eye_height2_incr=0.5),
    # eye-scale scales lids and eyeball together.
    _row("HP:0000568", "Microphthalmia", "eye size", pair_eye_scale_incr=-1.0),
    _row("HP:0001090", "Abnormally large globe", "eye size", pair_eye_scale_incr=1.0,
         pair_eye_height2_incr=0.3),
    _row("HP:0045025", "Narrow palpebral fissure", "eye opening", pair_eye_height1_incr=-0.9,
         pair_eye_height2_incr=-0.9, pair_eye_height3_incr=-0.9),
    _row("HP:0000629", "Periorbital fullness", "eye lids", pair_eye_bag_incr=0.9, pair_eye_bag_out=0.9,
         pair_eye_eyefold_up=-0.6),
    # Brows and hair
    _row("HP:0000574", "Thick eyebrow", "brow", brow_thickness=1.0),
    _row("HP:0045075", "Sparse eyebrow", "brow", brow_thickness=-1.0),
    _row("HP:0002553", "Highly arched eyebrow", "brow arch", brow_arch=0.9, eyebrows_trans_up=0.4),
    _row("HP:0000664", "Synophrys", "brow bridge", synophrys=1.0),
    _row("HP:0009890", "High anterior hairline", "hairline", hairline_up=1.0),
    _row("HP:0000294", "Low anterior hairline", "hairline", hairline_up=-1.0),
    _row("HP:0008070", "Sparse hair", "hair", hair_density=-1.0),
    # Nose
    _row("HP:0005280", "Depressed nasal bridge", "nasal bridge", nose_hump_incr=-0.9, nose_curve_convex=-0.6,
         nose_greek_incr=-0.8),
    _row("HP:0000431", "Wide nasal bridge", "nasal bridge width", nose_width1_incr=1.0, nose_width2_incr=0.5),
    _row("HP:0000446", "Narrow nasal bridge", "nasal bridge width", nose_width1_incr=-0.9,
         nose_width2_incr=-0.7),
    _row("HP:0000426", "Prominent nasal bridge", "nasal bridge", nose_hump_incr=0.5, nose_greek_incr=1.0),
    _row("HP:0000444", "Convex nasal ridge", "nasal bridge", nose_curve_convex=1.0, nose_hump_incr=0.8,
         nose_point_up=-0.4),
    _row("HP:0000463", "Anteverted nares", "nasal tip", nose_point_up=0.9, nose_nostrils_angle_up=0.9,
         nose_base_up=0.5),
    _row("HP:0000437", "Depressed nasal tip", "nasal tip", nose_point_up=-1.0, nose_septumangle_incr=-0.5),
    _row("HP:0003196", "Short nose", "nose length", nose_scale_vert_incr=-1.0, nose_trans_up=0.6),
    _row("HP:0003189", "Long nose", "nose length", nose_scale_vert_incr=0.9, nose_trans_up=-0.7),
    _row("HP:0000448", "Prominent nose", "nose size", nose_trans_forward=0.9, nose_scale_depth_incr=0.9,
         nose_volume_incr=0.5),
    _row("HP:0000445", "Wide nose", "nose width", nose_scale_horiz_incr=1.0, nose_flaring_incr=0.6,
         nose_width3_incr=0.6),
    _row("HP:0000460", "Narrow nose", "nose width", nose_scale_horiz_incr=-1.0, nose_flaring_incr=-0.6,
         nose_width3_incr=-0.6),
    _row("HP:0000414", "Bulbous nose", "nasal tip form", nose_volume_incr=1.0, nose_point_width_incr=1.0),
    _row("HP:0000430", "Underdeveloped nasal alae", "nasal alae", nose_flaring_incr=-1.0,
         nose_nostrils_width_incr=-0.9),
    # Mouth and philtrum
    _row("HP:0000343", "Long philtrum", "philtrum length", mouth_trans_up=-0.9, nose_base_up=0.5,
         nose_trans_up=0.3),
    _row("HP:0000322", "Short philtrum", "philtrum length", mouth_trans_up=0.9, nose_base_up=-0.4),
    # mouth-philtrum-volume moves the floor of the groove backwards.
    _row("HP:0000319", "Smooth philtrum", "philtrum form", mouth_philtrum_volume_incr=-1.0,
         mouth_cupidsbow_incr=-0.9),
    _row("HP:0002002", "Deep philtrum", "philtrum form", mouth_philtrum_volume_incr=1.0),
    _row("HP:0000219", "Thin upper lip vermilion", "upper lip", mouth_upperlip_height_incr=-1.0,
         mouth_upperlip_volume_incr=-0.9),
    _row("HP:0000215", "Thick upper lip vermilion", "upper lip", mouth_upperlip_height_incr=1.0,
         mouth_upperlip_volume_incr=0.9),
    _row("HP:0000179", "Thick lower lip vermilion", "lower lip", mouth_lowerlip_height_incr=1.0,
         mouth_lowerlip_volume_incr=0.9),
    _row("HP:0010282", "Thin lower lip vermilion", "lower lip", mouth_lowerlip_height_incr=-1.0,
         mouth_lowerlip_volume_incr=-0.9),
    _row("HP:0002263", "Exaggerated cupid's bow", "philtrum form", mouth_cupidsbow_incr=1.0,
         mouth_cupidsbow_width_incr=0.5, mouth_upperlip_middle_up=-0.3),
    _row("HP:0010804", "Tented upper lip vermilion", "upper lip form", mouth_upperlip_middle_up=1.0,
         mouth_upperlip_ext_up=-0.8),
    _row("HP:0002714", "Downturned corners of mouth", "mouth corners", mouth_angles_up=-1.0),
    _row("HP:0000154", "Wide mouth", "mouth width", mouth_scale_horiz_incr=1.0),
    _row("HP:0000160", "Narrow mouth", "mouth width", mouth_scale_horiz_incr=-1.0),
    # Jaw and chin
    _row("HP:0000347", "Micrognathia", "jaw", chin_prognathism_incr=-0.9, chin_prominent_incr=-0.9,
         chin_height_incr=-0.4, chin_width_incr=-0.4),
    _row("HP:0000303", "Mandibular prognathia", "jaw", chin_prognathism_incr=1.0, chin_prominent_incr=0.8,
         chin_jaw_drop_incr=0.3),
    _row("HP:0000307", "Pointed chin", "chin form", chin_width_incr=-1.0, chin_triangle=0.8),
    _row("HP:0011822", "Broad chin", "chin form", chin_width_incr=1.0, chin_bones_incr=0.6),
    _row("HP:0000331", "Short chin", "chin height", chin_height_incr=-0.7),
    _row("HP:0400000", "Tall chin", "chin height", chin_height_incr=0.6, chin_jaw_drop_incr=0.3),
    # Cheeks and midface
    _row("HP:0000293", "Full cheeks", "cheeks", pair_cheek_volume_incr=1.0, pair_cheek_inner_incr=0.7,
         head_fat_incr=0.4),
    _row("HP:0009938", "Sunken cheeks", "cheeks", pair_cheek_volume_incr=-1.0, pair_cheek_inner_incr=-0.8),
    _row("HP:0000272", "Malar flattening", "malar", pair_cheek_bones_incr=-1.0),
    _row("HP:0010620", "Malar prominence", "malar", pair_cheek_bones_incr=1.0),
    _row("HP:0011800", "Midface retrusion", "midface", nose_trans_forward=-0.8, mouth_trans_forward=-0.8,
         pair_cheek_bones_incr=-0.7, nose_scale_depth_incr=-0.6),
    # Forehead
    _row("HP:0002007", "Frontal bossing", "forehead form", forehead_trans_forward=1.0,
         forehead_nubian_incr=0.35),
    _row("HP:0000340", "Sloping forehead", "forehead form", forehead_trans_forward=-1.0,
         forehead_nubian_incr=-0.3),
    _row("HP:0000348", "High forehead", "forehead height", forehead_scale_vert_incr=0.7, hairline_up=0.4),
    _row("HP:0000337", "Broad forehead", "forehead width", forehead_temple_incr=1.0,
         head_invertedtriangular=0.5),
    _row("HP:0000341", "Narrow forehead", "forehead width", forehead_temple_incr=-1.0, head_triangular=0.4),
    # Ears
    _row("HP:0000369", "Low-set ears", "ear place", pair_ear_trans_up=-1.0),
    _row("HP:0000358", "Posteriorly rotated ears", "ear rotation", pair_ear_rot_forward=-1.0),
    _row("HP:0000400", "Macrotia", "ear size", pair_ear_scale_incr=1.0, pair_ear_scale_vert_incr=0.6),
    _row("HP:0008551", "Microtia", "ear size", pair_ear_scale_incr=-1.0, pair_ear_scale_vert_incr=-0.6),
    _row("HP:0000411", "Protruding ear", "ear wing", pair_ear_wing_incr=1.0),
    _row("HP:0009748", "Large earlobe", "ear lobe", pair_ear_lobe_incr=1.0),
    # Whole face and skull
    _row("HP:0000311", "Round face", "face form", head_round=0.8, head_fat_incr=0.6),
    _row("HP:0000325", "Triangular face", "face form", head_invertedtriangular=0.8, chin_width_incr=-0.7),
    _row("HP:0000321", "Square face", "face form", head_square=0.9, chin_bones_incr=0.5),
    _row("HP:0000276", "Long face", "face length", head_scale_vert_incr=0.7, chin_jaw_drop_incr=0.5,
         head_rectangular=0.4),
    _row("HP:0000275", "Narrow face", "face width", head_scale_horiz_incr=-0.9),
    _row("HP:0000283", "Broad face", "face width", head_scale_horiz_incr=0.9),
    _row("HP:0000248", "Brachycephaly", "skull", head_back_scale_depth_incr=-1.0,
         head_scale_depth_incr=-0.7, head_scale_horiz_incr=0.3),
    _row("HP:0000268", "Dolichocephaly", "skull", head_back_scale_depth_incr=1.0, head_scale_depth_incr=0.7,
         head_scale_horiz_incr=-0.5),
)  # fmt: skip
ASYMMETRY = FacialFeature("HP:0000324", "Facial asymmetry", "asymmetry", (
    ("l-cheek-volume-incr", 0.8), ("r-cheek-volume-incr", -0.8), ("l-eye-trans-up", 0.6),
    ("r-eye-trans-up", -0.6), ("mouth-trans-out", 0.7), ("nose-trans-out", 0.5),
))  # fmt: skip
ALL_FEATURES: tuple[FacialFeature, ...] = (*FEATURES, ASYMMETRY)
FEATURE_BY_TERM: Mapping[str, FacialFeature] = {feature.term: feature for feature in ALL_FEATURES}


def face_of(severities: Mapping[str, float]) -> Array:
    """HPO term → severity; returns the (FACE_SIZE,) float64 face vector that shows them all."""
    total = np.zeros(FACE_SIZE)
    for term, severity in severities.items():
        total += severity * FEATURE_BY_TERM[term].direction()
    return total


def feature_scores(face: Array) -> dict[str, float]:
    """How strongly each term shows in a rendered face: 1 is the table's severity 1, negative its opposite.

    The least-squares severity of the term alone, over the changes that the term names.
    """
    directions = np.stack([feature.direction() for feature in ALL_FEATURES])
    scores = directions @ face / np.sum(directions**2, axis=1)
    return {feature.term: float(score) for feature, score in zip(ALL_FEATURES, scores, strict=True)}


def assess_terms(face: Array, terms: Sequence[str]) -> dict[str, str]:
    """HPO term → "present", "absent" or "unclear", from the rendered face alone."""
    scores = feature_scores(face)
    return {term: _finding(scores[term]) for term in terms}


def _finding(score: float) -> str:
    if score >= PRESENT_SCORE:
        return "present"
    return "absent" if score < ABSENT_SCORE else "unclear"
