"""Accuracy on GestaltMatcher's files: a hand-worked example, scikit-learn's distances, and damaged files."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from diagnosis.phenotype.errors import FormatError, GalleryError
from diagnosis.phenotype.ranking import gmdb, gmdb_files
from diagnosis.phenotype.ranking.gmdb_files import SplitRow, Variant

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

HEADER = "img_name;model;flip;gray;class_conf;representations"
LISTS = ("frequent_gallery", "frequent_test", "rare_gallery", "rare_test")


def write_lists(folder: Path, version: str, **lists: list[SplitRow]) -> None:
    for name in LISTS:
        kind, role = name.split("_")
        gmdb_files.write_split(folder / f"gmdb_{kind}_{role}_images_v{version}.csv", lists[name])


def angles(*degrees: float) -> list[list[float]]:
    return [[2 * math.cos(math.radians(one)), 2 * math.sin(math.radians(one))] for one in degrees]


def write_five_photos(folder: Path) -> Path:
    """Five photos of two rows in the plane, each row an angle; all rows twice as long as a unit vector."""
    photos = {"1": (0, 0), "2": (90, 30), "3": (60, 0), "4": (60, 90), "5": (0, 90)}
    encodings = folder / "all_encodings.csv"
    with encodings.open("w") as file:
        file.write(HEADER + "\n")
        for row, model in enumerate(("m0", "m1")):  # model after model, as an ensemble writes them
            for image, degrees in photos.items():
                file.write(f"{image}_rot_aligned.jpg;{model};0;0;[0.1, 0.9];{angles(*degrees)[row]}\n")
    write_lists(
        folder,
        "9.9.9",
        frequent_gallery=[SplitRow("1", "11", "p1"), SplitRow("2", "22", "p2")],
        frequent_test=[SplitRow("3", "11", "p3")],
        rare_gallery=[SplitRow("4", "33", "p4", "0")],
        rare_test=[SplitRow("5", "33", "p5", "0")],
    )
    return encodings


def test_five_photos_worked_by_hand(tmp_path: Path) -> None:
    # Distance = mean over two rows of 1 − cos(difference of angles).
    # Photo 3, syndrome 11, angles (60, 0):
    #   to 1 (11): (1 − cos 60 + 1 − cos 0) / 2  = (0.5 + 0) / 2          = 0.25
    #   to 2 (22): (1 − cos 30 + 1 − cos 30) / 2 = 1 − 0.8660             = 0.1340
    #   to 4 (33): (1 − cos 0 + 1 − cos 90) / 2  = (0 + 1) / 2            = 0.5
    #   so F/F lists 22, 11 and F/(F+R) lists 22, 11, 33: second both times: top-1 0 %, top-5 100 %.
    # Photo 5, syndrome 33, angles (0, 90):
    #   to 1 (11): (0 + 1) / 2 = 0.5;  to 2 (22): (1 + 1 − cos 60) / 2 = 0.75;
    #   to 4 (33): (0.5 + 0) / 2 = 0.25
    #   so R/R lists 33 and R/(F+R) lists 33, 11, 22: first both times: top-1 100 %.
    result = gmdb.evaluate(write_five_photos(tmp_path), tmp_path, "9.9.9")
    second = {"top1": 0.0, "top5": 100.0, "top10": 100.0, "top30": 100.0}
    first = dict.fromkeys(second, 100.0)
    for setting, expected, gallery in (
        ("F/F", second, 2),
        ("R/R", first, 1),
        ("F/(F+R)", second, 3),
        ("R/(F+R)", first, 3),
    ):
        found = result[setting]
        assert {k: found[k] for k in expected} == expected, setting
        assert found["micro"] == expected
        assert (found["gallery"], found["queries"], found["overlap"]) == (gallery, 1, 0)
    assert tuple(result) == gmdb.SETTINGS
    json.dumps(result, allow_nan=False)
    assert gmdb.evaluate(tmp_path / "all_encodings.csv", tmp_path, "v9.9.9") == result


def test_distances_of_five_photos_by_hand(tmp_path: Path) -> None:
    read = gmdb_files.read_encodings(write_five_photos(tmp_path), {"1", "2", "3", "4", "5"})
    assert read.variants == (Variant("m0", "0", "0"), Variant("m1", "0", "0"))
    rows = dict(zip(read.image_ids, read.rows, strict=True))
    found = [cases.slow_distance(rows["3"], rows[other]) for other in ("1", "2", "4")]
    np.testing.assert_allclose(found, [0.25, 1 - math.sqrt(3) / 2, 0.5], atol=1e-6)


def random_release(folder: Path, seed: int = 0) -> tuple[dict, dict[str, list[SplitRow]], Path]:
    """60 images, m = 3, d = 6, ten rare splits; some faces shared bit for bit across syndromes (ties)."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((60, 3, 6)).astype(np.float32)
    rows[[7, 21, 33]] = rows[[3, 5, 5]]
    encodings = {f"{100 + index}": rows[index] for index in range(60)}
    names = list(encodings)
    lists: dict[str, list[SplitRow]] = {name: [] for name in LISTS}
    for index, name in enumerate(names[:35]):
        role = "frequent_gallery" if index < 22 else "frequent_test"
        lists[role].append(SplitRow(name, f"{index % 6}", f"s{index // 2}"))
    for split in range(10):
        for place, index in enumerate(rng.permutation(25).tolist()):
            role = "rare_gallery" if place < 14 else "rare_test"
            lists[role].append(SplitRow(names[35 + index], f"{50 + index % 8}", f"s{60 + index}", f"{split}"))
    write_lists(folder, "1.2.3", **lists)
    path = folder / "encodings.csv"
    variants = [Variant("a", "0", "0"), Variant("a", "1", "0"), Variant("b", "0", "0")]
    gmdb_files.write_encodings(path, [(f"{n}_aligned.jpg", r) for n, r in encodings.items()], variants)
    return encodings, lists, path


