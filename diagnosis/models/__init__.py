"""The clinic's tables. One file per idea; constraints here, workflows in services."""

from diagnosis.models.base import Evidence, EvidenceChanged
from diagnosis.models.case import Answer, Case, Differential, Photo, Verdict
from diagnosis.models.consent import (
    Consent,
    ConsentForm,
    ConsentKind,
    Erasure,
    IntakeLink,
    LedgerEntry,
    Signer,
    Tier,
    patients_allowing,
)
from diagnosis.models.gallery import (
    Diagnosis,
    Embedding,
    Extractor,
    ExtractorMember,
    GalleryVersion,
    Gene,
    Syndrome,
)
from diagnosis.models.people import ApiToken, Patient, Role, RoleGrant, Sex, Team, User
from diagnosis.models.ranking import RankingRecord
from diagnosis.models.work import AuditEvent, Job, OutboxCursor, OutboxEvent

__all__ = [
    "Answer",
    "ApiToken",
    "AuditEvent",
    "Case",
    "Consent",
    "ConsentForm",
    "ConsentKind",
    "Diagnosis",
    "Differential",
    "Embedding",
    "Erasure",
    "Evidence",
    "EvidenceChanged",
    "Extractor",
    "ExtractorMember",
    "GalleryVersion",
    "Gene",
    "IntakeLink",
    "Job",
    "LedgerEntry",
    "OutboxCursor",
    "OutboxEvent",
    "Patient",
    "Photo",
    "RankingRecord",
    "Role",
    "RoleGrant",
    "Sex",
    "Signer",
    "Syndrome",
    "Team",
    "Tier",
    "User",
    "Verdict",
    "patients_allowing",
]
