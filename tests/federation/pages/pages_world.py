"""A federation in the tables of one site, in any state that its pages can show. Hospitals here are invented.

Other sites' entries go through the real projection, so states and times are those that a transcript makes.
Also seeds a development site: `manage.py shell -c "import pages_world; pages_world.show('training')"`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FEDERATION = "f0" * 32
OWN = "hospital-a"
TITLES = {
    "hospital-a": "Demo Hospital A", "hospital-b": "Demo Hospital B", "hospital-c": "Demo Hospital C",
    "hospital-d": "Demo Hospital D",
}  # fmt: skip
OTHERS = ("hospital-b", "hospital-c", "hospital-d")
WEIGHTS = "ab" * 32


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Federation:
    """own: this site's name, or "coordinator"; keys: of the sites that are not this one."""

    own: str = OWN
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    at: int = 0
    said: int = 0

    def begin(self, **fields: Any) -> Any:
        """This site's membership, with a key of its own."""
        from federation import identity
        from federation.models import Membership

        public = identity.identity_create()
        coordinator = self.own == "coordinator"
        values = {
            "role": "coordinator" if coordinator else "hospital", "federation": FEDERATION, "name": self.own,
            "title": "Demo Federation" if coordinator else TITLES[self.own],
            "coordinator_address": "https://coordinator.example.org", "coordinator_key": self._coordinator(public),
        }  # fmt: skip
        return Membership.objects.create(pk=1, **(values | fields))

    def _coordinator(self, own: str) -> str:
        from federation import identity

        if self.own == "coordinator":
            return own
        self.keys["coordinator"] = Ed25519PrivateKey.generate()
        return identity.public_hex(self.keys["coordinator"])

    def say(self, author: str, body: Any) -> None:
        """Somebody says something, and this site reads it."""
        from federation import identity, kinds
        from federation.models import Membership
        from federation.services.coordination import link_store
        from federation.services.projection import entry_project
        from federation.transcript import Entry, Link

        self.said += 1
        entry = Entry(
            federation=FEDERATION, author=author, kind=type(body).__name__, key=f"{author}/{self.said}", seen=0,
            seen_sha256="0" * 64, body=kinds.plain(body),
        ).sign(self.keys.get(author) or identity.identity_now())  # fmt: skip
        membership = Membership.objects.get()
        self.at = max(self.at + 1, now_ms())
        link = Link(membership.seq + 1, membership.sha256, self.at, entry)
        entry_project(link)
        link_store(link)
        Membership.objects.update(seq=link.seq, sha256=link.sha256, seen_at=dt.datetime.now(dt.UTC))

    def join(self, *names: str) -> None:
        from federation import identity, kinds
        from federation.models import Peer

        for name in names:
            key = (
                identity.identity_now()
                if name == self.own
                else self.keys.setdefault(name, Ed25519PrivateKey.generate())
            )
            self.say(name, kinds.Join(TITLES[name], identity.public_hex(key), "0" * 64))
        Peer.objects.filter(name__in=names).update(last_seen_at=dt.datetime.now(dt.UTC))

    def confirm_all(self, *, but: str = "") -> None:
        """Every member compares every key; nobody compares that of `but`."""
        from federation import kinds
        from federation.models import Peer

        keys = dict(Peer.objects.values_list("name", "public_key"))
        for author in keys:
            for subject in keys:
                if subject not in (author, but):
                    self.say(author, kinds.Confirm(subject, keys[subject]))

    # --- rounds ---

    def plan(self, **fields: Any) -> Any:
        """A RoundPlan of all members, proposed by the second, from the model in use here if there is one."""
        from federation import plans
        from federation.learning.config import AnalyticOptions, LocalTraining, ServerStep
        from federation.models import Peer, Round
        from federation.services.results import vocabulary

        keys = dict(Peer.objects.filter(state="joined").values_list("name", "public_key"))
        names = vocabulary() or ["SYN:0001"]
        members, previous, rows = _base(LocalTraining())
        facts: dict[str, Any] = {
            "version": plans.VERSION, "federation": FEDERATION, "number": Round.objects.count() + 1,
            "proposer": "hospital-b", "strategy": "fedavg", "seed": 7, "k": 5, "row_weighting": "class",
            "views": plans.default_views(), "members": members, "server": ServerStep(),
            "analytic": AnalyticOptions(), "invited": tuple(plans.Invited(site, keys[site]) for site in sorted(keys)),
            "minimum_participants": 3, "vocabulary_sha256": plans.vocabulary_of(names),
            "vocabulary_size": len(names), "previous_round": previous,
            "schedule": plans.Schedule(now_ms() + 72 * 3_600_000, 3600, 14_400, 14_400),
            "vote": plans.VoteTerms(0.02, 10, 2), "data_use": plans.DATA_USE, "rows_per_member": rows,
        }  # fmt: skip
        return plans.RoundPlan(**(facts | fields))

    def open_round(self, **fields: Any) -> Any:
        """A round that waits for answers."""
        from federation import kinds
        from federation.models import Round
        from federation.plans import encode_plan

        plan = self.plan(**fields)
        self.say(plan.proposer, kinds.Propose(encode_plan(plan)))
        self.say("coordinator", kinds.Asked(plan.sha256))
        return Round.objects.get(sha256=plan.sha256)

    def answer(self, round_: Any, *sites: str, answer: Any = "approve", reason: str = "") -> None:
        from federation import kinds

        for number, site in enumerate(sites):
            samples = 200 + 10 * number if answer == "approve" else 0
            self.say(site, kinds.Answer(round_.sha256, answer, samples, reason))

    def close_answers(self, round_: Any) -> None:
        from federation import kinds
        from federation.services.projection_rounds import live_sites

        self.say("coordinator", kinds.Answered(round_.sha256, tuple(live_sites(round_))))

    def advance(self, round_: Any, *states: str) -> None:
        """Put a round into the last of these states, with a time for each."""
        from federation.models import Round

        round_.refresh_from_db()
        moments = dict(round_.moments)
        for number, state in enumerate(states):
            moments[state] = now_ms() - 40_000 * (len(states) - number)
        Round.objects.filter(pk=round_.pk).update(state=states[-1], moments=moments)
        round_.refresh_from_db()

    def sums(
        self, round_: Any, *purposes: str, state: str = "opened", attempt: int = 1, **fields: Any
    ) -> Any:
        """Sums of these purposes, all but the last opened, with this site's side."""
        from federation.models import OwnSum, SecureSum

        made = None
        for purpose in purposes:
            last = purpose == purposes[-1]
            made = SecureSum.objects.create(
                name=f"{round_.sha256[:16]}.{purpose}.{attempt}", round=round_, purpose=purpose, attempt=attempt,
                member="compact" if purpose == "update" else "", state=state if last else "opened",
                sites=list(TITLES), keyed=list(TITLES), survivors=list(TITLES), bits=32 if purpose == "update" else 64,
                words=2_100_000 if purpose == "update" else 40,
                result=_hash(purpose) if not last or state == "opened" else "", **fields,
            )  # fmt: skip
            if self.own != "coordinator":
                own = "answered" if made.state == "opened" else "prepared"
                OwnSum.objects.create(sum=made, state=own, checked="agrees" if own == "answered" else "")
        return made

    def parts(self, round_: Any, state: str, **fields: Any) -> None:
        from federation.models import Participation

        Participation.objects.filter(round=round_).exclude(state="declined").update(state=state, **fields)

    def curve(self, round_: Any, epochs: int = 5, attempt: int = 1) -> None:
        from federation.models import Curve

        for epoch in range(1, epochs + 1):
            Curve.objects.create(
                round=round_, member="compact", attempt=attempt, epoch=epoch,
                loss=0.4 + 2.9 * 0.55**epoch + 0.1 * (attempt == 1), top_1=min(0.9, 0.2 + 0.09 * epoch),
            )  # fmt: skip

    def validate(self, round_: Any, low: float = -0.021) -> None:
        from federation.models import SiteValidation

        def shares(first: float, fifth: float) -> dict[str, Any]:
            return {"macro": {"1": first, "5": fifth}, "micro": {"1": first, "5": fifth}}

        SiteValidation.objects.create(
            round=round_, ballot="accept",
            reason="Not surely worse on this site's held-out patients: top-1 31.0% before, 38.0% with the candidate.",
            figures={"before": shares(0.31, 0.62), "after": shares(0.38, 0.71), "alone": shares(0.33, 0.64),
                     "patients": 41, "change": [low, 0.07, 0.152]},
            members=[],
        )  # fmt: skip

    def publish(self, round_: Any) -> Any:
        from federation.models import GlobalModel

        made = [{"name": "compact", "weights": _hash("weights"), "classifier": _hash("rows"), "state": ""}]
        return GlobalModel.objects.create(
            number=round_.number, round=round_, members=made, published_at=now_ms()
        )