def slow_accuracy(
    encodings: dict, test: list[SplitRow], gallery: list[SplitRow], k: int
) -> tuple[float, float]:
    """Macro and micro share with scikit-learn's distances, dictionaries and loops."""

    def stack(rows: list[SplitRow]) -> np.ndarray:
        return np.array([encodings[row.image_id] for row in rows])

    queries, images = stack(test), stack(gallery)
    distances = np.mean([cosine_distances(queries[:, r], images[:, r]) for r in range(3)], axis=0)
    hits: dict[str, list[bool]] = {}
    for row, line in zip(test, distances, strict=True):
        nearest: dict[str, float] = {}
        for candidate, distance in zip(gallery, line, strict=True):
            nearest[candidate.label] = min(round(float(distance), 9), nearest.get(candidate.label, 9.0))
        listed = sorted(nearest, key=lambda label: (nearest[label], label))
        hits.setdefault(row.label, []).append(row.label in listed[:k])
    every = [hit for own in hits.values() for hit in own]
    return float(np.mean([np.mean(own) for own in hits.values()])), float(np.mean(every))


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_equal_scikit_learn_and_loops(tmp_path: Path, seed: int) -> None:
    encodings, lists, path = random_release(tmp_path, seed)
    result = gmdb.evaluate(path, tmp_path, "1.2.3")

    def of_split(role: str, split: int) -> list[SplitRow]:
        return [row for row in lists[role] if row.split == f"{split}"]

    for k in (1, 5, 10, 30):
        expected: dict[str, list[tuple[float, float]]] = {setting: [] for setting in gmdb.SETTINGS}
        frequent, test = lists["frequent_gallery"], lists["frequent_test"]
        expected["F/F"].append(slow_accuracy(encodings, test, frequent, k))
        for split in range(10):
            rare, rare_test = of_split("rare_gallery", split), of_split("rare_test", split)
            expected["R/R"].append(slow_accuracy(encodings, rare_test, rare, k))
            expected["F/(F+R)"].append(slow_accuracy(encodings, test, frequent + rare, k))
            expected["R/(F+R)"].append(slow_accuracy(encodings, rare_test, frequent + rare, k))
        for setting, figures in expected.items():
            macro, micro = 100 * np.mean(figures, axis=0)
            assert abs(result[setting][f"top{k}"] - macro) < 1e-9, (setting, k)
            assert abs(result[setting]["micro"][f"top{k}"] - micro) < 1e-9, (setting, k)


