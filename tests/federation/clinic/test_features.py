"""Cached trunk features: computed once, sealed with the photo, gone with it and with its consent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diagnosis import vault
from diagnosis.errors import Unreadable

MIX = {"SYN:0001": 2, "SYN:0002": 1}


@pytest.fixture
def backbone(hospital):
    return hospital.network()


def photos_of(*patients):
    from diagnosis.models import Photo

    return list(Photo.objects.filter(patient__in=patients).order_by("pk").values_list("pk", flat=True))


@pytest.fixture
def none_computed(monkeypatch):
    """none_computed(): from now on nothing may go through a trunk."""
    import federation.learning.features as learning

    def refuse(*args, **kwargs):
        raise AssertionError("a trunk ran")

    return lambda: monkeypatch.setattr(learning, "compute_features", refuse)


def test_features_are_those_of_the_stored_crops_and_are_computed_once(
    hospital, backbone, none_computed
) -> None:
    from diagnosis import pictures
    from diagnosis.models import Diagnosis, Photo
    from federation.learning.features import ALL_VIEWS, compute_features
    from federation.models import PhotoFeatures
    from federation.services.features import _name, features_missing, features_of

    patients = hospital.admit_all(MIX)
    photos = photos_of(*patients)
    found = features_of(reversed(photos), backbone)
    assert found.keys == tuple(map(str, photos)) and found.views == ALL_VIEWS
    rows = [Photo.objects.get(pk=pk) for pk in photos]
    assert found.patients == tuple(str(photo.patient_id) for photo in rows)
    standing = dict(Diagnosis.objects.values_list("patient_id", "syndrome__identifier"))
    assert found.labels == tuple(standing[photo.patient_id] for photo in rows)
    crops = np.stack(
        [pictures.read_stored(vault.blob_read(p.key, p.crop, purpose="crop")) for p in rows]
    )  # (n, 112, 112, 3)
    names = [_name(photo) for photo in rows]
    expected = compute_features(backbone, crops, keys=names, labels=names, patients=names, seed=0)
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.trunk_sha256 == expected.trunk_sha256 and found.features.dtype == np.float32
    none_computed()
    np.testing.assert_array_equal(features_of(photos, backbone).features, found.features)
    assert PhotoFeatures.objects.count() == len(photos)
    assert features_missing([*photos, 10**6], found.trunk_sha256) == 1
    assert features_missing(photos, "0" * 64) == len(photos)


def test_a_large_trunk_is_kept_in_half_precision(hospital, backbone, monkeypatch) -> None:
    from federation.services import features

    patients = hospital.admit_all({"SYN:0001": 1})
    full = features.features_of(photos_of(*patients), backbone)
    features.PhotoFeatures.objects.all().delete()
    monkeypatch.setattr(features, "HALF_FROM", 1)
    half = features.features_of(photos_of(*patients), backbone)
    assert half.features.dtype == np.float16
    np.testing.assert_allclose(half.features, full.features, rtol=1e-3)


def test_other_landmarks_are_another_crop(hospital, backbone) -> None:
    from diagnosis import pictures
    from diagnosis.models import Photo
    from federation.models import PhotoFeatures
    from federation.services.features import features_of

    (patient,) = hospital.admit_all({"SYN:0001": 1}, photos=1)
    before = features_of(photos_of(patient), backbone)
    photo = Photo.objects.get(patient=patient)
    moved = hospital.crop("SYN:0002", 5)
    vault.blob_write(photo.key, pictures.encode_png(moved), purpose="crop", name=photo.crop)
    Photo.objects.filter(pk=photo.pk).update(landmarks=[[40.0, 51.0], *photo.landmarks[1:]])
    after = features_of([photo.pk], backbone)
    assert not np.array_equal(before.features, after.features)
    assert PhotoFeatures.objects.count() == 1


def test_without_consent_now_there_are_no_features(hospital, backbone, none_computed) -> None:
    from federation.models import PhotoFeatures
    from federation.services.features import features_discard, features_of

    stays, leaves, never = (hospital.admit("SYN:0001", tiers=tiers) for tiers in
                            (hospital.ALL, hospital.ALL, ("analysis", "gallery")))  # fmt: skip
    everybody = photos_of(stays, leaves, never)
    assert set(features_of(everybody, backbone).patients) == {str(stays.pk), str(leaves.pk)}
    hospital.sign(leaves, ("analysis", "gallery"))
    none_computed()
    assert set(features_of(everybody, backbone).patients) == {str(stays.pk)}
    assert PhotoFeatures.objects.filter(photo__patient=leaves).count() == 2
    assert features_discard() == 2 and PhotoFeatures.objects.count() == 2
    assert features_discard() == 0


def test_consent_that_ends_during_the_computation_keeps_nothing(hospital, backbone, monkeypatch) -> None:
    import federation.learning.features as learning
    from federation.models import PhotoFeatures
    from federation.services.features import features_of

    patient = hospital.admit("SYN:0001", photos=1)
    compute = learning.compute_features

    def and_meanwhile(*args, **kwargs):
        found = compute(*args, **kwargs)
        hospital.sign(patient, ("analysis", "gallery"))
        return found

    monkeypatch.setattr(learning, "compute_features", and_meanwhile)
    assert len(features_of(photos_of(patient), backbone)) == 0
    assert not PhotoFeatures.objects.exists()


def test_erasure_takes_the_features_and_touches_nobody_else(
    hospital, backbone, site_home: Path, django_capture_on_commit_callbacks
) -> None:
    from diagnosis.models import Photo
    from diagnosis.services.consent import consent_withdraw
    from federation.models import PhotoFeatures
    from federation.services.features import features_of

    leaves, stays = hospital.admit("SYN:0001"), hospital.admit("SYN:0001")
    photos = photos_of(leaves, stays)
    before = features_of(photos, backbone)
    row = PhotoFeatures.objects.filter(photo__patient=leaves).first()
    sealed, key = bytes(row.sealed), row.photo.key
    assert before.features[0].tobytes()[:32] not in sealed
    assert vault.unseal(key, sealed, purpose=f"features/{row.trunk_sha256}")
    with pytest.raises(Unreadable):
        vault.unseal(key, sealed, purpose="embedding")
    with django_capture_on_commit_callbacks(execute=True):
        consent_withdraw(user=None, patient=leaves, signer="self")
    assert (
        PhotoFeatures.objects.filter(photo__patient=leaves).count()
        == 0
        == Photo.objects.filter(patient=leaves).count()
    )
    with pytest.raises(Unreadable):  # as from a backup's copy of the row
        vault.unseal(key, sealed, purpose=f"features/{row.trunk_sha256}")
    assert set(features_of(photos, backbone).patients) == {str(stays.pk)}
    assert PhotoFeatures.objects.filter(photo__patient=stays).count() == 2
    needle = before.features[0].tobytes()[:64]
    assert not [path for path in site_home.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_a_row_without_its_key_is_skipped_quietly(hospital, backbone) -> None:
    """As after a restore, before the erasures are replayed."""
    from diagnosis.models import Photo
    from federation.services.features import features_of
    from federation.services.population import training_now

    gone, stays = hospital.admit("SYN:0001", photos=1), hospital.admit("SYN:0001", photos=1)
    photos = photos_of(gone, stays)
    features_of(photos, backbone)
    vault.destroy_key(Photo.objects.get(patient=gone).key)
    assert features_of(photos, backbone).patients == (str(stays.pk),)
    assert [entrant.patient for entrant in training_now()] == [stays.pk]
