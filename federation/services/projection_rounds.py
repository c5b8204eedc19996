"""Rounds in the transcript: proposed, answered, voted on, published or aborted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from federation import kinds
from federation.errors import Conflict, InvalidMessage, NotAMember
from federation.learning.config import SAMPLE_STEP
from federation.learning.errors import PlanRefused
from federation.models import GlobalModel, Participation, Peer, Round
from federation.plans import RoundPlan, parse_plan
from federation.services.transitions import move
from federation.states import ENDED, open_states
from federation.transcript import Link

UNFINISHED: Final = open_states("round")
#: A site in one of these states takes no further part.
GONE: Final = ("invited", "declined", "dropped")


def round_named(sha256: str) -> Round:
    """A round by its plan's hash."""
    found = Round.objects.filter(sha256=sha256).first()
    if found is None:
        raise InvalidMessage("An entry names a round that the transcript does not hold.")
    return found


def round_move(round_: Round, event: str, link: Link, **fields: Any) -> Round:
    """Move a round and note when, by the coordinator's clock."""
    moved = move(round_, event, **fields)
    moments = moved.moments | {moved.state: link.at}
    Round.objects.filter(pk=moved.pk).update(moments=moments)
    moved.moments = moments
    return moved


def participation_of(round_: Round, site: str) -> Participation:
    """A site's row in a round. NotAMember if it was not invited."""
    found = Participation.objects.filter(round=round_, peer__name=site).select_related("peer").first()
    if found is None:
        raise NotAMember(f"{site[:64]} was not invited to this round.")
    return found


def live_sites(round_: Round) -> list[str]:
    """Names of the sites that take part and have not dropped, ascending."""
    rows = Participation.objects.filter(round=round_).exclude(state__in=GONE)
    return sorted(rows.values_list("peer__name", flat=True))


def propose(link: Link, body: kinds.Propose) -> None:
    try:
        plan = parse_plan(body.plan)
    except PlanRefused as error:
        raise InvalidMessage(str(error)) from None
    _require_fits(plan, link)
    peers = {peer.name: peer for peer in Peer.objects.filter(state="joined")}
    unknown = [site for site, key in plan.keys.items() if site not in peers or peers[site].public_key != key]
    if unknown:
        raise Conflict(f"The plan names {unknown[0]} with a key that is not its own now. Propose anew.")
    made = Round.objects.create(
        sha256=plan.sha256, number=plan.number, plan=body.plan, proposer=peers[plan.proposer],
        moments={"proposed": link.at},
    )  # fmt: skip
    rows = [Participation(round=made, peer=peers[site], changed_at=link.at) for site in plan.keys]
    Participation.objects.bulk_create(rows)


def _require_fits(plan: RoundPlan, link: Link) -> None:
    if plan.federation != link.entry.federation or plan.proposer != link.entry.author:
        raise InvalidMessage("The plan belongs to another federation or another proposer.")
    if Round.objects.filter(state__in=UNFINISHED).exists():
        raise Conflict("Another round is under way. Propose again when it has ended.")
    if plan.number != Round.objects.count() + 1:
        raise Conflict("The plan's number is not the next one. Reload the page and propose again.")


def asked(link: Link, body: kinds.Asked) -> None:
    round_move(round_named(body.round), "asked", link)


def answer(link: Link, body: kinds.Answer) -> None:
    round_ = round_named(body.round)
    if round_.state != "approving":
        raise Conflict("Answers to this round are closed.")
    row = participation_of(round_, link.entry.author)
    if not 0 <= body.samples < 1 << 31 or body.samples % SAMPLE_STEP:
        raise InvalidMessage("Sample counts are rounded up to tens.")
    if body.answer == "approve" and not body.samples:
        raise InvalidMessage("A site without a photo for training cannot take part.")
    event = "approved" if body.answer == "approve" else "declined"
    move(row, event, samples=body.samples, reason=body.reason[:200], changed_at=link.at)