def test_fusing_photos_equals_averaging_before_writing(tmp_path: Path) -> None:
    encodings, lists, path = random_release(tmp_path)
    fused = gmdb.evaluate(path, tmp_path, "1.2.3", fuse_photos=True)
    gallery, test = lists["frequent_gallery"], lists["frequent_test"]
    means: dict[str, np.ndarray] = {}

    def averaged(rows: list[SplitRow], role: str) -> list[SplitRow]:
        people = sorted({(row.subject, row.label) for row in rows})
        for subject, label in people:
            own = [encodings[r.image_id] for r in rows if (r.subject, r.label) == (subject, label)]
            unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in own]
            means[f"{role}{subject}{label}"] = np.mean(unit, axis=0)
        return [SplitRow(f"{role}{subject}{label}", label) for subject, label in people]

    for k in (1, 5):
        macro, micro = slow_accuracy(means, averaged(test, "t"), averaged(gallery, "g"), k)
        assert abs(fused["F/F"][f"top{k}"] - 100 * macro) < 1e-9
        assert abs(fused["F/F"]["micro"][f"top{k}"] - 100 * micro) < 1e-9


def test_encodings_survive_writing_and_reading_bit_for_bit(tmp_path: Path) -> None:
    rows = cases.random_rows(np.random.default_rng(0), 3, 2, 64)
    variants = [Variant("a", "0", "0"), Variant("a", "0", "1")]
    gmdb_files.write_encodings(tmp_path / "e.csv", [(f"7{i}.jpg", rows[i]) for i in range(3)], variants)
    with (tmp_path / "e.csv").open() as file:
        lines = list(csv.DictReader(file, delimiter=";"))
    written = np.array([json.loads(line["representations"]) for line in lines], dtype=np.float32)
    np.testing.assert_array_equal(written.reshape(3, 2, 64), rows)
    read = gmdb_files.read_encodings(tmp_path / "e.csv")
    assert (read.image_ids, read.variants) == (("70.jpg", "71.jpg", "72.jpg"), tuple(variants))
    np.testing.assert_allclose(read.rows, rows, atol=1e-7)
    with pytest.raises(GalleryError, match="2 finite rows"):
        gmdb_files.write_encodings(tmp_path / "e.csv", [("x", rows[0] * np.nan)], variants)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("123", "123"),
        ("123.jpg", "123"),
        ("123_rot_aligned.jpg", "123"),
        ("123_aligned.png", "123"),
        ("demo_face.png_aligned.jpg", "demo_face"),
        ("SYN_4_1_aligned.jpg", "SYN_4_1"),
        ("SYN_4_1.jpg", "SYN_4_1"),
        ("1234_aligned.jpg", None),
        ("x123.jpg", None),
        ("", None),
    ],
)
def test_image_names_find_their_image(name: str, image: str | None) -> None:
    assert gmdb_files.known_image(name, {"123", "demo_face", "SYN_4", "SYN_4_1"}) == image


