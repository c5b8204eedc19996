"""What the clinician reads when a photo or a face is refused or doubtful: code, sentence, remedy."""

from __future__ import annotations

from diagnosis.phenotype.types import Refusal

_TAKE_CLOSER = "Take the photo from nearer or use the camera's original file, not a thumbnail."
_MORE_LIGHT = "Take the photo again in daylight or with the room lit, the light on the face."
_LESS_LIGHT = "Take the photo again without flash or direct sun on the face."
_CLEAN_LENS = "Wipe the lens, avoid windows behind the face, and take the photo again."
_HOLD_STILL = "Take the photo again: hold the camera still and tap the face to focus on it."
_LOOK_HERE = "Take the photo from the front, at the height of the eyes, the face looking at the camera."
_UNCOVER = "If so, take the photo again without glasses, hair, hands, mask or dummy over the face."


def _table(*rows: tuple[str, str, str]) -> dict[str, Refusal]:
    return {code: Refusal(code, sentence, remedy) for code, sentence, remedy in rows}


REFUSALS = _table(
    (
        "no_face",
        "No face was found in this photo.",
        "Use a sharp, well-lit photo that shows the whole face from the front.",
    ),
    (
        "several_faces",
        "This photo shows several faces.",
        "Choose the patient's face, or crop the photo to it.",
    ),
    (
        "unknown_choice",
        "The face that was chosen is not among those found in this photo.",
        "Choose one of the faces shown.",
    ),
    ("photo_too_small", "This photo has too few pixels to show a face.", _TAKE_CLOSER),
    ("too_small", "The face is too small in this photo: too few pixels to compare it.", _TAKE_CLOSER),
    ("too_dark", "The face is too dark in this photo to be compared.", _MORE_LIGHT),
    ("too_bright", "The face is overexposed in this photo: most of it is plain white.", _LESS_LIGHT),
    ("low_contrast", "The face hardly stands out in this photo: it looks hazy.", _CLEAN_LENS),
    ("blurred", "The face is too blurred in this photo to be compared.", _HOLD_STILL),
    ("turned_away", "The face is turned too far away from the camera.", _LOOK_HERE),
)
"""By code: why a photo is not ranked. Landmarks that cannot be aligned are refused by align.py."""

WARNINGS = _table(
    (
        "other_faces",
        "Other, much smaller faces are in this photo; the largest one is used.",
        "If that is not the patient, choose the right face or crop the photo.",
    ),
    ("too_small", "The face is small in this photo; fine features may be missed.", _TAKE_CLOSER),
    ("too_dark", "The face is dark in this photo; the ranking may be less reliable.", _MORE_LIGHT),
    ("too_bright", "Part of the face is overexposed; the ranking may be less reliable.", _LESS_LIGHT),
    ("low_contrast", "The face has little contrast; the ranking may be less reliable.", _CLEAN_LENS),
    ("blurred", "The face is somewhat blurred; fine features may be missed.", _HOLD_STILL),
    ("turned_away", "The face is turned to the side, up or down; the ranking may suffer.", _LOOK_HERE),
    ("eyes_covered", "An eye may be covered or closed.", _UNCOVER),
    ("mouth_covered", "The mouth may be covered.", _UNCOVER),
    (
        "photo_turned",
        "The photo lies on its side or upside down; the face was turned upright.",
        "Check that the aligned face stands upright.",
    ),
)
"""By code: what may make the ranking of this photo less reliable."""
