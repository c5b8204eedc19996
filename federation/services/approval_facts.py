"""What the approval page says before anybody says yes: computed from the plan and this site, as it is now."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from diagnosis.errors import ClinicError
from federation import clock, identity
from federation.models import Approval, Outgoing, Participation, Round
from federation.peer_selectors import keys_confirmed, own_name
from federation.plans import RoundPlan, parse_plan
from federation.secagg import rules
from federation.services import approval_words as words
from federation.services.plan_checks import plan_refusal

_ANSWERS = {"invited": "", "declined": "decline", "dropped": "dropped"}


@dataclass(frozen=True)
class InvitedSite:
    """One invited site as the approval page shows it.

    fingerprint: of the key that the plan names; key_confirmed: this site's admin compared it (own key:
    always). answer: "", "approve", "decline" or "dropped"; samples: what it said with a yes.
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
    refusal: why this site cannot take part, or "". closed: why it cannot answer at all any more, or "".
    own_answer: "", "approve", "decline" or "withdrawn". dry_run: the learning room's DryRun, or None with
    dry_run_problem. plan_text: canonical JSON whose sha256 is plan_sha256.
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
    closed: str

    @property
    def may_answer(self) -> bool:
        """Whether a no is possible, so that the form belongs on the page."""
        return not self.closed

    @property
    def may_approve(self) -> bool:
        """Whether a yes is possible too."""
        return not self.closed and not self.refusal and self.samples > 0

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON, without the plan's text: what `Approval.shown` keeps."""
        found = dataclasses.asdict(self)
        del found["plan_text"]
        plain: dict[str, Any] = json.loads(json.dumps(found, default=_plain))
        return plain


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def approval_facts(round_: Round) -> ApprovalFacts:
    """Everything that the approval page says about a round, as it is now."""
    plan = parse_plan(round_.plan)
    sites = _sites(round_, plan)
    dry_run, samples, problem = _tried(plan)
    refusal = plan_refusal(plan) or problem
    return ApprovalFacts(
        round_number=round_.number, plan_sha256=plan.sha256, plan_text=round_.plan,
        title=f"Round {round_.number}", settings=words.settings_of(plan),
        asked=words.asked(plan, round_.proposer.title),
        proposer=next(site for site in sites if site.is_proposer), leaves=words.leaves(plan, samples),
        never_leaves=words.never_leaves(), could_learn=words.could_learn(plan),
        without_answer=words.without_answer(plan), answer_by=words.at(plan.schedule.answer_by), sites=sites,
        unconfirmed=tuple(site for site in sites if not site.key_confirmed),
        colluders=(rules.colluders(len(plan.invited)), rules.colluders(plan.minimum_participants)),
        samples=samples, update_bytes=words.update_bytes(plan), dry_run=dry_run, dry_run_problem=problem,
        refusal=refusal, own_answer=own_answer(round_), closed=answer_closed(round_, plan),
    )  # fmt: skip


def _sites(round_: Round, plan: RoundPlan) -> tuple[InvitedSite, ...]:
    confirmed, own = keys_confirmed(), own_name()
    rows = {row.peer.name: row for row in round_.participations.select_related("peer")}
    return tuple(
        _site(rows[site], key, confirmed.get(site) == key, site == own, site == plan.proposer)
        for site, key in plan.keys.items()
    )


def _site(row: Participation, key: str, confirmed: bool, is_own: bool, is_proposer: bool) -> InvitedSite:
    return InvitedSite(
        name=row.peer.name, title=row.peer.title, fingerprint=identity.fingerprint(key),
        key_confirmed=confirmed or is_own, is_own=is_own, is_proposer=is_proposer,
        answer=_ANSWERS.get(row.state, "approve"), samples=row.samples, reason=row.reason,
        last_seen_at=row.peer.last_seen_at,
    )  # fmt: skip


def _tried(plan: RoundPlan) -> tuple[Any, int, str]:
    """(dry run or None, training photos rounded up to tens, why there is none or ""). Sends nothing."""
    from federation.services import dry_run  # torch, on first use only

    try:
        return dry_run.dry_run(plan), dry_run.samples_now(plan.k), ""
    except ClinicError as error:
        return None, 0, str(error)


def own_answer(round_: Round) -> str:
    """This hospital's answer: "", "approve", "decline", or "withdrawn" after a yes that was taken back."""
    approval = Approval.objects.filter(round=round_).first()
    if approval is None:
        return ""
    return "withdrawn" if approval.answer == "approve" and taken_back(round_) else approval.answer


def taken_back(round_: Round) -> bool:
    """Whether this site has said that it takes no further part in a round."""
    return Outgoing.objects.filter(key=f"drop/{round_.sha256}").exists()


def answer_closed(round_: Round, plan: RoundPlan) -> str:
    """Why this hospital cannot answer (any more), in a sentence, or ""."""
    if Approval.objects.filter(round=round_).exists():
        return "This hospital has answered."
    if own_name() not in plan.keys:
        return "This hospital is not asked."
    until = words.at(plan.schedule.answer_by)
    if clock.now() > until and round_.state in ("proposed", "approving"):
        return f"Answers were possible until {words.when(until)}. This hospital takes no part."
    if round_.state == "proposed":
        return "The coordinator has not opened the round for answers yet. Reload the page in a moment."
    if round_.state != "approving":
        return "Answers to this round are closed. This hospital takes no part."
    return ""