def test_rows_may_come_in_any_order_and_share_a_name(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(f"{HEADER}\n1;b;0;0;;[1, 0]\n2;a;0;0;;[0, 1]\n1;a;0;0;;[0, 2]\n2;b;0;0;;[[3, 0]]\n")
    read = gmdb_files.read_encodings(path, {"1", "2"})
    assert read.rows.tolist() == [[[0, 1], [1, 0]], [[0, 1], [1, 0]]]
    path.write_text(f"{HEADER}\n1;a;0;0;;[1, 0]\n1;a;0;0;;[0, 1]\n2;a;0;0;;[0, 1]\n2;a;0;0;;[1, 0]\n")
    assert gmdb_files.read_encodings(path, {"1", "2"}).rows.tolist() == [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]


def test_long_class_confidences_are_read_and_the_csv_limit_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = tmp_path / "e.csv"
    path.write_text(f"{HEADER}\n1;a;0;0;[{'0.123, ' * 40_000}1];[1, 0]\n")
    assert gmdb_files.read_encodings(path, {"1"}).rows.tolist() == [[[1, 0]]]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "line 1: no column 'img_name'"),
        ("img_name,representations\n1,[1]\n", "separator is ';'"),
        (f"{HEADER}\n1;a;0;0;;[1, 0]\n1;b;0;0\n", "line 3: 4 fields where the header has 6"),
        (f"{HEADER}\n1;a;0;0;;__import__('os')\n", "line 2: representations is not a JSON list"),
        (f'{HEADER}\n1;a;0;0;;[1, "x"]\n', "line 2: representations is not a JSON list"),
        (f"{HEADER}\n1;a;0;0;;{{}}\n", "line 2: representations is not a JSON list"),
        (f"{HEADER}\n1;a;0;0;;{'[' * 5000}\n", "line 2: representations is not a JSON list"),
        (f"{HEADER}\n1;a;0;0;;[{'9' * 400}]\n", "line 2: "),
        (f"{HEADER}\n1;a;0;0;;[1, NaN]\n", "line 2: the embedding is zero or not finite"),
        (f"{HEADER}\n1;a;0;0;;[0, 0]\n", "line 2: the embedding is zero or not finite"),
        (f"{HEADER}\n1;a;0;0;;[]\n", "line 2: the embedding is zero or not finite"),
        (f"{HEADER}\n1;a;0;0;;[1, 0]\n2;a;0;0;;[1, 0, 0]\n", "line 3: 3 numbers where earlier lines have 2"),
        (f"{HEADER}\n1;a;0;0;;[1, 0]\n1.png;a;0;1;;[1, 0]\n", "are both image 1"),
        (f"{HEADER}\n1;a;0;0;;[1, 0]\n1;b;0;0;;[1, 0]\n2;a;0;0;;[1, 0]\n", "image 2 has 1 rows, not the 2"),
        (f"{HEADER}\n1;a;0;0;;[1, 0]\n2;b;0;0;;[1, 0]\n", "image 2 has 1 rows, not the 1"),
        (f"{HEADER}\n7;a;0;0;;[1, 0]\n", "none of the listed images"),
    ],
)
def test_damaged_encodings_are_refused_with_line_and_remedy(
    tmp_path: Path, lines: str, sentence: str
) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(lines)
    with pytest.raises(FormatError) as caught:
        gmdb_files.read_encodings(path, {"1", "2"})
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("broken.csv")
    assert str(tmp_path) not in str(caught.value)


def test_files_that_are_not_text_or_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"img_name;representations\n\xff\xfe\x80;1\n")
    with pytest.raises(FormatError, match="not UTF-8"):
        gmdb_files.read_encodings(tmp_path / "binary.csv")
    with pytest.raises(FormatError, match="gmdb_frequent_gallery_images_v1.csv cannot be read"):
        gmdb.read_splits(tmp_path, "1")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_id\n1\n", "no column 'label'"),
        ("image_id,label\n", "no images"),
        ("image_id,label\n1,2,3\n", "line 2: 3 fields"),
        ("image_id,label\n1,\n", "line 2: image_id or label is empty"),
    ],
)
def test_damaged_splits_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(FormatError, match=sentence):
        gmdb_files.read_split(tmp_path / "s.csv")


