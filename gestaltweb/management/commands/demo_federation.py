"""One site's part in setting up the demonstration's federation, in a process that knows this site alone.

Reads JSON from standard input and answers JSON. What people would tell each other (an invitation's code, a
fingerprint) travels through the caller; everything else goes through the coordinator.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from diagnosis.models import User
from federation import identity
from federation.models import Confirmation, Peer, Round
from federation.services import approvals, membership, proposals
from federation.services.own import membership_found
from gestaltweb.demo import homes, report

WAIT_SECONDS = 60.0
TITLE = "Demo Federation"
OVER = ("published", "aborted")


class Command(BaseCommand):
    help = "Demonstration only: this site's part in its federation (JSON in, JSON out)."
    requires_system_checks = ()

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("part", choices=sorted(PARTS))

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(PARTS[options["part"]](json.load(sys.stdin))))


def found(told: dict[str, Any]) -> dict[str, str]:
    """Coordinator: found the federation and invite: {"address", "titles"} → {title: code}."""
    if membership_found() is None:
        membership.federation_found(user=None, title=TITLE, address=told["address"])
    members = set(Peer.objects.values_list("title", flat=True))
    wanted = [title for title in told["titles"] if title not in members]
    return {title: membership.invitation_create(user=None, title=title) for title in wanted}


def join(told: dict[str, str]) -> str:
    """Hospital: join with {title: code} → this site's fingerprint, to be read out to the others."""
    if membership_found() is None:
        membership.site_join(
            user=None, code=told[settings.SITE_NAME], name=settings.SITE_SLUG, title=settings.SITE_NAME
        )
    return identity.fingerprint(identity.public_hex(identity.identity_now()))


def confirm(told: dict[str, str]) -> bool:
    """Hospital: confirm the others' keys as they were read out: {name: fingerprint}."""
    for name in sorted(told.keys() - {settings.SITE_SLUG}):
        peer = _awaited(partial(_member, name), name)
        membership.peer_confirm(user=None, peer=peer, fingerprint=told[name])
    sites = len(told)
    _awaited(
        lambda: Confirmation.objects.filter(withdrawn=False).count() >= sites * (sites - 1), "confirmations"
    )
    return True


def _member(name: str) -> Peer | None:
    return Peer.objects.filter(name=name, state="joined").first()


def propose(told: Any) -> bool:
    """Hospital: propose a round to {"sites": names} unless one is under way, and agree to it."""
    if not Round.objects.exclude(state__in=OVER).exists():
        plan = proposals.plan_suggest(user=_admin(), sites=told["sites"], minimum_patients=homes.JUDGED_BY)
        proposals.round_propose(user=_admin(), plan=plan)
        _awaited(lambda: Round.objects.filter(sha256=plan.sha256).exists(), "the round")
    return answer(told)


def answer(told: Any) -> bool:
    """Hospital: agree to the round under way, if it still waits for this site."""
    hear(told)
    round_ = Round.objects.exclude(state__in=OVER).latest("pk")
    if round_.state == "approving" and not hasattr(round_, "approval"):
        approvals.round_approve(user=_admin(), round_=round_, plan_sha256=round_.sha256)
    return True


def hear(told: Any) -> bool:
    """Hospital: wait until a round is under way."""
    asked = Round.objects.exclude(state__in=(*OVER, "proposed"))
    return bool(_awaited(asked.exists, "a round"))


def _admin() -> User:
    return User.objects.get(username="admin")


def _awaited(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds as soon as the coordinator has told this site of it."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.2)
    raise CommandError(f"{settings.SITE_NAME} did not hear of {what} within {WAIT_SECONDS:.0f} s.")


PARTS: dict[str, Callable[[Any], Any]] = {
    "found": found, "join": join, "confirm": confirm, "propose": propose, "answer": answer, "hear": hear,
    "report": report.site_report,
}  # fmt: skip
