"""How a photo of a person is taken: age, pose, expression, light, background, camera; drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.people import Draw, Person, stream

Colour = tuple[float, float, float]

# (name, facial actions at strength 1, probability)
EXPRESSIONS: tuple[tuple[str, dict[str, float], float], ...] = (
    ("neutral", {}, 0.45),
    ("smile", {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6, "cheekSquintLeft": 0.35,
               "cheekSquintRight": 0.35}, 0.27),
    ("mouth open", {"jawOpen": 0.22}, 0.10),
    ("surprise", {"browInnerUp": 0.6, "browOuterUpLeft": 0.5, "browOuterUpRight": 0.5, "eyeWideLeft": 0.4,
                  "eyeWideRight": 0.4, "jawOpen": 0.12}, 0.06),
    ("frown", {"browDownLeft": 0.6, "browDownRight": 0.6, "mouthFrownLeft": 0.4,
               "mouthFrownRight": 0.4}, 0.06),
    ("pressed lips", {"mouthPressLeft": 0.5, "mouthPressRight": 0.5}, 0.06),
)  # fmt: skip
_BACKDROPS: tuple[tuple[Colour, Colour], ...] = (
    ((0.62, 0.64, 0.66), (0.44, 0.46, 0.48)),
    ((0.36, 0.46, 0.56), (0.24, 0.30, 0.36)),
    ((0.66, 0.60, 0.50), (0.46, 0.40, 0.33)),
    ((0.30, 0.38, 0.32), (0.18, 0.22, 0.19)),
    ((0.76, 0.76, 0.76), (0.66, 0.66, 0.66)),
    ((0.20, 0.20, 0.23), (0.10, 0.10, 0.12)),
)


@dataclass(frozen=True)
class PhotoSpec:
    """One photo. Angles in degrees, lengths in shares of the picture, lights linear RGB, age in years.

    seed is (population seed, person, photo): sensor noise is drawn from it. eye_chin is the distance from the
    middle of the pupils to the chin, as a share of the picture's height.
    """

    seed: tuple[int, ...]
    age: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    actions: tuple[tuple[str, float], ...] = ()
    gaze: tuple[float, float] = (0.0, 0.0)
    eye_chin: float = 0.30
    shift: tuple[float, float] = (0.0, 0.0)
    key_direction: Colour = (0.35, -0.80, 0.50)
    key_colour: Colour = (0.95, 0.92, 0.88)
    ambient: Colour = (0.42, 0.44, 0.47)
    backdrop: tuple[Colour, Colour] = _BACKDROPS[0]
    backdrop_texture: float = 0.3
    cloth: Colour = (0.20, 0.28, 0.42)
    neckline: float = 0.585
    exposure: float = 1.0
    saturation: float = 1.0
    blur: float = 0.5
    grain: float = 0.012
    jpeg_quality: int = 88


def draw_photo(person: Person, number: int, age: float) -> PhotoSpec:
    """Photo `number` (from 1) of a person at an age. Reproducible from (population seed, person, number)."""
    seed = (person.seed, person.number, number)
    rng = stream(Draw.PHOTO, *seed)
    strength = rng.uniform(0.3, 1.1)
    chances = np.array([chance for _, _, chance in EXPRESSIONS])
    _, actions, _ = EXPRESSIONS[int(rng.choice(len(EXPRESSIONS), p=chances / chances.sum()))]
    across, up = rng.normal(0.0, 0.5), rng.uniform(0.1, 0.9)
    warmth = rng.normal(0.0, 0.06)
    power, fill = rng.uniform(0.75, 1.1), rng.uniform(0.32, 0.60)
    backdrop = _BACKDROPS[int(rng.integers(len(_BACKDROPS)))]
    tint = rng.uniform(0.85, 1.15, size=3)
    return PhotoSpec(
        seed=seed,
        age=age,
        yaw=float(np.clip(rng.normal(0.0, 8.0), -22, 22)),
        pitch=float(np.clip(rng.normal(0.0, 4.5), -12, 12)),
        roll=float(np.clip(rng.normal(0.0, 4.0), -12, 12)),
        actions=tuple((name, float(value * strength)) for name, value in actions.items()),
        gaze=(float(rng.normal(0.0, 0.06)), float(rng.normal(0.0, 0.03))),
        eye_chin=float(rng.uniform(0.27, 0.36)),
        shift=(float(rng.normal(0.0, 0.02)), float(rng.normal(0.0, 0.02))),
        key_direction=(float(across), -0.85, float(up)),
        key_colour=(float(power * (1 + warmth)), float(power), float(power * (1 - 1.3 * warmth))),
        ambient=(float(fill * (1 - warmth * 0.5)), float(fill), float(fill * (1 + warmth * 0.7))),
        backdrop=(_tinted(backdrop[0], tint), _tinted(backdrop[1], tint)),
        backdrop_texture=float(rng.uniform(0.0, 0.7)),
        cloth=_cloth(rng),
        neckline=float(rng.uniform(0.572, 0.60)),
        exposure=float(rng.uniform(0.88, 1.12)),
        saturation=float(rng.uniform(0.88, 1.08)),
        blur=float(rng.uniform(0.25, 0.95)),
        grain=float(rng.uniform(0.002, 0.009)),
        jpeg_quality=int(rng.integers(78, 95)),
    )


def _tinted(colour: Colour, tint: npt.NDArray[np.float64]) -> Colour:
    return (float(colour[0] * tint[0]), float(colour[1] * tint[1]), float(colour[2] * tint[2]))


def _cloth(rng: np.random.Generator) -> Colour:
    grey = rng.uniform(0.05, 0.7)
    colour = np.clip(grey + rng.normal(0.0, 0.12, size=3), 0.02, 0.85)
    return (float(colour[0]), float(colour[1]), float(colour[2]))
