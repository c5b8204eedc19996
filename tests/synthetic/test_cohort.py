"""Recipes, splits, and the shipped demo cohort; all of it without a renderer."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diagnosis.synthetic import cohort, manifest, people, recipes, splits
from diagnosis.synthetic.features import FEATURE_BY_TERM

K = 5  # fewest own patients with which a hospital stands behind a shared class (federation protocol)


@pytest.fixture(scope="module")
def shipped() -> manifest.Cohort:
    return manifest.load_shipped()


def undrawn_photos(members: tuple[cohort.Member, ...]) -> list[dict[str, object]]:
    """Rows of a manifest whose photos were never rendered."""
    count = sum(len(member.photos) for member in members)
    return [{"image_id": i, "file": f"photos/{i}.jpg", "landmarks": [[0.0, 0.0]] * 5, "sha256": ""}
            for i in range(1, count + 1)]  # fmt: skip


def unrendered(recipe: recipes.CohortRecipe, folder: Path) -> manifest.Cohort:
    members = cohort.draw_members(recipe)
    described = cohort.describe(recipe, members, undrawn_photos(members))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.MANIFEST_NAME).write_text(json.dumps(described))
    return manifest.load_cohort(folder)


def fingerprint(recipe: recipes.CohortRecipe) -> str:
    """sha256 over the recipe and everything about people, signs and photos that follows from it."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(recipe), sort_keys=True).encode())
    for number in recipe.syndrome_numbers():
        digest.update(json.dumps(dataclasses.asdict(people.draw_syndrome(number))).encode())
    for member in cohort.draw_members(recipe):
        digest.update(np.round(member.person.face, 6).astype("<f8").tobytes())
        digest.update(repr([round(photo.age, 6) for photo in member.photos]).encode())
    return digest.hexdigest()


def test_the_evaluation_recipe_has_not_changed() -> None:
    """A softened recipe is another cohort and needs a new name; recipes.py tells of the one correction."""
    assert (
        fingerprint(recipes.EVALUATION) == "a3598b58fe9e2c1b72a6e61e58037826d1594a077c0b8506b2bae85490626b84"
    )


def test_evaluation_has_frequent_and_rare_syndromes_with_a_long_tail() -> None:
    counts = sorted((count for _, count in recipes.EVALUATION.sites[0].solved), reverse=True)
    frequent = [count for count in counts if count >= recipes.FREQUENT_FROM]
    assert len(counts) == 60
    assert len(frequent) == 30
    assert set(counts[30:]) == {2, 3, 4, 5, 6}
    assert frequent[0] >= 8 * frequent[-1]


def test_recipes_share_no_syndrome_and_no_seed() -> None:
    used: list[int] = []
    for recipe in recipes.RECIPES.values():
        used += recipe.syndrome_numbers()
        assert not set(recipe.syndrome_numbers()) & set(people.TRAINING_SYNDROMES)
        assert recipe.seed < people.FIRST_TRAINING_SEED
    assert len(set(used)) == len(used)
    assert len({recipe.seed for recipe in recipes.RECIPES.values()}) == len(recipes.RECIPES)


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="calibration, demo, evaluation"):
        recipes.recipe_named("demmo")


def test_demo_hospitals_meet_the_k_rule_with_different_case_mix(shipped: manifest.Cohort) -> None:
    holders: Counter[str] = Counter()
    mixes = []
    for hospital in "ABCD":
        counts = Counter(p.syndrome for p in shipped.hospital(hospital) if p.syndrome is not None)
        holders.update(syndrome for syndrome, count in counts.items() if count >= K)
        mixes.append(dict(counts))
    assert sum(count >= 3 for count in holders.values()) >= 6
    assert len(mixes[0]) >= 30
    assert min(mixes[0].values()) == 1
    assert all(one != other for i, one in enumerate(mixes) for other in mixes[i + 1 :])
    for hospital in "ABCD":
        statuses = Counter(person.status for person in shipped.hospital(hospital))
        assert statuses["unsolved"] >= 3
        assert statuses["unaffected"] >= 5


def test_an_unsolved_patient_of_a_is_known_only_elsewhere(shipped: manifest.Cohort) -> None:
    own = {person.syndrome for person in shipped.hospital("A")}
    elsewhere = {p.syndrome for p in shipped.people if p.hospital != "A"} - {None}
    unsolved = {p.true_syndrome for p in shipped.hospital("A") if p.status == "unsolved"}
    assert len(unsolved & elsewhere - own) >= 1
    assert unsolved - elsewhere - own, "one has what nobody has seen"


def test_shipped_people_are_those_of_the_recipe(shipped: manifest.Cohort, tmp_path: Path) -> None:
    again = unrendered(recipes.DEMO, tmp_path)
    assert again.syndromes == shipped.syndromes
    assert again.hpo == shipped.hpo
    assert [bare(person) for person in again.people] == [bare(person) for person in shipped.people]


def bare(person: manifest.CohortPerson) -> object:
    photos = tuple((photo.image_id, photo.file, photo.number, photo.age_years) for photo in person.photos)
    return dataclasses.replace(person, photos=()), photos


