"""Reads. The five functions for_… are the only doors to patients' photos, one per consent tier; each reads
consent in the very query, so a withdrawal counts from its commit on.
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from diagnosis.models import (
    AuditEvent,
    Case,
    Consent,
    Diagnosis,
    Embedding,
    Extractor,
    LedgerEntry,
    Patient,
    Photo,
    RankingRecord,
    Tier,
    User,
    Verdict,
    patients_allowing,
)
from diagnosis.permissions import visible_to

# --- photos, one door per tier ---


def _allowed(tier: str) -> QuerySet[Photo]:
    return Photo.objects.filter(patient__in=patients_allowing(tier).values("pk"))


def for_analysis() -> QuerySet[Photo]:
    """Photos that may be analysed and shown to their team."""
    return _allowed(Tier.ANALYSIS)


def for_gallery() -> QuerySet[Photo]:
    """Analysed photos of patients with a standing diagnosis who agreed to stand in this gallery."""
    standing = Diagnosis.objects.filter(patient=OuterRef("patient"), retracted_at__isnull=True)
    return _allowed(Tier.GALLERY).filter(Exists(standing), state="ready")


def for_training() -> QuerySet[Photo]:
    """Photos with a standing diagnosis that may train the shared model (tier 3).

    DUO's "no methods research" blocks this tier by a constraint of the Consent table itself.
    """
    standing = Diagnosis.objects.filter(patient=OuterRef("patient"), retracted_at__isnull=True)
    return _allowed(Tier.TRAINING).filter(Exists(standing), state="ready")


def for_comparison() -> QuerySet[Photo]:
    """Analysed photos that other hospitals' cases may be compared with, masked."""
    return _allowed(Tier.COMPARISON).filter(state="ready")


def for_matching() -> QuerySet[Photo]:
    """Analysed photos that may take part in look-alike matching and lead to contact."""
    return _allowed(Tier.MATCHING).filter(state="ready")


BY_TIER = {
    Tier.ANALYSIS: for_analysis,
    Tier.GALLERY: for_gallery,
    Tier.TRAINING: for_training,
    Tier.COMPARISON: for_comparison,
    Tier.MATCHING: for_matching,
}

# --- consent ---


def consent_now(patient: Patient) -> Consent | None:
    """The consent row that holds at this moment, or None before the first signature."""
    return Consent.objects.filter(patient=patient).select_related("form").order_by("-id").first()


def consent_history(patient: Patient) -> QuerySet[Consent]:
    """Every signature of a patient, newest first."""
    return Consent.objects.filter(patient=patient).select_related("form", "recorded_by").order_by("-id")


def ledger_of(patient: Patient) -> QuerySet[LedgerEntry]:
    """What a patient's photos were used for, newest first."""
    return LedgerEntry.objects.filter(patient=patient).order_by("-id")


# --- cases ---


def case_list(user: User, *, state: str = "", search: str = "") -> QuerySet[Case]:
    """Cases that `user` may see, newest change first, with patient and photos at hand."""
    cases = visible_to(user, Case.objects.all()).select_related("patient", "team")
    if state:
        cases = cases.filter(state=state)
    if search:
        cases = cases.filter(Q(patient__code__icontains=search) | Q(note__icontains=search))
    return cases.order_by("-changed_at", "-id")


def ranking_latest(case: Case, *, source: str = "local") -> RankingRecord | None:
    """The newest ranking of a case, or None."""
    records = RankingRecord.objects.filter(case=case, source=source)
    return records.select_related("extractor", "gallery").order_by("-id").first()


def verdicts_standing(case: Case, user: User) -> dict[int, str]:
    """This user's newest answer per syndrome primary key."""
    rows = Verdict.objects.filter(case=case, user=user).order_by("id").values_list("syndrome_id", "answer")
    return dict(rows)


# --- the model in use ---


def extractor_adopted() -> Extractor | None:
    """The extractor in use, or None on a site that has none yet."""
    return Extractor.objects.filter(state="adopted").prefetch_related("members").first()


def gallery_embeddings(extractor: Extractor) -> QuerySet[Embedding]:
    """Embeddings of all photos that may stand in the gallery now, in a stable order."""
    return (
        Embedding.objects.filter(extractor=extractor, photo__in=for_gallery().values("pk"))
        .select_related("photo__patient")
        .order_by("photo_id")
    )


def extractors() -> QuerySet[Extractor]:
    """All extractors on this site, the adopted one first, then newest first."""
    return Extractor.objects.prefetch_related("members").order_by("state", "-installed_at")


# --- administration ---


def users_with_roles() -> QuerySet[User]:
    """All accounts with grants and teams at hand, active ones first."""
    return User.objects.prefetch_related("grants", "teams", "authenticator_set").order_by(
        "-is_active", "username"
    )


def audit_events(*, action: str = "", actor: str = "", subject: str = "") -> QuerySet[AuditEvent]:
    """The audit chain, newest first, filtered by what the fields contain."""
    events = AuditEvent.objects.order_by("-id")
    for field, value in (("action", action), ("actor_label", actor), ("subject", subject)):
        if value:
            events = events.filter(**{f"{field}__icontains": value})
    return events