def test_splits_are_read_as_spreadsheets_and_tables_write_them(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("\ufeff,image_id,label,subject,split\n0,12.0,7,90.0,3.0\n\n1,13,8.0,,3\n")
    assert gmdb_files.read_split(tmp_path / "s.csv") == (
        SplitRow("12", "7", "90", "3"),
        SplitRow("13", "8", "", "3"),
    )


def test_missing_images_are_named_or_left_out_on_request(tmp_path: Path) -> None:
    path = write_five_photos(tmp_path)
    lists = gmdb_files.read_split(tmp_path / "gmdb_frequent_gallery_images_v9.9.9.csv")
    gmdb_files.write_split(
        tmp_path / "gmdb_frequent_gallery_images_v9.9.9.csv", [*lists, SplitRow("99", "11", "p9")]
    )
    with pytest.raises(FormatError, match=r"lacks 1 listed images \(99\)"):
        gmdb.evaluate(path, tmp_path, "9.9.9")
    assert gmdb.evaluate(path, tmp_path, "9.9.9", skip_missing=True)["F/F"]["gallery"] == 2


def test_an_image_on_both_sides_is_reported(tmp_path: Path) -> None:
    path = write_five_photos(tmp_path)
    gmdb_files.write_split(tmp_path / "gmdb_frequent_test_images_v9.9.9.csv", [SplitRow("1", "11", "p1")])
    result = gmdb.evaluate(path, tmp_path, "9.9.9")
    assert (result["F/F"]["overlap"], result["F/(F+R)"]["overlap"], result["R/R"]["overlap"]) == (1, 1, 0)


def test_rare_lists_with_other_splits_are_refused(tmp_path: Path) -> None:
    path = write_five_photos(tmp_path)
    gmdb_files.write_split(tmp_path / "gmdb_rare_test_images_v9.9.9.csv", [SplitRow("5", "33", "p5", "1")])
    with pytest.raises(FormatError, match="different splits"):
        gmdb.evaluate(path, tmp_path, "9.9.9")


def test_a_true_syndrome_without_gallery_image_is_a_miss(tmp_path: Path) -> None:
    path = write_five_photos(tmp_path)
    gmdb_files.write_split(tmp_path / "gmdb_frequent_test_images_v9.9.9.csv", [SplitRow("3", "77", "p3")])
    result = gmdb.evaluate(path, tmp_path, "9.9.9")
    assert result["F/F"]["top30"] == result["F/F"]["micro"]["top30"] == 0.0


def test_ties_go_by_label_wherever_images_stand() -> None:
    rng = np.random.default_rng(4)
    faces = cases.random_rows(rng, 8, 12)
    face_of = rng.integers(0, 8, 203)
    labels = [f"{label}" for label in rng.permutation(203)]
    queries = cases.random_rows(rng, 70, 12)
    gallery = tuple(SplitRow(f"g{index}", label) for index, label in enumerate(labels))
    truth = [int(place) for place in rng.integers(0, 203, 70)]
    test = tuple(SplitRow(f"t{index}", labels[place]) for index, place in enumerate(truth))
    rows = np.concatenate([faces[face_of], queries])
    ids = tuple(row.image_id for row in (*gallery, *test))
    encodings = gmdb_files.Encodings(ids, (Variant("a", "0", "0"),) * 12, rows)
    scenarios = list(gmdb._scenarios(encodings, gmdb.Splits(gallery, test, gallery, test)))
    found = gmdb._ranks(rows, scenarios[:1])[0]
    for query, place, rank in zip(queries, truth, found.tolist(), strict=True):
        far = [float(np.mean(1 - np.sum(query.astype(np.float64) * face, axis=1))) for face in faces]
        order = sorted(range(203), key=lambda index: (far[face_of[index]], labels[index]))
        assert rank == order.index(place) + 1