def test_shipped_photos_are_whole_small_and_hold_the_landmarks(shipped: manifest.Cohort) -> None:
    total = 0
    for person in shipped.people:
        assert 1 <= len(person.photos) <= 3
        for photo in person.photos:
            data = shipped.read_photo(photo)
            total += len(data)
            image = Image.open(io.BytesIO(data))
            assert (image.format, image.size, image.mode) == ("JPEG", (320, 320), "RGB")
            assert not image.getexif()
            points = np.array(photo.landmarks)
            assert points.shape == (5, 2)
            assert 0 < points.min() < points.max() < 319
            assert points[0, 0] < points[1, 0]
            assert points[3, 0] < points[4, 0]
            assert points[:2, 1].mean() < points[2, 1] < points[3:, 1].mean()
    assert total + (shipped.folder / "manifest.json").stat().st_size <= 10 * 2**20


def test_shipped_catalogue_is_flagged_synthetic_with_origin_and_licence(shipped: manifest.Cohort) -> None:
    assert len(shipped.syndromes) >= 30
    assert all(s.synthetic and s.identifier.startswith("SYN:") for s in shipped.syndromes)
    assert all(s.gene.startswith("SYNG") for s in shipped.syndromes)
    assert "CC0-1.0" in shipped.licence
    assert "invented" in shipped.origin
    assert set(shipped.hpo) == set(FEATURE_BY_TERM)


def test_the_shipped_cohort_needs_no_renderer() -> None:
    code = (
        "import sys\n"
        "for name in ('anny', 'warp', 'torch'): sys.modules[name] = None\n"
        "from diagnosis.synthetic.manifest import load_shipped\n"
        "cohort = load_shipped(); print(len(cohort.read_photo(cohort.people[0].photos[0])) > 0)\n"
    )
    root = Path(manifest.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_a_changed_photo_or_manifest_is_refused(shipped: manifest.Cohort, tmp_path: Path) -> None:
    photo = shipped.people[0].photos[0]
    (tmp_path / "photos").mkdir()
    (tmp_path / photo.file).write_bytes(shipped.read_photo(photo) + b"\0")
    with pytest.raises(manifest.CohortDamaged, match=photo.file):
        dataclasses.replace(shipped, folder=tmp_path).read_photo(photo)
    with pytest.raises(manifest.CohortDamaged, match=r"manifest\.json"):
        manifest.load_cohort(tmp_path)
    found = json.loads((shipped.folder / "manifest.json").read_text())
    found["people"][0]["photos"][0]["file"] = "photos/../../secret.jpg"
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(manifest.CohortDamaged, match="outside"):
        manifest.load_cohort(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(found | {"format": "another"}))
    with pytest.raises(manifest.CohortDamaged, match="another"):
        manifest.load_cohort(tmp_path)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> manifest.Cohort:
    made = unrendered(recipes.EVALUATION, tmp_path_factory.mktemp("evaluation"))
    splits.write_splits(made, made.folder)
    return made


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_splits_keep_each_patient_whole_and_on_one_side(evaluation: manifest.Cohort) -> None:
    owner = {photo.image_id: person for person in evaluation.people for photo in person.photos}
    for kind, parts in (("frequent", [None]), ("rare", [str(i) for i in range(recipes.RARE_SPLITS)])):
        gallery_rows = rows_of(evaluation.folder, f"gmdb_{kind}_gallery_images_vevaluation.csv")
        test_rows = rows_of(evaluation.folder, f"gmdb_{kind}_test_images_vevaluation.csv")
        for part in parts:
            sides = []
            for rows in (gallery_rows, test_rows):
                chosen = [row for row in rows if row.get("split") == part]
                for row in chosen:
                    person = owner[int(row["image_id"])]
                    assert row["subject"] == str(person.number)
                    assert f"SYN:{int(row['label']):04d}" == person.syndrome
                sides.append(chosen)
            gallery, test = ({row["subject"] for row in side} for side in sides)
            assert not gallery & test
            assert {row["label"] for row in sides[1]} == {row["label"] for row in sides[0]}
            images = {int(row["image_id"]) for side in sides for row in side}
            whole = {p.image_id for person in evaluation.people if str(person.number) in gallery | test
                     for p in person.photos}  # fmt: skip
            assert images == whole


def test_splits_cover_frequent_and_rare_syndromes_and_differ(evaluation: manifest.Cohort) -> None:
    counts = Counter(p.syndrome for p in evaluation.people if p.syndrome is not None)
    frequent = {syndrome for syndrome, count in counts.items() if count >= 7}
    gallery, test = splits.frequent_split(evaluation)
    assert {p.syndrome for p in gallery} == {p.syndrome for p in test} == frequent
    assert len(test) / (len(test) + len(gallery)) == pytest.approx(0.25, abs=0.03)
    tested = [frozenset(p.number for p in splits.rare_split(evaluation, i)[1]) for i in range(10)]
    assert len(set(tested)) == 10
    assert {p.syndrome for p in splits.rare_split(evaluation, 0)[0]} == set(counts) - frequent


def test_split_files_are_read_by_the_evaluation(evaluation: manifest.Cohort) -> None:
    from diagnosis.phenotype.ranking import gmdb_files

    for path in sorted(evaluation.folder.glob("gmdb_*.csv")):
        rows = gmdb_files.read_split(path)
        assert len(rows) == len(rows_of(evaluation.folder, path.name))


def test_unaffected_people_are_listed_and_in_no_split(evaluation: manifest.Cohort) -> None:
    listed = {row["subject"] for row in rows_of(evaluation.folder, "unaffected_images_vevaluation.csv")}
    assert listed == {str(p.number) for p in evaluation.people if p.status == "unaffected"}
    assert len(listed) == 200
    for path in evaluation.folder.glob("gmdb_*.csv"):
        assert not listed & {row["subject"] for row in rows_of(evaluation.folder, path.name)}
