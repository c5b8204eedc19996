"""The model registry: what is installed is checked, one is in use, and going back is possible."""

from __future__ import annotations

import json
from io import StringIO

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command

from diagnosis import engine
from diagnosis.errors import Duplicate, InvalidInput, NotAllowed, NotReady
from diagnosis.models import AuditEvent, Embedding, Extractor, Job, OutboxEvent, RankingRecord
from diagnosis.phenotype.embed.backbone import build_backbone
from diagnosis.phenotype.embed.weights import save_weights
from diagnosis.services.model import (
    MemberFile,
    embedding_progress,
    extractor_adopt,
    extractor_install_shipped,
    extractor_roll_back,
)
from diagnosis.services.photo import photo_add


@pytest.fixture
def other_file(tmp_path):
    torch.manual_seed(99)
    path = tmp_path / "other.safetensors"
    save_weights(build_backbone("compact"), path)
    return path


def test_installing_copies_checked_weights_under_their_hash(install, site_home, compact_file) -> None:
    extractor = install()
    member = extractor.members.get()
    copied = site_home / "models" / f"{member.sha256}.safetensors"
    assert copied.read_bytes() == compact_file.read_bytes() and oct(copied.stat().st_mode)[-3:] == "600"
    assert (extractor.state, member.architecture) == ("installed", "compact")
    assert extractor.facts["members"][0]["source_name"] == "compact.safetensors"
    with pytest.raises(Duplicate):
        install(name="again")
    assert install(name="without grey", grey=False).sha256 != extractor.sha256


def test_what_is_refused_leaves_no_row(install, tmp_path, compact_file) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(compact_file.read_bytes()[:-100])
    for member in (
        MemberFile("x", broken),
        MemberFile("x", tmp_path / "absent.onnx"),
        MemberFile("x", compact_file, sha256="0" * 64),
        MemberFile("x", compact_file, architecture="iresnet50"),
    ):
        with pytest.raises(InvalidInput):
            install(members=[member])
    with pytest.raises(InvalidInput, match="each with a name of its own"):
        install(members=[MemberFile("x", compact_file), MemberFile("x", compact_file)])
    assert not Extractor.objects.exists()


def test_adopting_embeds_every_photo_again_and_old_rankings_name_their_model(
    make_user, make_patient, make_case, team, extractor, install, other_file, photo_bytes, run_jobs
) -> None:
    user, patient = make_user(team=team), make_patient(tiers={"analysis"})
    case = make_case(patient)
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    newer = install(name="newer", members=[MemberFile("compact", other_file)])
    extractor_adopt(user=None, extractor=newer)
    assert embedding_progress(newer) == (0, 1)
    assert Job.objects.filter(kind="reembed_photo", state="queued").count() == 1
    run_jobs()
    extractor.refresh_from_db()
    assert (extractor.state, newer.state, embedding_progress(newer)) == ("retired", "adopted", (1, 1))
    records = list(RankingRecord.objects.order_by("id").values_list("extractor", flat=True))
    assert records == [extractor.pk, newer.pk]
    old, new = (engine.open_rows(Embedding.objects.get(photo=photo, extractor=e)) for e in (extractor, newer))
    assert not np.allclose(old, new)
    assert OutboxEvent.objects.filter(kind="model.adopted").count() == 2

    extractor_roll_back(user=None)
    extractor.refresh_from_db(), newer.refresh_from_db()
    assert (extractor.state, newer.state) == ("adopted", "retired")
    assert embedding_progress(extractor) == (1, 1), "its embeddings were kept, nothing is to be done"


def test_reembedding_gives_what_a_new_analysis_would(
    make_user, make_patient, make_case, team, extractor, install, other_file, photo_bytes, run_jobs
) -> None:
    """The stored crop is without loss, so the short way and the long way end in the same rows."""
    user = make_user(team=team)
    photo = photo_add(user=user, case=make_case(make_patient()), data=photo_bytes())
    run_jobs()
    newer = extractor_adopt(user=None, extractor=install(members=[MemberFile("compact", other_file)]))
    run_jobs()
    short = engine.open_rows(Embedding.objects.get(photo=photo, extractor=newer))
    from diagnosis.services.photo import photo_correct

    photo.refresh_from_db()
    photo_correct(user=user, photo=photo)
    run_jobs()
    long = engine.open_rows(Embedding.objects.get(photo=photo, extractor=newer))
    assert np.array_equal(short, long)


def test_a_model_whose_file_is_gone_is_not_adopted(install, site_home) -> None:
    extractor = install()
    engine.forget()
    for path in (site_home / "models").iterdir():
        path.unlink()
    with pytest.raises(NotReady, match="not on this site"):
        extractor_adopt(user=None, extractor=extractor)
    assert not Extractor.objects.filter(state="adopted").exists()


def test_only_site_admins_with_a_second_factor_manage_models(make_user, install, extractor) -> None:
    for user in (make_user(), make_user(roles=("site_admin",)), make_user(roles=("auditor",))):
        with pytest.raises(NotAllowed):
            install(user=user, grey=False)
        with pytest.raises(NotAllowed):
            extractor_roll_back(user=user)
    admin = make_user(roles=("site_admin",), second_factor=True)
    assert install(user=admin, grey=False).installed_by == admin
    assert AuditEvent.objects.filter(action="model.installed", actor=admin).count() == 1
    with pytest.raises(NotReady, match="before this one"):
        extractor_roll_back(user=admin)


