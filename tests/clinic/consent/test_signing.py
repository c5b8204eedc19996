"""Signing, changing, narrowing: rows, states, ledger, outbox, and what is refused."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from PIL import Image, ImageDraw

from diagnosis import consent_forms
from diagnosis.consent_forms.signature import signature_checked
from diagnosis.errors import InvalidInput, NotAllowed
from diagnosis.models import (
    AuditEvent,
    Consent,
    ConsentForm,
    EvidenceChanged,
    LedgerEntry,
    OutboxEvent,
    Patient,
    Tier,
)  # fmt: skip
from diagnosis.selectors import consent_now, for_gallery, for_training
from diagnosis.services import consent, ledger

ALL = {tier.value for tier in Tier}


def drawing(size: tuple[int, int] = (600, 200), ink: bool = True, mode: str = "RGBA") -> bytes:
    image = Image.new(mode, size)
    if ink:
        ImageDraw.Draw(image).line(
            [(20, 20), (300, 150), (500, 40)], fill=(0, 0, 40, 255)[: len(mode)], width=5
        )
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_first_signature(register: Any, agree: Any) -> None:
    patient = register()
    row = agree(patient, {"analysis", "gallery"}, signature=drawing())
    patient.refresh_from_db()
    assert (patient.state, row.kind) == ("given", "given")
    assert consent.tiers_of(consent_now(patient)) == {"analysis", "gallery"}
    assert row.form.sha256 == consent_forms.text_sha256(row.form.text)
    assert consent.signature_of(row)["method"] == "drawn"
    assert ledger.code_of(patient) and patient.ledger_code_hash and patient.birth_hash
    assert [entry.kind for entry in LedgerEntry.objects.filter(patient=patient)] == ["consent.given"]
    event = OutboxEvent.objects.get(kind="consent.changed")
    assert event.detail["after"] == ["analysis", "gallery"] and event.detail["before"] == []
    assert AuditEvent.objects.filter(action="consent.given", subject=f"patient:{patient.pk}").exists()


def test_names_and_drawings_are_sealed(register: Any, agree: Any) -> None:
    row = agree(register(), signature=drawing())
    stored = repr(list(Consent.objects.values().exclude(pk=0))) + repr(list(LedgerEntry.objects.values()))
    assert "Canari" not in stored and b"Canari" not in bytes(row.sealed)
    assert "Canari" not in repr(list(AuditEvent.objects.values())) + repr(list(OutboxEvent.objects.values()))


def test_narrowing_one_choice_counts_at_once(
    register: Any, agree: Any, make_photo: Any, diagnose: Any
) -> None:
    patient = register()
    agree(patient, ALL)
    photo = make_photo(patient)
    diagnose(patient)
    assert for_gallery().filter(pk=photo.pk).exists() and for_training().filter(pk=photo.pk).exists()
    row = consent.consent_narrow(user=None, patient=patient, tier="gallery")
    assert row.kind == "changed" and consent.tiers_of(row) == ALL - {"gallery"}
    assert not for_gallery().filter(pk=photo.pk).exists() and for_training().filter(pk=photo.pk).exists()
    kinds = list(LedgerEntry.objects.filter(patient=patient).order_by("id").values_list("kind", flat=True))
    assert kinds == ["consent.given", "consent.changed", "gallery.left"]
    assert OutboxEvent.objects.filter(kind="gallery.changed").exists()
    assert ledger.code_of(Patient.objects.get(pk=patient.pk)) == ledger.code_of(patient) != ""
    with pytest.raises(InvalidInput):
        consent.consent_narrow(user=None, patient=patient, tier="gallery")


def test_no_methods_research_blocks_training(register: Any, agree: Any) -> None:
    patient = register()
    with pytest.raises(InvalidInput):
        agree(patient, {"analysis", "training"}, no_methods_research=True)
    row = agree(patient, {"analysis"}, no_methods_research=True)
    assert "DUO:0000015" in row.duo
    with pytest.raises(IntegrityError), transaction.atomic():
        Consent.objects.create(
            patient=patient, form=row.form, kind="changed", analysis=True, training=True,
            no_methods_research=True, signer="self", language="en", signed_at=row.signed_at,
        )  # fmt: skip


REFUSED: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "nothing without analysis": (InvalidInput, {"tiers": {"gallery"}}),
    "nothing at all": (InvalidInput, {"tiers": set()}),
    "no name": (InvalidInput, {"signer_name": "  "}),
    "a name too long": (InvalidInput, {"signer_name": "x" * 121}),
    "unknown tier": (ValueError, {"tiers": {"analysis", "everything"}}),
    "an adult's parent": (InvalidInput, {"signer": "parent"}),
    "not a picture": (InvalidInput, {"signature": b"GIF89a"}),
    "an empty drawing": (InvalidInput, {"signature": drawing(ink=False)}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_change_nothing(register: Any, agree: Any, name: str) -> None:
    patient = register()
    error, change = REFUSED[name]
    audited = AuditEvent.objects.count()
    with pytest.raises(error):
        agree(patient, **change)
    patient.refresh_from_db()
    assert patient.state == "none" and not patient.ledger_code_hash
    assert (
        not Consent.objects.exists() and not LedgerEntry.objects.exists() and not OutboxEvent.objects.exists()
    )
    assert AuditEvent.objects.count() == audited


def test_the_text_must_be_written_for_who_signs(register: Any, agree: Any) -> None:
    child = register(date_of_birth=dt.date(dt.date.today().year - 5, 1, 1))
    with pytest.raises(InvalidInput, match="Under 18"):
        agree(child)
    with pytest.raises(InvalidInput, match="somebody else"):
        agree(child, signer="parent")
    row = agree(child, signer="guardian", form=consent.form_current("de", "guardian"), language="de")
    assert row.form.text["variant"] == "parent" and row.form.language == "de"


def test_strangers_may_not_take_consent(register: Any, agree: Any, make_user: Any, team: Any) -> None:
    patient = register()
    for user in (make_user(roles={"geneticist"}), make_user(roles={"site_admin"}, team=team)):
        with pytest.raises(NotAllowed):
            agree(patient, user=user)
    assert not Consent.objects.exists()


def test_no_at_a_later_signature_is_a_withdrawal(register: Any, agree: Any) -> None:
    patient = register()
    agree(patient)
    assert agree(patient, set()).kind == "withdrawn"
    patient.refresh_from_db()
    assert patient.state == "withdrawn"


def test_evidence_cannot_be_edited_or_deleted(register: Any, agree: Any) -> None:
    patient = register()
    row = agree(patient)
    row.gallery = True
    for model in (Consent, ConsentForm, LedgerEntry, AuditEvent):
        one = model.objects.order_by("pk").first()
        for attempt in (one.save, one.delete, model.objects.all().delete,
                        lambda model=model: model.objects.update(pk=1)):  # fmt: skip
            with pytest.raises(EvidenceChanged):
                attempt()
    with pytest.raises(EvidenceChanged):
        row.save()


def test_forms_are_stored_once_per_text(db: None) -> None:
    first, again = consent.form_current("en"), consent.form_current("en")
    assert first.pk == again.pk and consent.form_current("xx").language == "en"
    assert consent.form_current("de", "parent").pk == consent.form_current("de", "guardian").pk
    assert ConsentForm.objects.count() == 2


@pytest.mark.parametrize("data", [
    b"", b"\x89PNG\r\n\x1a\n", drawing()[:100], drawing((2401, 10)), drawing() + b"x" * 300_000,
    drawing(ink=False), b"\x89PNG\r\n\x1a\n" + b"<script>" * 10,
], ids=["empty", "head only", "truncated", "too wide", "too heavy", "no ink", "not an image"])  # fmt: skip
def test_bad_drawings_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        signature_checked(data)


def test_a_drawing_is_drawn_anew_without_passengers() -> None:
    from PIL.PngImagePlugin import PngInfo

    stream, notes = io.BytesIO(), PngInfo()
    notes.add_text("Comment", "a passenger")
    Image.open(io.BytesIO(drawing())).save(stream, "PNG", pnginfo=notes)
    clean = signature_checked(stream.getvalue())
    assert b"passenger" in stream.getvalue() and b"passenger" not in clean
    assert Image.open(io.BytesIO(clean)).size == (600, 200)