def _base(local: Any) -> tuple[Any, str, int]:
    """Members, previous round and rows per photo: of the model in use here, or of one that nobody has."""
    from diagnosis.errors import NotReady
    from federation import plans
    from federation.services.base_model import base_now, neck_of

    try:
        base = base_now()
    except NotReady:
        return (plans.MemberAsked("compact", "compact", WEIGHTS, neck_of("compact"), local),), "", 4
    members = tuple(
        plans.MemberAsked(one.name, one.architecture, one.sha256, neck_of(one.architecture), local)
        for one in base.members
    )
    return members, base.previous_round, base.rows_per_member


def clinic() -> Any:
    """An adopted model and a small catalogue; no photo."""
    from diagnosis.models import Extractor, ExtractorMember, Syndrome

    Syndrome.objects.all().delete()
    Syndrome.objects.bulk_create(
        Syndrome(identifier=f"SYN:{number:04d}", name=f"Syndrome {number}", synthetic=True)
        for number in (1, 2, 3)
    )
    extractor = Extractor.objects.create(
        name="test", sha256="cd" * 32, state="adopted", synthetic=True, origin="test", licence="none"
    )
    ExtractorMember.objects.create(
        extractor=extractor, position=0, name="compact", architecture="compact", sha256=WEIGHTS
    )
    return extractor


