"""Three hospitals with photos, one round, nothing simulated but the network between them."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

MIXES = {
    "a": {"SYN:0001": 9, "SYN:0002": 7, "SYN:0003": 3},
    "b": {"SYN:0001": 7, "SYN:0002": 3, "SYN:0003": 8},
    "c": {"SYN:0001": 3, "SYN:0002": 8, "SYN:0004": 2},
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    """A database file with all tables and nothing in them."""
    from django.core.management import call_command
    from django.db import connections

    path = tmp_path_factory.mktemp("template") / "database.sqlite3"
    with django_db_blocker.unblock():
        outer, made = connections["default"], connections.create_connection("default")
        options = dict(made.settings_dict["OPTIONS"])
        options["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;PRAGMA foreign_keys=ON;"
        made.settings_dict = made.settings_dict | {"NAME": str(path), "OPTIONS": options}
        connections["default"] = made
        try:
            call_command("migrate", verbosity=0)
        finally:
            made.close()
            connections["default"] = outer
    return path


@pytest.fixture
def world(tmp_path: Path, template: Path, tiny: None, monkeypatch: Any, django_db_blocker: Any) -> Any:
    """Hospitals a, b and c with their patients; each lets its jobs run as a worker would."""
    import hospital
    import light
    from world import World

    from diagnosis import jobs
    from federation import tasks

    monkeypatch.setattr(jobs, "wake", lambda kind, job: None)
    monkeypatch.setattr(
        light, "WORK",
        {"federation_prepare": tasks._prepare, "federation_candidate": tasks._candidate,
         "federation_adopt": tasks._adopt, "reembed_photo": _reembed, "rank_case": _rank},
    )  # fmt: skip
    with django_db_blocker.unblock():
        made = World(tmp_path / "world", template, list(MIXES))
        made.found()
        for name, mix in MIXES.items():
            with made.at(name):
                folder = tmp_path / name
                folder.mkdir()
                hospital.install(folder)
                hospital.admit_all(mix)
        yield made
        made.close()


def _reembed(lease: Any) -> None:
    from diagnosis.services.model import photo_reembed

    photo_reembed(lease=lease)


def _rank(lease: Any) -> None:
    from diagnosis.models import Case
    from diagnosis.services.ranking import case_rank

    case_rank(case=Case.objects.get(pk=lease.subject), lease=lease)


def propose(world: Any, **fields: Any) -> Any:
    """A round of all three that every admin says yes to."""
    import hospital
    from world import COORDINATOR

    from federation import kinds, plans
    from federation.models import Approval, Membership, Peer, Round
    from federation.services.contributions import samples_now
    from federation.services.speaking import entry_say

    with world.at(COORDINATOR):
        keys = dict(Peer.objects.filter(state="joined").values_list("name", "public_key"))
        number, federation = Round.objects.count() + 1, Membership.objects.get().federation
    schedule = plans.Schedule(int(time.time() * 1000) + 3_600_000, 3600, 3600, 3600)
    plan = hospital.plan(keys, federation=federation, number=number, schedule=schedule, **fields)
    with world.at(plan.proposer):
        entry_say(kinds.Propose(plans.encode_plan(plan)), key=f"propose/{plan.sha256}")
    world.settle()
    for name in world.names:
        with world.at(name):
            samples = samples_now(plan.k)
            entry_say(kinds.Answer(plan.sha256, "approve", samples, ""), key=f"answer/{plan.sha256}")
            Approval.objects.create(
                round=Round.objects.get(sha256=plan.sha256), answer="approve", plan_sha256=plan.sha256,
                samples=samples, entry_key=f"answer/{plan.sha256}",
            )  # fmt: skip
    world.settle()
    return plan


def contributed(purpose: str) -> dict[str, list[int]]:
    from federation.models import Contribution

    return Contribution.objects.get(purpose=purpose).patients


def plain_update() -> bytes:
    """This site's update again, as it was before it was masked."""
    from federation.models import SecureSum
    from federation.services.contributions import input_words

    found = input_words(SecureSum.objects.get(purpose="update"))
    return found.words.astype("<u4").tobytes()


def centroid_parts() -> dict[str, list[np.ndarray]]:
    """Syndrome → each contributed patient's mean rows under the model in use, from the clinic's own table."""
    from diagnosis import engine
    from diagnosis.models import Embedding

    found: dict[str, list[np.ndarray]] = {}
    for name, patients in contributed("centroids").items():
        for patient in patients:
            rows = Embedding.objects.filter(photo__patient=patient, extractor=engine.extractor_now())
            found.setdefault(name, []).append(
                np.mean([engine.open_rows(row).astype(np.float64) for row in rows], axis=0)
            )
    return found


