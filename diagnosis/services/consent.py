"""Consent as evidence: signing, changing, narrowing, withdrawing, and the one-time link to the form.

A choice is a new Consent row; what counts is the newest one. The doors (tablet, link, ledger) let a
patient in without an account, so `user` may be None there; staff are checked here.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from diagnosis import consent_forms, outbox, vault
from diagnosis.consent_forms.signature import signature_checked
from diagnosis.errors import InvalidInput
from diagnosis.models import Consent, ConsentForm, ConsentKind, IntakeLink, Patient, Signer, Tier, User
from diagnosis.permissions import require
from diagnosis.selectors import consent_now, for_gallery
from diagnosis.services import ledger
from diagnosis.services.audit import audit
from diagnosis.services.erasure import patient_erase, patient_hold_all
from diagnosis.services.intake_links import LinkRefused, link_check, link_create, link_find, link_use
from diagnosis.services.journal import Chosen, chosen_append
from diagnosis.services.people import signers_possible
from diagnosis.services.transitions import move

__all__ = [
    "LinkRefused", "consent_decline", "consent_narrow", "consent_sign", "consent_withdraw", "form_current",
    "link_check", "link_create", "link_find", "narrowing_replay", "signature_of", "tiers_of",
    "withdrawal_replay",
]  # fmt: skip

PURPOSE: Final = "consent"
NAME_LENGTH: Final = 120


# --- forms -----------------------------------------------------------------------------------------


def form_current(language: str, signer: str = Signer.SELF) -> ConsentForm:
    """The form in force in `language` as written for `signer`, stored with its hash on first use."""
    text = consent_forms.form_text(language, signer)
    form, _new = ConsentForm.objects.get_or_create(
        version=text["version"], language=text["language"], sha256=consent_forms.text_sha256(text),
        defaults={"text": text},
    )  # fmt: skip
    return form


def tiers_of(consent: Consent | None) -> frozenset[str]:
    """The tiers a consent row opts in to."""
    if consent is None:
        return frozenset()
    return frozenset(tier.value for tier in Tier if getattr(consent, tier.value))


def _lock(patient: Patient) -> None:
    """Hold the patient's row until the transaction ends; the caller's instance is as the row is then."""
    patient.refresh_from_db(from_queryset=Patient.objects.select_for_update())


# --- signing ---------------------------------------------------------------------------------------


def consent_sign(
    *,
    user: User | None,
    patient: Patient,
    form: ConsentForm,
    tiers: set[str],
    signer: str,
    signer_name: str,
    no_methods_research: bool = False,
    signature: bytes | None,
    language: str,
    link: IntakeLink | None = None,
) -> Consent:
    """Record a signature and its five choices; what they narrow ends with this transaction.

    `signature` is a drawn one as PNG bytes, or None when the typed name is the signature. Without the
    analysis tier a standing consent is withdrawn. Raises InvalidInput, LinkRefused or NotAllowed.
    """
    if user is not None:
        require(user, "consent.take", patient)
    name = _name_checked(signer_name)
    tiers = {str(Tier(tier)) for tier in tiers}
    _choices_check(tiers, no_methods_research)
    drawn = signature_checked(signature) if signature else None
    with transaction.atomic():
        _lock(patient)
        _signer_check(patient, form, signer)
        if link is not None:
            link_use(link, patient)
        if not tiers:
            return _signed_no(user, patient, signer, name)
        sealed = _sealed(patient, name, drawn, "drawn" if drawn else "typed")
        return _recorded(
            user=user, patient=patient, form=form, tiers=frozenset(tiers), signer=signer,
            no_methods_research=no_methods_research, sealed=sealed, language=language,
        )  # fmt: skip


def _signed_no(user: User | None, patient: Patient, signer: str, name: str) -> Consent:
    if patient.state != "given":
        raise InvalidInput(_("Nothing was agreed to, so there is nothing to sign."))
    return consent_withdraw(user=user, patient=patient, signer=signer, signer_name=name)


def _recorded(
    *, user: User | None, patient: Patient, form: ConsentForm, tiers: frozenset[str], signer: str,
    no_methods_research: bool, sealed: bytes, language: str,
) -> Consent:  # fmt: skip
    """Write the row and everything that follows from it. The caller holds the patient's lock."""
    before, shown_before = tiers_of(consent_now(patient)), _in_gallery(patient)
    kind = ConsentKind.CHANGED if patient.state == "given" else ConsentKind.GIVEN
    choices: dict[str, Any] = {tier.value: tier.value in tiers for tier in Tier}
    consent = Consent.objects.create(
        patient=patient, form=form, kind=kind, signer=signer, language=language, sealed=sealed,
        no_methods_research=no_methods_research, recorded_by=user, signed_at=timezone.now(), **choices,
        duo=consent_forms.duo_codes(tiers, no_methods_research=no_methods_research),
    )  # fmt: skip
    move(patient, "signed", actor=user)
    if not patient.ledger_code_hash:
        ledger.code_issue(patient)
    ledger.ledger_note(patient=patient, kind=f"consent.{kind}", consent=consent.pk, tiers=sorted(tiers))
    _gallery_follow(patient, shown_before)
    audit(actor=user, action=f"consent.{kind}", subject=f"patient:{patient.pk}", consent=consent.pk,
          tiers=sorted(tiers), form=form.sha256)  # fmt: skip
    outbox.publish("consent.changed", f"patient:{patient.pk}", patient=patient.pk, consent=consent.pk,
                   before=sorted(before), after=sorted(tiers))  # fmt: skip
    _journal(patient, tiers, consent.signed_at)
    return consent