def dry_run_found() -> Any:
    """What a dry run may have found."""
    from federation.services.dry_run import DryRun, MemberDryRun

    member = MemberDryRun("compact", 180, 8_400_000, 312.0)
    return DryRun(204, 154, 41, 128, 2, 2, (member,), 8_400_000, 312.0)


# --- states of a hospital -----------------------------------------------------------------------------


def nothing() -> Federation:
    """No membership."""
    return Federation()


def joining() -> Federation:
    """Asked to be admitted; no answer yet."""
    from federation import identity, kinds
    from federation.services.speaking import entry_say

    made = Federation()
    made.begin(invitation="x" * 43)
    public = identity.public_hex(identity.identity_now())
    entry_say(kinds.Join(TITLES[OWN], public, "0" * 64), key=f"join/{public[:16]}")
    return made


def not_admitted() -> Federation:
    from federation.models import Outgoing

    made = joining()
    Outgoing.objects.update(refusal="Another site has this name already. Join again with another name.")
    return made


def alone() -> Federation:
    """Admitted; nobody else is there."""
    made = Federation()
    made.begin()
    made.join(OWN)
    return made


def unconfirmed() -> Federation:
    """Three others, none compared here; one of them has changed its key since it was."""
    from federation import identity, kinds
    from federation.models import Peer
    from federation.transcript import rotation_bytes

    made = alone()
    made.join(*OTHERS)
    for name in OTHERS[:2]:
        made.say(OWN, kinds.Confirm(name, Peer.objects.get(name=name).public_key))
    new = Ed25519PrivateKey.generate()
    public = identity.public_hex(new)
    proof = new.sign(rotation_bytes(FEDERATION, "hospital-c", public)).hex()
    made.say("hospital-c", kinds.Rotate(public, proof))
    made.keys["hospital-c"] = new
    return made


def quiet() -> Federation:
    """Four members, all keys compared, no round yet."""
    made = alone()
    made.join(*OTHERS)
    made.confirm_all()
    return made


def asked() -> Federation:
    """A round waits for this hospital's answer; one other has approved."""
    made = quiet()
    made.answer(made.open_round(), "hospital-b")
    return made


def asked_unconfirmed() -> Federation:
    """The same, but nobody has compared the key of one invited hospital."""
    made = alone()
    made.join(*OTHERS)
    made.confirm_all(but="hospital-d")
    made.answer(made.open_round(), "hospital-b")
    return made


def approved() -> Federation:
    """This hospital has approved; the others have not all answered."""
    made = asked()
    _approval(made, "approve")
    return made


def _approval(made: Federation, answer: str, reason: str = "") -> Any:
    from diagnosis.models import User
    from federation.models import Approval, Round

    round_ = Round.objects.latest("pk")
    made.answer(round_, OWN, answer=answer, reason=reason)
    return Approval.objects.create(
        round=round_, answer=answer, reason=reason, plan_sha256=round_.sha256, samples=210,
        user=User.objects.filter(grants__role="site_admin").first(), entry_key=f"answer/{round_.sha256}",
    )  # fmt: skip


def declined() -> Federation:
    made = asked()
    _approval(made, "decline", "Our ethics board meets next month.")
    return made


def _running() -> tuple[Federation, Any]:
    from federation.models import Round

    made = approved()
    round_ = Round.objects.latest("pk")
    made.answer(round_, "hospital-c")
    made.answer(round_, "hospital-d", answer="decline", reason="No training photos yet.")
    made.close_answers(round_)
    return made, round_


def counting() -> Federation:
    made, round_ = _running()
    made.sums(round_, "presence", state="keys")
    return made