def test_hospitals_agree_on_a_model_and_none_tells_its_update(world: Any) -> None:
    from diagnosis.models import Embedding, Extractor, LedgerEntry, Photo
    from federation.models import GlobalModel, PublishedCentroids, SiteValidation
    from federation.services.centroids import centroids_load
    from federation.storage import blob_bytes

    propose(world)
    models, members, hashes, parts, updates = [], [], [], [], []
    for name in world.names:
        report = world.report(name)
        assert (report["state"], report["alarm"], report["refusals"]) == ("published", "", []), report
        with world.at(name):
            models.append(GlobalModel.objects.get().members)
            members.append(SiteValidation.objects.get().members)
            hashes.append(PublishedCentroids.objects.get().sha256)
            extractor = Extractor.objects.get(state="adopted")
            assert extractor.origin == "federated round 1, 3 hospitals" and extractor.licence == "CC0"
            assert Embedding.objects.filter(extractor=extractor).count() == Photo.objects.count()
            parts.append(centroid_parts())
            updates.append(plain_update())
            people = {pk for some in contributed("update").values() for pk in some}
            lines = LedgerEntry.objects.filter(kind="federation.trained")
            assert sorted(lines.values_list("patient_id", flat=True)) == sorted(people)
    # Each site computed the candidate itself.
    assert members[0] == members[1] == members[2] == models[0] == models[1] == models[2]
    assert len(set(hashes)) == 1
    with world.at("a"):
        found = centroids_load(blob_bytes(hashes[0]))
    expected = {}
    for name in found.keys:
        mean = np.mean([one for part in parts for one in part.get(name, [])], axis=0)
        expected[name] = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    for index, name in enumerate(found.keys):
        np.testing.assert_allclose(found.rows[index], expected[name], atol=2e-6)
        assert found.patients[index] == sum(len(part.get(name, [])) for part in parts) >= 5
    # SYN:0004 has two patients in all; nobody hears of it.
    assert found.keys == ("SYN:0001", "SYN:0002", "SYN:0003")
    _nowhere(world, updates)


def _nowhere(world: Any, updates: list[bytes]) -> None:
    """No plain update lies in any file of any site, key folders included."""
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        data = path.read_bytes()
        for update in updates:
            middle = len(update) // 2 // 4 * 4  # weights of the neck: no zeros
            assert update[middle : middle + 64] not in data, path


def test_the_next_round_goes_on_from_the_model_before(world: Any) -> None:
    import hospital

    from federation.models import GlobalModel, Round
    from federation.services.base_model import base_now

    propose(world, strategy="fedavgm")
    with world.at("a"):
        base = base_now()
        from federation.models import Contribution

        before = Contribution.objects.get(purpose="counts").patients
        hospital.admit_all({"SYN:0001": 2})
    asked = dataclasses.replace(hospital.member(), base_sha256=base.members[0].sha256)
    propose(world, strategy="fedavgm", members=(asked,), previous_round=base.previous_round)
    made = []
    for name in world.names:
        report = world.report(name)
        assert (report["state"], report["alarm"], report["refusals"]) == ("published", "", []), report
        with world.at(name):
            made.append(GlobalModel.objects.get(number=2).members)
    assert made[0] == made[1] == made[2]
    with world.at("a"):
        # Two newcomers are fewer than k: the same patients stand in the second count.
        second = Contribution.objects.get(purpose="counts", round=Round.objects.get(number=2))
        assert second.patients == before


def test_a_patient_who_withdraws_before_masking_is_in_no_update(world: Any, monkeypatch: Any) -> None:
    """The input is ready and not masked yet; it is made again, without the patient and the syndrome."""
    import hospital
    import light

    from diagnosis.models import Patient
    from federation import tasks
    from federation.models import Contribution, OwnSum

    gone: list[int] = []

    def prepare_and_withdraw(lease: Any) -> None:
        tasks._prepare(lease)
        total = OwnSum.objects.get(pk=lease.subject).sum
        if world.current == "a" and total.purpose == "update" and not gone:
            patient = Contribution.objects.get(purpose="counts").patients["SYN:0002"][0]
            hospital.sign(Patient.objects.get(pk=patient), ("analysis", "gallery"))
            gone.append(patient)

    monkeypatch.setitem(light.WORK, "federation_prepare", prepare_and_withdraw)
    propose(world)
    report = world.report("a")
    assert gone and (report["state"], report["sites"]["a"]) == ("published", "done"), report
    with world.at("a"):
        counts, update, centroids = (
            Contribution.objects.get(purpose=purpose).patients
            for purpose in ("counts", "update", "centroids")
        )
        assert gone[0] in counts["SYN:0002"]
        assert "SYN:0002" not in update and update["SYN:0001"] == counts["SYN:0001"]
        assert centroids == {"SYN:0001": counts["SYN:0001"]}
