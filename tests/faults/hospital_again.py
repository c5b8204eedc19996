"""A member hospital on another database: `python hospital_again.py setup|answer`, with GESTALTWEB_HOME set.

It has its key folder, knows whom it belongs to (FEDERATION_MEMBERSHIP, JSON) and that it has joined
(FEDERATION_JOIN, its entry); the rest is in the transcript, which it reads from the beginning.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from diagnosis.models import Syndrome  # noqa: E402
from federation import agent, kinds  # noqa: E402
from federation.models import Approval, Membership, Outgoing, Round  # noqa: E402
from federation.services.speaking import entry_say  # noqa: E402


def setup() -> None:
    """Tables, the catalogue of the tests, and the membership, with nothing read yet."""
    from world import VOCABULARY

    call_command("migrate", verbosity=0)
    Syndrome.objects.all().delete()
    Syndrome.objects.bulk_create([Syndrome(identifier=w, name=w, synthetic=True) for w in VOCABULARY])
    Membership.objects.create(pk=1, role="hospital", **json.loads(os.environ["FEDERATION_MEMBERSHIP"]))
    join = json.loads(os.environ["FEDERATION_JOIN"])
    Outgoing.objects.create(key=join["key"], kind="Join", text=os.environ["FEDERATION_JOIN"], sent=True)


def answer() -> None:
    """Read everything, then say yes to the round that is asked about, as the others have done."""
    line = agent.line_open(Membership.objects.get())
    while agent.pull(line):
        pass
    round_ = Round.objects.get(state="approving")
    key = f"answer/{round_.sha256}"
    entry_say(kinds.Answer(round_.sha256, "approve", 50, ""), key=key)
    Approval.objects.create(
        round=round_, answer="approve", plan_sha256=round_.sha256, samples=50, entry_key=key
    )


if __name__ == "__main__":
    {"setup": setup, "answer": answer}[sys.argv[1]]()
