"""What the approval page says before anybody says yes: computed from the plan, true to the letter."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from federation.models import Round


@dataclass(frozen=True)
class InvitedSite:
    """One invited site as the approval page shows it.

    key_confirmed: this site's admin compared its fingerprint (own key: always). answer: "", "approve",
    "decline" or "dropped"; samples: what it said with a yes, rounded up to tens.
    """

    name: str
    title: str
    fingerprint: str
    key_confirmed: bool
    is_own: bool
    is_proposer: bool
    answer: str
    samples: int
    reason: str
    last_seen_at: dt.datetime | None


@dataclass(frozen=True)
class ApprovalFacts:
    """The page's answers in their order; every text is a plain sentence.

    asked: what is asked; settings: (label, value) rows of the plan; leaves, never_leaves, could_learn,
    without_answer: sentences. colluders: (c for all invited, c for the fewest participants).
    update_bytes: (least, most) of all masked updates together; what it is depends on the open syndromes.
    refusal: why this site cannot take part, or "". may_answer: whether the form belongs on the page;
    closed: why not, or "". own_answer: "", "approve", "decline" or "withdrawn". dry_run: the learning room's
    DryRun, or None with dry_run_problem.
    """

    round_number: int
    plan_sha256: str
    plan_text: str
    title: str
    asked: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    proposer: InvitedSite
    leaves: tuple[str, ...]
    never_leaves: tuple[str, ...]
    could_learn: tuple[str, ...]
    without_answer: tuple[str, ...]
    answer_by: dt.datetime
    sites: tuple[InvitedSite, ...]
    unconfirmed: tuple[InvitedSite, ...]
    colluders: tuple[int, int]
    samples: int
    update_bytes: tuple[int, int]
    dry_run: Any
    dry_run_problem: str
    refusal: str
    own_answer: str
    may_answer: bool
    closed: str

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON: what `Approval.shown` keeps."""
        raise NotImplementedError


def approval_facts(round_: Round) -> ApprovalFacts:
    """Everything that the approval page says about a round, as it is now."""
    raise NotImplementedError
