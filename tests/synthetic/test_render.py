"""The renderer: bytes that depend on nothing but the seeds, true landmarks, and slow twins of its parts."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("warp")

from diagnosis.synthetic import anatomy, camera, cohort, features, manifest, paint, people, recipes, render
from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, PHOTO_ACTIONS
from diagnosis.synthetic.photos import PhotoSpec, draw_photo

SIZE = 160


def drawn(number: int, age: float = 9.0) -> tuple[people.Person, PhotoSpec]:
    person = people.draw_person(4, number, people.draw_syndrome(7000 + number))
    return person, draw_photo(person, 1, age)


def hashes_of(numbers: list[int], batch: int = 16) -> list[str]:
    photos = render.render_many([drawn(number) for number in numbers], size=SIZE, batch=batch)
    return [hashlib.sha256(photo.pixels.tobytes()).hexdigest() for photo in photos]


def test_a_photo_depends_neither_on_batch_nor_on_order() -> None:
    together = hashes_of([1, 2, 3, 4, 5])
    assert hashes_of([5, 4, 3, 2, 1], batch=2) == together[::-1]
    assert [hashes_of([number])[0] for number in (1, 2, 3)] == together[:3]
    assert len(set(together)) == 5


def test_another_process_renders_the_same_bytes() -> None:
    code = (
        "import hashlib\n"
        "from diagnosis.synthetic import people, photos, render\n"
        "p = people.draw_person(4, 2, people.draw_syndrome(7002))\n"
        f"r = render.render_photo(p, photos.draw_photo(p, 1, 9.0), size={SIZE})\n"
        "print(hashlib.sha256(r.pixels.tobytes()).hexdigest())\n"
    )
    root = Path(manifest.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1:] == hashes_of([2]), done.stderr


def test_shipped_photos_are_written_again_bit_for_bit() -> None:
    shipped = manifest.load_shipped()
    numbers = [1, 57, 130, 222, 301]
    assert cohort.differing_photos(shipped, recipes.DEMO, numbers) == []
    photo = dataclasses.replace(shipped.people[0].photos[0], sha256="0" * 64)
    photos = (photo, *shipped.people[0].photos[1:])
    forged = dataclasses.replace(
        shipped, people=(dataclasses.replace(shipped.people[0], photos=photos), *shipped.people[1:])
    )
    assert cohort.differing_photos(forged, recipes.DEMO, [1]) == [photo.file]


def test_a_cohort_is_written_read_and_not_overwritten(tmp_path: Path) -> None:
    site = recipes.Site("Z", ((7001, 2), (7002, 1)), (7003,), 1)
    recipe = recipes.CohortRecipe("tiny", 4, (site,), (0.5, 0.3, 0.2), size=96, splits=True)
    seen: list[tuple[int, int]] = []
    made = cohort.write_cohort(recipe, tmp_path / "one", lambda done, total: seen.append((done, total)))
    photos = [photo for person in made.people for photo in person.photos]
    assert seen == [(i, len(photos)) for i in range(1, len(photos) + 1)]
    assert [person.status for person in made.people] == ["solved"] * 3 + ["unsolved", "unaffected"]
    assert made.people[3].syndrome is None
    assert made.people[3].true_syndrome == "SYN:7003"
    again = cohort.write_cohort(recipe, tmp_path / "two", workers=1)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    assert all(made.read_photo(photo) for photo in photos)
    assert again.people == made.people
    with pytest.raises(FileExistsError, match="empty folder"):
        cohort.write_cohort(recipe, tmp_path / "one")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rendered_photo_has_the_stated_shapes_and_parameters() -> None:
    person, photo = drawn(6, age=25.0)
    rendered = render.render_photo(person, photo, size=SIZE)
    assert (rendered.pixels.shape, rendered.pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert (rendered.landmarks.shape, rendered.landmarks.dtype) == ((5, 2), np.float32)
    assert rendered.parameters.shape == (len(render.PARAMETER_NAMES),)
    named = dict(zip(render.PARAMETER_NAMES, rendered.parameters.tolist(), strict=True))
    assert named["age"] == pytest.approx(2 / 3, abs=1e-6)
    assert named["sex"] == person.sex
    assert named["chin-width-incr"] == pytest.approx(person.face[FACIAL_CHANGES.index("chin-width-incr")])
    assert named["synophrys"] == pytest.approx(person.face[features.TRAIT_INDEX["synophrys"]])


def plain_person(**changes: object) -> people.Person:
    person = dataclasses.replace(people.draw_person(4, 1), face=np.zeros(features.FACE_SIZE), weight=0.5)
    light = dataclasses.replace(person.appearance, skin_tone=2.0, eye_shade=0.0, hair_length="short")
    return dataclasses.replace(person, appearance=light, **changes)  # type: ignore[arg-type]


def plain_photo(**changes: object) -> PhotoSpec:
    return dataclasses.replace(PhotoSpec(seed=(4, 1, 1), age=25.0, blur=0.0, grain=0.0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("yaw", [-15.0, 0.0, 15.0])
def test_landmarks_lie_on_dark_pupils_and_around_red_lips(yaw: float) -> None:
    rendered = render.render_photo(plain_person(), plain_photo(yaw=yaw), size=320)
    grey = rendered.pixels.astype(float).mean(axis=2)
    for x, y in np.rint(rendered.landmarks[:2]).astype(int):
        pupil = np.median(grey[y - 1 : y + 2, x - 1 : x + 2])
        cheek = np.median(grey[y + 22 : y + 27, x - 2 : x + 3])
        assert pupil < 0.4 * cheek
    left, right = np.rint(rendered.landmarks[3:]).astype(int)
    lip_y, lip_x = (left[1] + right[1]) // 2 + 4, (left[0] + right[0]) // 2
    lip = rendered.pixels[lip_y - 1 : lip_y + 2, lip_x - 3 : lip_x + 4].reshape(-1, 3).mean(axis=0)
    eye_x, eye_y = np.rint(rendered.landmarks[0]).astype(int)
    skin = rendered.pixels[eye_y + 24 : eye_y + 28, eye_x - 2 : eye_x + 3].reshape(-1, 3).mean(axis=0)
    assert lip[1] / lip[0] < 0.96 * skin[1] / skin[0]


def test_eye_chin_distance_and_place_are_those_of_the_photo() -> None:
    pack = anatomy.load_head()
    for eye_chin in (0.25, 0.35):
        photo = plain_photo(eye_chin=eye_chin, shift=(0.05, -0.02))
        shape = render._shapes(pack, [(plain_person(), photo)])[0]
        points = camera.landmark_points(pack, shape)
        pose = camera.place(points, photo, float(anatomy.eye_chin_distance(pack, shape[None])[0]), 400)
        screen = pose.project(pose.turn(points, pose.anchors))
        drop = screen[5, 1] - screen[:2, 1].mean()
        assert drop == pytest.approx(eye_chin * 400, rel=0.06)  # perspective: the chin is a little nearer
        assert screen[:2, 0].mean() == pytest.approx(400 * 0.55, abs=2.0)


def test_turning_left_moves_the_nose_and_keeps_the_shoulders() -> None:
    pack = anatomy.load_head()
    shape = render._shapes(pack, [(plain_person(), plain_photo())])[0]
    points = camera.landmark_points(pack, shape)
    for yaw, direction in ((20.0, 1), (-20.0, -1)):
        pose = camera.place(points, plain_photo(yaw=yaw), 0.11, 256)
        turned = pose.turn(shape, pack.canonical)
        shift = turned[pack.landmark_vertices[2]] - points[2]
        assert direction * shift[0] > 0.02
        still = pack.canonical[:, 2] < 0.55
        np.testing.assert_allclose(turned[still], shape[still], atol=1e-12)


def test_shapes_equal_a_slow_sum_over_corners_and_changes() -> None:
    pack = anatomy.load_head()
    person, photo = drawn(8, age=5.0)
    fast = render._shapes(pack, [(person, photo)])[0]
    np.testing.assert_allclose(fast, slow_shape(pack, person, photo), atol=2e-7)


def slow_shape(pack: anatomy.HeadPack, person: people.Person, photo: PhotoSpec) -> np.ndarray:
    age = anatomy.age_coordinate(photo.age)
    ancestry = np.array(person.appearance.ancestry) / sum(person.appearance.ancestry)
    base, corner = np.zeros_like(pack.canonical), 0
    for sex in (0.0, 1.0):
        for anchor in anatomy.AGE_ANCHORS:
            for weight in (0.0, 0.5, 1.0):
                share = max(0.0, 1 - abs(person.sex - sex)) * max(0.0, 1 - abs(age - anchor) * 3)
                share *= max(0.0, 1 - abs(person.weight - weight) * 2)
                for race in range(3):
                    base += share * ancestry[race] * pack.anchors[corner]
                    corner += 1
    points, adult = base[pack.landmark_vertices], pack.canonical[pack.landmark_vertices]
    scale = np.linalg.norm((points[0] + points[1]) / 2 - points[5])
    scale /= np.linalg.norm((adult[0] + adult[1]) / 2 - adult[5])
    for index, value in enumerate(person.face[: len(FACIAL_CHANGES)]):
        base += scale * abs(value) * pack.changes[2 * index + (value < 0)]
    for name, value in photo.actions:
        base += scale * value * pack.actions[PHOTO_ACTIONS.index(name)]
    return base


@pytest.mark.slow
def test_shapes_without_age_scaling_are_those_of_anny() -> None:
    """The twin is anny itself, for an adult whose eye–chin distance is the template's up to a factor."""
    import torch

    from diagnosis.synthetic import anatomy_source

    model = anatomy_source.load_anny()
    pack = anatomy.load_head()
    weights = anatomy.anchor_weights(1.0, anatomy.age_coordinate(40.0), 0.3, (0.2, 0.5, 0.3))
    ours = (weights @ pack.anchors.reshape(90, -1)).reshape(-1, 3)[pack.landmark_vertices]
    with torch.no_grad():
        theirs = model(
            phenotype_kwargs={"gender": 1.0, "age": anatomy.age_coordinate(40.0), "weight": 0.3,
                              "african": 0.2, "asian": 0.5, "caucasian": 0.3}
        )["rest_vertices"][0].numpy()  # fmt: skip
    template = anatomy_source.template_shape(model)
    vertices = anatomy_source.landmark_vertices(template, anatomy_source.vertex_masks(model)[:, 0])
    np.testing.assert_allclose(ours, theirs[vertices], atol=1e-9)