def training() -> Federation:
    """Second attempt of training: the first ended unopened."""
    from federation.models import Peer

    made, round_ = _running()
    made.advance(round_, "counting", "keying", "training")
    made.parts(round_, "keyed")
    made.sums(round_, "presence", "counts")
    made.sums(round_, "update", state="failed", reason="hospital-c did not send its shares in time.")
    made.sums(round_, "update", state="inputs", attempt=2)
    made.curve(round_, 3)
    made.curve(round_, 4, attempt=2)
    Peer.objects.filter(name="hospital-c").update(
        last_seen_at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=3)
    )
    return made


def unmasking() -> Federation:
    made, round_ = _running()
    made.advance(round_, "counting", "keying", "training", "collecting", "unmasking")
    made.parts(round_, "uploaded")
    made.sums(round_, "presence", "counts", "update", state="survivors")
    made.curve(round_)
    return made


def validating() -> Federation:
    made, round_ = _running()
    made.advance(round_, "counting", "keying", "training", "collecting", "unmasking", "validating")
    made.parts(round_, "confirmed")
    made.sums(round_, "presence", "counts", "update")
    made.curve(round_)
    made.validate(round_)
    return made


def published() -> Federation:
    made, round_ = _running()
    made.advance(
        round_, "counting", "keying", "training", "collecting", "unmasking", "validating", "published"
    )
    made.parts(round_, "done", ballot="accept")
    made.sums(round_, "presence", "counts", "update", "centroids")
    made.curve(round_)
    made.validate(round_, low=0.012)
    made.publish(round_)
    return made


def aborted() -> Federation:
    from federation import kinds

    made, round_ = _running()
    made.sums(round_, "presence", state="keys")
    made.say(
        "coordinator", kinds.Aborted(round_.sha256, "Only two hospitals remained; at least three are needed.")
    )
    return made


def alarm() -> Federation:
    from federation.models import Membership

    made = quiet()
    sentence = "The coordinator shows another entry 14 than before."
    Membership.objects.update(alarm=sentence)
    return made


def left() -> Federation:
    from federation.models import Membership

    made = quiet()
    Membership.objects.update(left=True)
    return made


def removed() -> Federation:
    from federation import kinds

    made = quiet()
    made.say("coordinator", kinds.Removed(OWN, "Its key was in other hands."))
    return made


HOSPITAL: dict[str, Callable[[], Federation]] = {
    state.__name__: state
    for state in (
        nothing, joining, not_admitted, alone, unconfirmed, quiet, asked, asked_unconfirmed, approved, declined,
        counting, training, unmasking, validating, published, aborted, alarm, left, removed,
    )
}  # fmt: skip


# --- states of a coordinator --------------------------------------------------------------------------


def founded() -> Federation:
    made = Federation(own="coordinator")
    made.begin()
    return made


def gathered() -> Federation:
    """Four members and open invitations; one member is silent."""
    from federation.models import Invitation, Peer

    made = founded()
    made.join(*TITLES)
    made.confirm_all(but="hospital-d")
    now = dt.datetime.now(dt.UTC)
    Peer.objects.filter(name="hospital-d").update(last_seen_at=now - dt.timedelta(days=2))
    Invitation.objects.create(
        token_sha256=_hash("1"), title="Demo Hospital E", expires_at=now + dt.timedelta(days=9)
    )
    Invitation.objects.create(
        token_sha256=_hash("2"), title="Demo Hospital F", expires_at=now - dt.timedelta(days=9)
    )
    Invitation.objects.create(
        token_sha256=_hash("3"),
        title="Demo Hospital B",
        expires_at=now,
        used_by=Peer.objects.get(name="hospital-b"),
    )
    return made


def coordinating() -> Federation:
    """A round in training, as the coordinator sees it."""
    made = gathered()
    round_ = made.open_round()
    made.answer(round_, "hospital-a", "hospital-b", "hospital-c")
    made.answer(round_, "hospital-d", answer="decline")
    made.close_answers(round_)
    made.advance(round_, "counting", "keying", "training")
    made.sums(round_, "presence", "counts", "update", state="inputs")
    return made


COORDINATOR: dict[str, Callable[[], Federation]] = {
    state.__name__: state for state in (nothing, founded, gathered, coordinating)
}


def clear() -> None:
    """Empty all tables of the federation, evidence too: for a development site that shows one state after
    another."""
    from django.apps import apps
    from django.db import connection

    tables = [model._meta.db_table for model in apps.get_app_config("federation").get_models()]
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")


def show(state: str) -> None:
    """Put a development site into this state."""
    from django.conf import settings

    clear()
    (HOSPITAL if settings.SITE_ROLE == "hospital" else COORDINATOR)[state]()