def _name_checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > NAME_LENGTH:
        raise InvalidInput(_("Enter the full name of the person who signs, at most 120 letters."))
    return name


def _choices_check(tiers: set[str], no_methods_research: bool) -> None:
    if tiers and Tier.ANALYSIS not in tiers:
        raise InvalidInput(_("Without analysis here, nothing else can be agreed to."))
    if no_methods_research and Tier.TRAINING in tiers:
        raise InvalidInput(_("“No methods research” and training exclude each other. Choose one."))


def _signer_check(patient: Patient, form: ConsentForm, signer: str) -> None:
    """The text must be the one written for this signer, and the signer one that this age allows."""
    if not vault.has_key(patient.key):
        raise InvalidInput(_("This patient's data were erased. Register the person again under a new code."))
    if form.text.get("variant") != consent_forms.VARIANT_OF_SIGNER[Signer(signer).value]:
        raise InvalidInput(_("This form was written for somebody else to sign. Start the form again."))
    if signer not in signers_possible(patient):
        raise InvalidInput(
            _("Under 18 a parent or guardian signs; from 18 on the patient, or a legal representative.")
        )


def _sealed(patient: Patient, name: str, drawn: bytes | None, method: str) -> bytes:
    image = base64.b64encode(drawn).decode() if drawn else ""
    body = json.dumps({"name": name, "method": method, "signature": image}).encode()
    return vault.seal(patient.key, body, purpose=PURPOSE)


def signature_of(consent: Consent) -> dict[str, str]:
    """{name, method, signature (base64 PNG or "")} of a consent row; Unreadable once erased."""
    body = vault.unseal(consent.patient.key, bytes(consent.sealed or b""), purpose=PURPOSE)
    opened: dict[str, str] = json.loads(body)
    return opened


def _in_gallery(patient: Patient) -> int:
    return for_gallery().filter(patient=patient).count()


def _gallery_follow(patient: Patient, before: int) -> None:
    """Tell the ledger and other rooms when photos entered or left the gallery by a choice."""
    now = _in_gallery(patient)
    if bool(now) == bool(before):
        return
    ledger.ledger_note(patient=patient, kind="gallery.entered" if now else "gallery.left")
    outbox.publish("gallery.changed", f"patient:{patient.pk}", reason="consent")


def _journal(patient: Patient, tiers: frozenset[str], at: dt.datetime) -> None:
    chosen = Chosen(patient.key, tiers, at)
    transaction.on_commit(lambda: chosen_append(chosen), robust=True)


# --- less than before ------------------------------------------------------------------------------


