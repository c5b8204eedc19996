"""Tier × use × before and after withdrawal: no use without its tier, none after a withdrawal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from diagnosis import selectors
from diagnosis.errors import ConsentMissing
from diagnosis.models import Photo, Tier, patients_allowing
from diagnosis.services import consent

TIERS = [tier.value for tier in Tier]
SELECTORS = {tier.value: door for tier, door in selectors.BY_TIER.items()}


def allowed_by_row(tier: str, photo: Photo) -> bool:
    return patients_allowing(tier).filter(pk=photo.patient_id).exists()


def gallery_rows(photo: Photo) -> bool:
    return selectors.gallery_embeddings(photo.embeddings.get().extractor).filter(photo=photo).exists()


USES: dict[str, tuple[str, Callable[[Photo], bool]]] = {
    f"selector {tier}": (tier, lambda photo, door=door: door().filter(pk=photo.pk).exists())
    for tier, door in SELECTORS.items()
} | {
    f"patients {tier}": (tier, partial(allowed_by_row, tier))
    for tier in TIERS
} | {"gallery embeddings": ("gallery", gallery_rows)}  # fmt: skip
COMBINATIONS = [
    frozenset({"analysis", *more}) for size in range(5) for more in itertools.combinations(TIERS[1:], size)
]


@pytest.mark.parametrize("tiers", COMBINATIONS, ids=lambda tiers: "+".join(sorted(tiers)))
def test_each_use_needs_its_tier(
    tiers: frozenset[str], make_patient: Any, make_photo: Any, diagnose: Any, sign: Any
) -> None:
    patient = make_patient(tiers=tiers)
    photo = make_photo(patient)
    diagnose(patient)
    allowed = {name: use(photo) for name, (_tier, use) in USES.items()}
    assert allowed == {name: tier in tiers for name, (tier, _use) in USES.items()}
    sign(patient, set())  # the row alone already ends every use, before anything is erased
    assert not any(use(photo) for _tier, use in USES.values())


def test_nothing_is_allowed_before_the_first_signature(
    make_patient: Any, make_photo: Any, diagnose: Any
) -> None:
    patient = make_patient(tiers=())
    photo = make_photo(patient)
    diagnose(patient)
    assert not any(use(photo) for _tier, use in USES.values())


def test_the_matrix_has_every_tier_and_every_door() -> None:
    assert {tier for tier, _use in USES.values()} == set(TIERS) == set(SELECTORS)
    assert len(COMBINATIONS) == 16


def use_picture(user: Any, photo: Photo) -> object:
    from diagnosis.services.photo import photo_picture

    return photo_picture(user=user, photo=photo, kind="original")


def use_correct(user: Any, photo: Photo) -> object:
    from diagnosis.services.photo import photo_correct

    return photo_correct(user=user, photo=photo, landmarks=[[1.0, 1.0]] * 5)


def use_rank(user: Any, photo: Photo) -> object:
    from diagnosis.services.ranking import case_rank

    return case_rank(case=photo.case)


SERVICES = {"photo_picture": use_picture, "photo_correct": use_correct, "case_rank": use_rank}


def png() -> bytes:
    import io

    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("when", ["never signed", "withdrawn"])
@pytest.mark.parametrize("name", SERVICES)
def test_services_refuse_without_analysis(
    name: str, when: str, make_patient: Any, make_photo: Any, make_user: Any, sign: Any
) -> None:
    patient = make_patient(tiers=() if when == "never signed" else ("analysis",))
    photo = make_photo(patient)
    if when == "withdrawn":
        sign(patient, set())
    user = make_user(roles={"geneticist"}, team=patient.team)
    with pytest.raises(ConsentMissing):
        result = SERVICES[name](user, photo)
        if name == "case_rank" and result is None:  # nothing may be ranked: no list either
            raise ConsentMissing("no list")


@pytest.mark.parametrize("when", ["never signed", "withdrawn"])
def test_no_photo_is_taken_in_without_analysis(
    when: str, make_patient: Any, make_case: Any, make_user: Any, sign: Any
) -> None:
    from diagnosis.services.photo import photo_add

    patient = make_patient(tiers=() if when == "never signed" else ("analysis",))
    case = make_case(patient)
    if when == "withdrawn":
        sign(patient, set())
    user = make_user(roles={"geneticist"}, team=patient.team)
    with pytest.raises(ConsentMissing):
        photo_add(user=user, case=case, data=png())
    assert not Photo.objects.exists()


def test_service_narrowing_each_tier_ends_its_uses(
    register: Any, agree: Any, make_photo: Any, diagnose: Any
) -> None:
    for tier in TIERS[1:]:
        patient = register()
        agree(patient, TIERS)
        photo = make_photo(patient)
        diagnose(patient)
        consent.consent_narrow(user=None, patient=patient, tier=tier)
        for name, (needed, use) in USES.items():
            assert use(photo) == (needed != tier), (tier, name)