# --- the command -----------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("install_weights", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_installs_one_network_or_an_ensemble(db, compact_file, other_file) -> None:
    assert "installed" in run(str(compact_file), "--name", "one", "--synthetic")
    text = run(
        "--member", f"a={compact_file}:compact", "--member", f"b={other_file}", "--adopt", "--name", "two"
    )
    assert "two: adopted" in text
    two = Extractor.objects.get(name="two")
    assert [(m.name, m.architecture) for m in two.members.all()] == [("a", "compact"), ("b", "compact")]
    assert len(engine.spec_of(two).rows) == 8


def test_the_command_checks_the_publishers_hash(db, compact_file) -> None:
    import hashlib

    good = hashlib.sha256(compact_file.read_bytes()).hexdigest()
    with pytest.raises(CommandError, match="was promised") as refused:
        run(str(compact_file), "--sha256", "0" * 64)
    assert refused.value.returncode == 2 and not Extractor.objects.exists()
    run("--member", f"a={compact_file}", "--sha256", f"a={good}")


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--member", "a=b"], ["--member", "nonsense"], ["--member", "a=b", "--member", "a=c"],
     ["--member", "a=b", "--sha256", "z=00"]],
)  # fmt: skip
def test_the_command_says_how_it_is_written(db, arguments) -> None:
    with pytest.raises(CommandError, match="--member|of its own"):
        run(*arguments)


def test_a_pickle_is_refused_without_being_run(db, tmp_path) -> None:
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    trap = tmp_path / "trap.pth"
    trap.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CommandError, match="would run code"):
        run(str(trap))
    assert not (tmp_path / "sprung").exists()


# --- what ships ------------------------------------------------------------------------------------


@pytest.fixture
def shipped_folder(tmp_path, compact_file, make_calibration, monkeypatch):
    """Files as they ship (weights, card, calibration), of the network with seeded weights."""
    import hashlib

    from safetensors.numpy import save_file

    from diagnosis.phenotype.embed import default

    data = compact_file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    weights = tmp_path / "ships" / f"compact-{digest[:12]}.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(data)
    card = {
        "architecture": "compact", "sha256": digest, "synthetic": True, "origin": "a test", "licence": "none",
        "notice": "for tests",
    }  # fmt: skip
    weights.with_suffix(".json").write_text(json.dumps(card))

    def calibrate(**cuts: float) -> None:
        made = make_calibration(default.extractor_at(weights).spec.sha256, confident=True, **cuts)
        arrays, facts = made.to_arrays()
        save_file(dict(arrays), weights.with_suffix(".calibration.safetensors"))
        weights.with_suffix(".calibration.json").write_text(json.dumps(facts))

    calibrate()
    monkeypatch.setattr(default, "shipped_extractor", lambda: default.extractor_at(weights))
    return calibrate


def test_what_ships_is_installed_once_calibrated_and_adopted(db, shipped_folder, install) -> None:
    found = extractor_install_shipped()
    assert (found.state, found.synthetic, found.licence) == ("adopted", True, "none")
    assert engine.calibration(found).band(0.95) == "Medium"
    assert extractor_install_shipped().pk == found.pk and Extractor.objects.count() == 1
    assert AuditEvent.objects.filter(action="model.calibrated").count() == 0


def test_a_newer_calibration_of_what_ships_is_taken_over(db, shipped_folder) -> None:
    extractor_install_shipped()
    shipped_folder(high=0.5, medium=0.6)
    found = extractor_install_shipped()
    assert engine.calibration(found).band(0.95) == "Low" and Extractor.objects.count() == 1
    assert AuditEvent.objects.filter(action="model.calibrated").count() == 1


def test_what_ships_does_not_push_aside_a_model_that_is_in_use(
    db, shipped_folder, install, other_file
) -> None:
    own = extractor_adopt(user=None, extractor=install(members=[MemberFile("own", other_file)]))
    assert extractor_install_shipped().state == "installed"
    own.refresh_from_db()
    assert own.state == "adopted"


def test_a_damaged_shipped_model_says_so(db, shipped_folder, tmp_path) -> None:
    for path in (tmp_path / "ships").glob("*.calibration.json"):
        path.unlink()
    with pytest.raises(NotReady, match="shipped model"):
        extractor_install_shipped()


def test_the_shipped_files_themselves(db) -> None:
    from diagnosis.phenotype.embed.default import shipped_extractor

    shipped = shipped_extractor()
    found = extractor_install_shipped()
    assert (found.state, found.sha256, found.synthetic) == ("adopted", shipped.spec.sha256, True)
    assert engine.calibration(found) is not None


def test_the_catalogue_comes_from_the_shipped_cohort(db) -> None:
    from diagnosis.models import Syndrome
    from diagnosis.services.catalogue import CatalogueEntry, catalogue_load

    added = catalogue_load()
    assert added >= 30 and catalogue_load() == 0
    assert all(row.synthetic and row.identifier.startswith("SYN:") for row in Syndrome.objects.all())
    assert Syndrome.objects.filter(genes__isnull=True).count() == 0
    entry = CatalogueEntry("OMIM:000001", "A disorder", ("ABC1",), [{"id": "HP:0000316"}])
    assert catalogue_load(entries=[entry]) == 1
    assert catalogue_load(entries=[CatalogueEntry("OMIM:000001", "Renamed", ("ABC2",))]) == 0
    row = Syndrome.objects.get(identifier="OMIM:000001")
    assert (row.name, [gene.symbol for gene in row.genes.all()]) == ("Renamed", ["ABC2"])
    assert json.loads(json.dumps(row.hpo_terms)) == []