def answered(link: Link, body: kinds.Answered) -> None:
    round_ = round_named(body.round)
    for row in round_.participations.filter(state="invited"):
        move(row, "dropped", reason="did not answer in time", changed_at=link.at)
    if list(body.sites) != live_sites(round_):
        raise Conflict("The list of participants is not that of the sites that approved.")
    round_move(round_, "answered", link)


def drop(link: Link, body: kinds.Drop) -> None:
    row = participation_of(round_named(body.round), link.entry.author)
    move(row, "dropped", reason=body.reason[:200], changed_at=link.at)


def stop(link: Link, body: kinds.StopRound) -> None:
    round_ = round_named(body.round)
    if round_.proposer.name != link.entry.author:
        raise NotAMember("Only its proposer may stop a round.")
    if round_.state in ENDED:
        raise Conflict("This round has ended already.")


def candidate_asked(link: Link, body: kinds.CandidateAsked) -> None:
    round_move(round_named(body.round), "candidate_asked", link)


def vote(link: Link, body: kinds.Vote) -> None:
    round_ = round_named(body.round)
    row = participation_of(round_, link.entry.author)
    if round_.state != "validating" or row.state in GONE or row.ballot:
        raise Conflict("There is nothing to vote on for this site now.")
    names = [member.name for member in parse_plan(round_.plan).members]
    if [member.name for member in body.members] != names:
        raise InvalidMessage("A vote names each member of the ensemble once, in the plan's order.")
    made = json.dumps([asdict(member) for member in body.members], sort_keys=True)
    Participation.objects.filter(pk=row.pk).update(ballot=body.ballot, made=made, changed_at=link.at)


def tally(round_: Round) -> tuple[Counter[str], list[dict[str, str]] | None, int]:
    """(ballots, what most accepting votes computed or None, how many accepting votes computed that)."""
    rows = list(round_.participations.exclude(ballot=""))
    ballots = Counter(row.ballot for row in rows)
    made = Counter(row.made for row in rows if row.ballot == "accept")
    if not made:
        return ballots, None, 0
    text, agreeing = min(made.items(), key=lambda item: (-item[1], item[0]))
    return ballots, json.loads(text), agreeing


def accepted(round_: Round) -> tuple[list[dict[str, str]] | None, str]:
    """(the members that become the federation's model, "") or (None, why not)."""
    ballots, members, agreeing = tally(round_)
    quorum = parse_plan(round_.plan).vote.quorum
    if members is None or agreeing < quorum:
        return None, (
            f"{agreeing} hospitals accepted the same candidate and {quorum} were needed; "
            f"{ballots['reject']} rejected it, {ballots['abstain']} could not judge."
        )
    if ballots["reject"] >= ballots["accept"]:
        return None, f"{ballots['reject']} hospitals rejected the candidate, {ballots['accept']} accepted it."
    return members, ""


def published(link: Link, body: kinds.Published) -> None:
    round_ = round_named(body.round)
    members, why_not = accepted(round_)
    if members is None:
        raise Conflict(why_not)
    if [asdict(member) for member in body.members] != members:
        raise Conflict("The published model is not the one that the votes name.")
    round_move(round_, "published", link)
    GlobalModel.objects.create(
        number=GlobalModel.objects.count() + 1, round=round_, members=members, centroids=body.centroids,
        published_at=link.at,
    )  # fmt: skip


def adopted(link: Link, body: kinds.Adopted) -> None:
    round_ = round_named(body.round)
    if round_.state != "published":
        raise Conflict("This round has published nothing to adopt.")
    row = Participation.objects.filter(round=round_, peer__name=link.entry.author).first()
    if row is not None and row.state == "confirmed":
        move(row, "adopted", changed_at=link.at)


def aborted(link: Link, body: kinds.Aborted) -> None:
    round_ = round_named(body.round)
    round_move(round_, "aborted", link, reason=body.reason[:300])
    for running in round_.sums.exclude(state__in=("opened", "failed")):
        move(running, "failed", reason="The round was aborted.")
