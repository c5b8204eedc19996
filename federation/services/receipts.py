"""The receipt of an answer as a PDF: what was asked, who answered, when, and what left afterwards."""

from __future__ import annotations

from diagnosis.models import User
from federation.models import Approval


def receipt_pdf(*, user: User | None, approval: Approval) -> bytes:
    """The receipt of this hospital's answer to one round, drawn anew from the evidence."""
    raise NotImplementedError
