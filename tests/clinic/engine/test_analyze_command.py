"""manage.py analyze and evaluate: what they print, and that nothing of a photo stays."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from diagnosis.models import AuditEvent, Photo, RankingRecord


def analyze(*paths) -> dict:
    out = StringIO()
    call_command("analyze", *map(str, paths), "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


@pytest.fixture
def astronaut_file(tmp_path, astronaut):
    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    return path


def test_the_astronaut_has_one_face_and_a_list(make_gallery, extractor, astronaut_file, site_home) -> None:
    make_gallery(syndromes=36)
    before = sorted(path for path in site_home.rglob("*") if path.is_file())
    answer = analyze(astronaut_file)
    photo = answer["photos"][0]
    assert (photo["file"], photo["faces"], photo["refusal"]) == (str(astronaut_file), 1, None)
    assert np.shape(photo["landmarks"]) == (5, 2) and 0 < photo["quality"] <= 1
    assert answer["model"] == {"name": extractor.name, "sha256": extractor.sha256, "synthetic": True}
    assert (answer["gallery"]["patients"], answer["gallery"]["syndromes"]) == (36, 36)
    assert len(answer["gallery"]["version"]) == 64 and answer["match"] == "none" and not answer["calibrated"]
    assert [row["rank"] for row in answer["syndromes"]] == list(range(1, 37))
    assert set(answer["syndromes"][0]) == {"rank", "id", "name", "distance", "band", "patients", "genes"}
    assert sorted(path for path in site_home.rglob("*") if path.is_file()) == before
    assert Photo.objects.count() == 36 and not RankingRecord.objects.exists()
    event = AuditEvent.objects.get(action="photos.ranked_once")
    assert event.detail == {"photos": 1, "model": extractor.sha256}


def test_several_photos_are_fused_and_an_unusable_one_says_why(
    make_gallery, astronaut_file, tmp_path, photo_bytes
) -> None:
    make_gallery(syndromes=10)
    second, faceless = tmp_path / "second.jpg", tmp_path / "wall.png"
    second.write_bytes(photo_bytes(5))
    Image.fromarray(np.full((300, 300, 3), 128, dtype=np.uint8)).save(faceless)
    one, both = analyze(astronaut_file), analyze(astronaut_file, second)
    with_wall = analyze(astronaut_file, faceless, second)
    assert one["syndromes"] != both["syndromes"] == with_wall["syndromes"]
    refusal = with_wall["photos"][1]["refusal"]
    assert refusal["code"] == "no_face" and refusal["remedy"]


def test_without_a_usable_photo_it_ends_with_an_error_code(make_gallery, tmp_path) -> None:
    bad = tmp_path / "bad.gif"
    bad.write_bytes(b"GIF89a....")
    out = StringIO()
    with pytest.raises(CommandError, match="No photo") as failed:
        call_command("analyze", str(bad), "--json", stdout=out, stderr=StringIO())
    assert failed.value.returncode == 2
    assert json.loads(out.getvalue())["photos"][0]["refusal"]["sentence"].startswith("This is a GIF")
    with pytest.raises(CommandError, match="cannot be read"):
        analyze(tmp_path / "absent.jpg")


def test_a_site_without_a_model_says_what_to_do(db, astronaut_file) -> None:
    with pytest.raises(CommandError, match="install_weights"):
        analyze(astronaut_file)


def test_the_terminal_table_names_model_gallery_and_match(make_gallery, astronaut_file) -> None:
    make_gallery(syndromes=3)
    out, err = StringIO(), StringIO()
    call_command("analyze", str(astronaut_file), stdout=out, stderr=err)
    assert "trained on synthetic faces" in out.getvalue() and "No confident match" in out.getvalue()
    assert "legal basis" in err.getvalue()


def test_evaluate_is_a_door_to_the_measured_figures(tmp_path) -> None:
    """Five photos worked by hand: two frequent syndromes, one query each way, one right and one wrong."""
    rows = {
        "1": [1.0, 0.0], "2": [0.0, 1.0], "3": [0.9, 0.1], "4": [0.8, 0.3],
        "5": [1.0, 0.0], "6": [0.0, 1.0], "7": [0.1, 1.0], "8": [0.2, 1.0],
    }  # fmt: skip
    lines = ["img_name;model;flip;gray;class_conf;representations"]
    lines += [f"{name}.jpg;m;0;0;[];{json.dumps(vector + [0.0] * 510)}" for name, vector in rows.items()]
    (tmp_path / "encodings.csv").write_text("\n".join(lines) + "\n")
    splits = {
        "frequent_gallery": ["1,A", "2,B"], "frequent_test": ["3,A", "4,B"],
        "rare_gallery": ["5,C,0", "6,D,0"], "rare_test": ["7,D,0", "8,D,0"],
    }  # fmt: skip
    for name, entries in splits.items():
        header = "image_id,label" + (",split" if name.startswith("rare") else "")
        (tmp_path / f"gmdb_{name}_images_v1.csv").write_text("\n".join([header, *entries]) + "\n")
    out = StringIO()
    call_command(
        "evaluate", "--encodings", str(tmp_path / "encodings.csv"), "--metadata", str(tmp_path),
        "--gmdb-version", "v1", "--json", stdout=out,
    )  # fmt: skip
    found = json.loads(out.getvalue())
    assert list(found) == ["F/F", "R/R", "F/(F+R)", "R/(F+R)"]
    assert (found["F/F"]["top1"], found["F/F"]["top5"], found["F/F"]["micro"]["top1"]) == (50.0, 100.0, 50.0)
    assert found["R/R"]["top1"] == 100.0
    with pytest.raises(CommandError):
        call_command(
            "evaluate", "--encodings", "absent.csv", "--metadata", str(tmp_path), "--gmdb-version", "v1"
        )
