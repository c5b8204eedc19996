"""Photos with everything derived from them, carrying marks that a search can find."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.utils import timezone, translation

GIVEN, FAMILY = "Canarigivena", "Canarifamilia"
PIXELS = np.random.default_rng(7).integers(0, 256, 4096, np.uint8).tobytes()
FLOATS = np.random.default_rng(8).standard_normal((2, 512)).astype(np.float32).tobytes()


@pytest.fixture
def marks() -> Any:
    """The marks that a search looks for."""
    return SimpleNamespace(given=GIVEN, family=FAMILY, pixels=PIXELS, floats=FLOATS)


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """Limits and the language of one test must not reach the next."""
    cache.clear()
    translation.activate("en")
    yield
    translation.activate("en")


@pytest.fixture
def clerk(make_user: Any, team: Any) -> Any:
    return make_user(roles={"intake"}, team=team)


@pytest.fixture
def adult_born() -> dt.date:
    today = timezone.localdate()
    return dt.date(today.year - 30, 5, 17)


@pytest.fixture
def register(clerk: Any, team: Any, adult_born: dt.date) -> Callable[..., Any]:
    """register() → an adult patient, registered by staff, with a marked name."""
    from diagnosis.services.people import patient_register

    def make(**changes: Any) -> Any:
        facts = {
            "user": clerk, "team": team, "given_name": GIVEN, "family_name": FAMILY,
            "date_of_birth": adult_born, "sex": "female",
        }  # fmt: skip
        return patient_register(**(facts | changes))

    return make


@pytest.fixture
def agree(clerk: Any) -> Callable[..., Any]:
    """agree(patient, tiers) → the Consent row, signed through the service."""
    from diagnosis.services.consent import consent_sign, form_current

    def make(patient: Any, tiers: Any = ("analysis",), **changes: Any) -> Any:
        facts = {
            "user": clerk, "patient": patient, "form": form_current("en", "self"), "tiers": set(tiers),
            "signer": "self", "signer_name": f"{GIVEN} {FAMILY}", "signature": None, "language": "en",
        }  # fmt: skip
        return consent_sign(**(facts | changes))

    return make


@pytest.fixture
def extractor(db: None) -> Any:
    from diagnosis.models import Extractor

    return Extractor.objects.create(
        name="marked", sha256="e" * 64, origin="test", licence="test", state="adopted"
    )


@pytest.fixture
def make_photo(extractor: Any, make_case: Any) -> Callable[..., Any]:
    """make_photo(patient) → a ready photo with sealed original, crop and embedding, and a job."""
    from diagnosis import vault
    from diagnosis.models import Embedding, Job, Photo

    def make(patient: Any, case: Any = None) -> Any:
        case = case or patient.cases.first() or make_case(patient)
        photo = Photo(case=case, patient=patient, state="ready")
        vault.create_key(photo.key)
        photo.original = vault.blob_write(photo.key, PIXELS, purpose="original")
        photo.crop = vault.blob_write(photo.key, PIXELS[:1024], purpose="crop")
        photo.fingerprint = photo.key.hex * 2
        photo.save()
        sealed = vault.seal(photo.key, FLOATS, purpose="embedding")
        Embedding.objects.create(photo=photo, extractor=extractor, rows=2, sealed=sealed)
        Job.objects.create(kind="analyse_photo", subject=photo.pk, key=f"analyse_photo:{photo.pk}")
        return photo

    return make


@pytest.fixture
def diagnose(db: None) -> Callable[..., Any]:
    """diagnose(patient) → a standing diagnosis, which the gallery asks for."""
    from diagnosis.models import Diagnosis, Syndrome

    def make(patient: Any) -> Any:
        syndrome, _new = Syndrome.objects.get_or_create(identifier="SYN:1", defaults={"name": "One"})
        return Diagnosis.objects.create(patient=patient, syndrome=syndrome)

    return make


@pytest.fixture
def full_case(make_photo: Any, diagnose: Any, extractor: Any, clerk: Any) -> Callable[..., Any]:
    """full_case(patient) → a case with photos, ranking, verdict, differential, jobs and a diagnosis."""
    from diagnosis.models import Differential, GalleryVersion, Job, RankingRecord, Verdict
    from diagnosis.selectors import consent_now

    def make(patient: Any) -> Any:
        photos = [make_photo(patient), make_photo(patient)]
        case = photos[0].case
        type(case).objects.filter(pk=case.pk).update(note="a note about the patient")
        diagnosis = diagnose(patient)
        gallery, _new = GalleryVersion.objects.get_or_create(
            number=1, defaults={"extractor": extractor, "sha256": "g" * 64, "photos": 2, "patients": 1,
                                "syndromes": 1},
        )  # fmt: skip
        result = {
            "syndromes": [{"rank": 1, "id": "SYN:1", "photos": [photos[0].pk]}],
            "genes": [],
            "patients": [],
        }
        ranking = RankingRecord.objects.create(
            case=case, photos=[photo.pk for photo in photos], extractor=extractor, gallery=gallery,
            consent=consent_now(patient), result=result, match="none",
        )  # fmt: skip
        Verdict.objects.create(
            case=case, ranking=ranking, syndrome=diagnosis.syndrome, answer="agree", user=clerk
        )
        Differential.objects.create(case=case, text="my own idea", user=clerk)
        Job.objects.create(kind="rank_case", subject=case.pk, key=f"rank_case:{case.pk}")
        return case

    return make
