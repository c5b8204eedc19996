"""Colours, hair and clothing of one photo: from Person and PhotoSpec to numbers for the shader."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.anatomy import EYE, HAIR, LASH, MOUTH, SKIN, TEETH, HeadPack
from diagnosis.synthetic.curtain import COLUMNS, ROWS, row_heights
from diagnosis.synthetic.features import TRAIT_INDEX
from diagnosis.synthetic.people import Draw, Person, stream
from diagnosis.synthetic.photos import PhotoSpec

Array = npt.NDArray[np.float64]

# Linear RGB albedo by skin tone, 1 (light) to 10 (dark); spaced like the Monk scale, tuned under our lights.
_SKIN = np.array([
    [0.740, 0.560, 0.475], [0.700, 0.505, 0.410], [0.640, 0.440, 0.340], [0.565, 0.370, 0.265],
    [0.470, 0.290, 0.195], [0.360, 0.210, 0.133], [0.255, 0.142, 0.088], [0.172, 0.094, 0.059],
    [0.112, 0.062, 0.041], [0.072, 0.042, 0.030],
])  # fmt: skip
_HAIR = np.array([[0.012, 0.010, 0.009], [0.045, 0.026, 0.016], [0.130, 0.075, 0.040], [0.330, 0.215, 0.110],
                  [0.520, 0.390, 0.230]])  # fmt: skip
_IRIS = np.array([[0.045, 0.022, 0.012], [0.110, 0.055, 0.022], [0.130, 0.105, 0.045], [0.110, 0.150, 0.130],
                  [0.115, 0.190, 0.270]])  # fmt: skip
_GREY = np.array([0.46, 0.46, 0.46])


def _blend(table: Array, place: float) -> Array:
    """Row of a colour table at a place in [0, 1], interpolated."""
    at = np.clip(place, 0.0, 1.0) * (len(table) - 1)
    rows = np.arange(len(table))
    return np.array([np.interp(at, rows, table[:, channel]) for channel in range(3)])


def trait(person: Person, name: str) -> float:
    return float(person.face[TRAIT_INDEX[name]])


def greying(age: float) -> float:
    return float(np.clip((age - 42.0) / 35.0, 0.0, 1.0))


def hair_density(person: Person, photo: PhotoSpec) -> float:
    """0 bald … 1 full: thin in infants, thinner in old men, and by the trait."""
    infant = float(np.clip((photo.age - 0.2) / 2.0, 0.0, 1.0))
    full = 0.45 + 0.55 * infant
    return float(np.clip(full + 0.75 * min(trait(person, "hair-density") + 0.3, 0.0), 0.12, 1.0))


def hair_style(person: Person, photo: PhotoSpec) -> str:
    """Infants have short hair, whatever comes later."""
    if photo.age < 2.0 or hair_density(person, photo) < 0.6:
        return "cropped"
    return person.appearance.hair_length


def has_curtain(person: Person, photo: PhotoSpec) -> bool:
    """Long hair, and medium hair of girls and women, falls in a sheet."""
    style = hair_style(person, photo)
    return style == "long" or (style == "medium" and person.sex > 0.5)


def shown_materials(person: Person, photo: PhotoSpec) -> npt.NDArray[np.int32]:
    """(7,) int32: which materials are drawn; the last entry names the one that is seen from both sides."""
    shown = np.zeros(7, dtype=np.int32)
    shown[[SKIN, EYE, TEETH, MOUTH]] = 1
    shown[LASH] = 0
    shown[HAIR] = int(has_curtain(person, photo))
    shown[6] = HAIR
    return shown


def dress(pack: HeadPack, shape: Array, person: Person, photo: PhotoSpec, scale: float) -> Array:
    """(v, 3) m: the shape with hair raised over the scalp, and long hair cut to its length."""
    style = hair_style(person, photo)
    volume = {"cropped": 0.03, "short": 0.085, "medium": 0.12, "long": 0.075}[style]
    volume *= person.appearance.hair_volume * hair_density(person, photo) ** 2
    raised = scalp_weight(pack.canonical, pack.masks[:, 3]) * volume * scale
    raised[int(pack.curtain_start) :] = 0.0
    head_centre = shape[pack.landmark_vertices[:2]].mean(axis=0) + np.array([0.0, 0.8, 0.25]) * scale
    outward = shape - head_centre
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    dressed: Array = shape + raised[:, None] * outward
    _cut_curtain(dressed[int(pack.curtain_start) :], 0.575 if style == "long" else 0.63)
    return dressed


def _cut_curtain(sheet: Array, end: float) -> None:
    """Folds every row of the sheet below a height onto the last row that stays; in place."""
    rows = sheet.reshape(ROWS, COLUMNS, 3)
    last = int(np.flatnonzero(row_heights() >= end - 1e-9)[-1])
    rows[last + 1 :] = rows[last]


def scalp_weight(canonical: Array, ear: Array) -> Array:
    """(v,) in [0, 1]: how far hair lifts off the scalp at each vertex; 0 on the face and ears."""
    angle = np.arctan2(np.abs(canonical[:, 0]), -(canonical[:, 1] + 0.055))
    heights = np.interp(
        angle,
        [0.0, 0.5, 0.75, 1.15, 1.5, 1.7, 2.3, np.pi],
        [0.800, 0.794, 0.788, 0.716, 0.700, 0.694, 0.640, 0.637],
    )
    weight = np.clip((canonical[:, 2] - heights + 0.002) / 0.035, 0.0, 1.0)
    lifted: Array = weight * (2.0 - weight) * (1.0 - np.clip(ear * 3.0, 0.0, 1.0))
    return lifted


def look_of(person: Person, photo: PhotoSpec) -> dict[str, object]:
    """Fields of surface.Look by name; tuples for vectors."""
    own = person.appearance
    rng = stream(Draw.LOOK, person.seed, person.number)
    skin = _blend(_SKIN, (own.skin_tone - 1.0) / 9.0)
    hair = _hair_colour(person, photo)
    adult = float(np.clip((photo.age - 14.0) / 8.0, 0.0, 1.0))
    old = float(np.clip((photo.age - 38.0) / 40.0, 0.0, 1.0))
    dark = (own.skin_tone - 1.0) / 9.0
    arch, thickness = trait(person, "brow-arch"), trait(person, "brow-thickness")
    grown = 0.6 + 0.4 * min(photo.age / 3.0, 1.0)
    key = np.array(photo.key_direction)
    return {
        "skin": tuple(skin), "lip": tuple(_lip_colour(skin, dark)), "lip_strength": 0.75,
        "flush": own.flush * (1.0 - 0.75 * dark), "freckles": own.freckles * (photo.age > 3.0),
        "blotches": 0.4 + old, "stubble": float(np.clip(own.stubble, 0, 1)) * adult, "wrinkles": old,
        "skin_gloss": 0.05 + 0.05 * dark, "roughness": 0.03 + 0.07 * adult,
        "brow_colour": tuple(hair * 0.75), "brow_height": 0.0,
        "brow_density": float(np.clip(0.78 + 0.45 * min(thickness, 0.0), 0.15, 1.0)) * grown,
        "brow_thickness": 0.0042 * float(np.clip(1.0 + 0.65 * thickness, 0.4, 2.2)), "brow_arch": arch,
        "synophrys": float(np.clip(trait(person, "synophrys"), 0.0, 1.3)),
        "hair_colour": tuple(hair), "hair_density": hair_density(person, photo), "hair_gloss": 0.06,
        "hairline": 0.013 * trait(person, "hairline-up") + _fringe(person, photo),
        "recession": old * (1.0 if person.sex < 0.5 else 0.2) + 0.5 * (photo.age < 1.0),
        "iris": tuple(_blend(_IRIS, own.eye_shade)), "pupil": float(rng.uniform(0.15, 0.22)),
        "gaze": photo.gaze, "cloth_colour": photo.cloth, "neckline": photo.neckline,
        "key_direction": tuple(key / np.linalg.norm(key)), "key_colour": photo.key_colour,
        "ambient": photo.ambient, "backdrop_top": photo.backdrop[0], "backdrop_bottom": photo.backdrop[1],
        "backdrop_texture": photo.backdrop_texture, "vignette": 0.25,
        "noise_shift": tuple(rng.uniform(0.0, 1.0, size=2)),
    }  # fmt: skip


def _fringe(person: Person, photo: PhotoSpec) -> float:
    """How far hair hangs below the hairline (negative), m; infants have none and a higher hairline."""
    return 0.004 if photo.age < 2.0 else -0.020 * person.appearance.fringe


def _lip_colour(skin: Array, dark: float) -> Array:
    light = skin * np.array([0.86, 0.56, 0.58])
    deep = skin * np.array([0.92, 0.72, 0.76])
    colour: Array = light * (1.0 - dark) + deep * dark
    return colour


def _hair_colour(person: Person, photo: PhotoSpec) -> Array:
    own = person.appearance
    lighter = 0.12 * max(0.0, 1.0 - photo.age / 10.0) * (own.hair_shade > 0.2)
    colour = _blend(_HAIR, own.hair_shade + lighter)
    colour = colour * (1.0 + own.hair_red * np.array([0.5, -0.10, -0.35]))
    grey = greying(photo.age)
    mixed: Array = colour * (1.0 - grey) + _GREY * grey
    return mixed