def consent_narrow(*, user: User | None, patient: Patient, tier: str) -> Consent:
    """Take back one choice, as simply as one click. Taking back analysis is a withdrawal."""
    if user is not None:
        require(user, "consent.withdraw", patient)
    with transaction.atomic():
        _lock(patient)
        last = consent_now(patient)
        if last is None or patient.state != "given" or tier not in tiers_of(last):
            raise InvalidInput(_("This was not agreed to, so there is nothing to take back."))
        if tier == Tier.ANALYSIS:
            return consent_withdraw(user=user, patient=patient, signer=last.signer)
        return _narrowed(user, patient, last, tiers_of(last) - {tier})


def _narrowed(user: User | None, patient: Patient, last: Consent, tiers: frozenset[str]) -> Consent:
    name = signature_of(last)["name"] if last.sealed else ""
    return _recorded(
        user=user, patient=patient, form=last.form, tiers=tiers, signer=last.signer,
        no_methods_research=last.no_methods_research, sealed=_sealed(patient, name, None, "ledger"),
        language=last.language,
    )  # fmt: skip


def consent_withdraw(*, user: User | None, patient: Patient, signer: str, signer_name: str = "") -> Consent:
    """Withdraw everything: photos, embeddings, rankings and identity are erased with this transaction.

    Keys and files follow right after the commit. Withdrawing twice is one withdrawal. The name of who
    withdraws is not kept: the key it would be sealed under is destroyed.
    """
    if user is not None:
        require(user, "consent.withdraw", patient)
    with transaction.atomic():
        _lock(patient)
        last = consent_now(patient)
        if last is None:
            raise InvalidInput(_("Nothing was signed for this patient, so there is nothing to withdraw."))
        if patient.state == "withdrawn":
            return last
        return _withdrawn(user, patient, last, Signer(signer).value, "withdrawn")


def _withdrawn(user: User | None, patient: Patient, last: Consent, signer: str, reason: str) -> Consent:
    patient_hold_all(patient)
    photos = list(patient.photos.order_by("pk").values_list("pk", flat=True))
    consent = Consent.objects.create(
        patient=patient, form=last.form, kind=ConsentKind.WITHDRAWN, signer=signer, language=last.language,
        recorded_by=user, signed_at=timezone.now(),
    )  # fmt: skip
    if patient.state != "withdrawn":
        move(patient, "withdrawn", actor=user)
    ledger.ledger_note(patient=patient, kind="consent.withdrawn", consent=consent.pk)
    audit(actor=user, action="consent.withdrawn", subject=f"patient:{patient.pk}", consent=consent.pk)
    outbox.publish("consent.withdrawn", f"patient:{patient.pk}", patient=patient.pk, photos=photos)
    if photos:
        outbox.publish("gallery.changed", f"patient:{patient.pk}", reason="withdrawn")
    patient_erase(patient=patient, reason=reason, actor=user)
    _journal(patient, frozenset(), consent.signed_at)
    return consent


def consent_decline(
    *, user: User | None, patient: Patient, signer: str, link: IntakeLink | None = None
) -> None:
    """Record a no to everything: nothing is signed; what stood before is withdrawn."""
    if user is not None:
        require(user, "consent.take", patient)
    with transaction.atomic():
        _lock(patient)
        if link is not None:
            link_use(link, patient)
        if patient.state == "given":
            consent_withdraw(user=user, patient=patient, signer=signer)
        else:
            audit(actor=user, action="consent.declined", subject=f"patient:{patient.pk}")


# --- after a restore -------------------------------------------------------------------------------


def withdrawal_replay(*, patient: Patient) -> None:
    """Withdraw again a patient whom a restored backup brought back; the key is gone already."""
    with transaction.atomic():
        _lock(patient)
        last = consent_now(patient)
        if last is None:
            patient_erase(patient=patient, reason="replayed")
        else:
            _withdrawn(None, patient, last, last.signer, "replayed")


def narrowing_replay(*, patient: Patient, chosen: Chosen) -> bool:
    """Take back what a restored backup would allow again; True when something was taken back."""
    with transaction.atomic():
        _lock(patient)
        last = consent_now(patient)
        if last is None or patient.state != "given" or last.signed_at >= chosen.at:
            return False
        if tiers_of(last) <= chosen.tiers:
            return False
        _narrowed(None, patient, last, tiers_of(last) & chosen.tiers)
        return True