def test_the_z_buffer_equals_a_slow_one() -> None:
    pack = anatomy.load_head()
    person, photo = drawn(9)
    shape = render._shapes(pack, [(person, photo)])[0]
    points = camera.landmark_points(pack, shape)
    pose = camera.place(points, photo, float(anatomy.eye_chin_distance(pack, shape[None])[0]), 40)
    screen = pose.project(pose.turn(shape, pack.canonical))
    shown = np.array([1, 1, 1, 1, 0, 1, anatomy.HAIR], dtype=np.int32)
    fast = paint._rasterise(screen, shown, 40)[0].numpy()
    slow = slow_owner(screen.astype(np.float32).astype(float), pack, shown, 40)
    assert (fast >= 0).mean() > 0.3
    assert (fast != slow).mean() < 0.004  # pixels whose centre lies on an edge, in float32


def slow_owner(screen: np.ndarray, pack: anatomy.HeadPack, shown: np.ndarray, side: int) -> np.ndarray:
    """For every pixel centre, the nearest triangle that covers it, by a test of all triangles."""
    kind = pack.material
    a, b, c = (screen[pack.faces[:, corner]] for corner in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    drawn_faces = (shown[kind] == 1) & ((area < -1e-9) | ((kind == shown[6]) & (area > 1e-9)))
    owner = np.full((side, side), -1)
    for y in range(side):
        for x in range(side):
            px, py = x + 0.5, y + 0.5
            with np.errstate(divide="ignore", invalid="ignore"):
                u = ((a[:, 0] - c[:, 0]) * (py - c[:, 1]) - (a[:, 1] - c[:, 1]) * (px - c[:, 0])) / area
                v = ((b[:, 0] - a[:, 0]) * (py - a[:, 1]) - (b[:, 1] - a[:, 1]) * (px - a[:, 0])) / area
                depth = a[:, 2] + u * (b[:, 2] - a[:, 2]) + v * (c[:, 2] - a[:, 2])
            covers = drawn_faces & (u >= 0) & (v >= 0) & (u + v <= 1)
            if covers.any():
                owner[y, x] = np.flatnonzero(covers)[np.argmin(depth[covers])]
    return owner


def test_film_is_monotonic_and_is_the_srgb_curve_below_the_shoulder() -> None:
    table = camera.film_table().astype(int)
    assert (np.diff(table) >= 0).all()
    assert (table[0], table[-1]) == (0, 255)
    light = 0.2
    level = table[int(light * camera._FILM_STEPS / camera._FILM_RANGE)]
    assert level == round(255 * (1.055 * light ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("tone", [1.0, 5.5, 10.0])
def test_darker_skin_is_darker_and_faces_keep_their_contrast(tone: float) -> None:
    person = plain_person()
    toned = dataclasses.replace(person, appearance=dataclasses.replace(person.appearance, skin_tone=tone))
    lighter = dataclasses.replace(
        person, appearance=dataclasses.replace(person.appearance, skin_tone=max(tone - 2, 0.9))
    )
    dark, light = (render.render_photo(who, plain_photo(), size=SIZE) for who in (toned, lighter))
    x, y = np.rint(dark.landmarks[2] + [16, 2]).astype(int)
    if tone > 1.0:
        assert dark.pixels[y, x].mean() < light.pixels[y, x].mean()
    eye_x, eye_y = np.rint(dark.landmarks[0]).astype(int)
    region = dark.pixels[eye_y - 8 : eye_y + 9, eye_x - 12 : eye_x + 13].astype(float).mean(axis=2)
    assert np.ptp(region) > 50


def test_infants_have_larger_eyes_for_their_face_than_adults() -> None:
    ratios = []
    for age in (0.5, 10.0, 30.0):
        marks = render.render_photo(plain_person(), plain_photo(age=age), size=256).landmarks
        ratios.append(np.linalg.norm(marks[1] - marks[0]) / (marks[3:, 1].mean() - marks[:2, 1].mean()))
    assert ratios[0] > ratios[1] > ratios[2]
