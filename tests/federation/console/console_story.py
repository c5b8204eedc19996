"""A hospital and its federation in one test: other sites speak by the real projection, with keys of the test."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import identity, kinds
from federation.models import Membership, Outgoing, Peer, Round
from federation.services.projection import entry_project
from federation.services.speaking import waiting
from federation.transcript import Entry, Link, decode_entry

FEDERATION = "f0" * 32
OWN = "a"
VOCABULARY = ("SYN:0001", "SYN:0002", "SYN:0003")
WEIGHTS = "ab" * 32


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Story:
    """keys: of the other sites; own entries are signed by the site itself."""

    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    at: int = 0
    said: int = 0

    def project(self, entry: Entry) -> None:
        """Give an entry its place here, as the coordinator would."""
        membership = Membership.objects.get()
        self.at = max(self.at + 1, now_ms())
        link = Link(membership.seq + 1, membership.sha256, self.at, entry)
        entry_project(link)
        Membership.objects.update(seq=link.seq, sha256=link.sha256)

    def say(self, author: str, body: Any) -> None:
        """Another site, or the coordinator, says something and everybody reads it."""
        self.said += 1
        entry = Entry(
            federation=FEDERATION, author=author, kind=type(body).__name__, key=f"{author}/{self.said}", seen=0,
            seen_sha256="0" * 64, body=kinds.plain(body),
        )  # fmt: skip
        self.project(entry.sign(self.keys.get(author) or identity.identity_now()))

    def join(self, name: str) -> Peer:
        """Another hospital is admitted."""
        self.keys[name] = Ed25519PrivateKey.generate()
        public = identity.public_hex(self.keys[name])
        self.say(name, kinds.Join(f"Hospital {name.upper()}", public, "0" * 64))
        return Peer.objects.get(name=name)

    def accept(self) -> list[str]:
        """The coordinator takes everything that this site has to say; the kinds, oldest first."""
        taken = []
        for row in waiting():
            entry = decode_entry(row.text.encode())
            entry.verify(
                Peer.objects.get(name=OWN).public_key if entry.kind != "Join" else entry.body["public_key"]
            )
            self.project(entry)
            Outgoing.objects.filter(pk=row.pk).update(sent=True)
            taken.append(entry.kind)
        return taken

    def refuse(self, sentence: str) -> None:
        """The coordinator takes nothing of what waits."""
        Outgoing.objects.filter(sent=False).update(sent=True, refusal=sentence)

    def confirm(self, *names: str) -> None:
        """This site's admin confirms these keys, and the coordinator knows."""
        for name in names:
            self.say(OWN, kinds.Confirm(name, Peer.objects.get(name=name).public_key))

    def open_round(self, plan: Any) -> Round:
        """The plan's proposer says it, and answers are asked for."""
        from federation.plans import encode_plan

        self.say(plan.proposer, kinds.Propose(encode_plan(plan)))
        self.say(kinds.COORDINATOR, kinds.Asked(plan.sha256))
        return Round.objects.get(sha256=plan.sha256)

    def answer(self, site: str, plan: Any, answer: str = "approve") -> None:
        samples = 100 if answer == "approve" else 0
        self.say(site, kinds.Answer(plan.sha256, answer, samples, ""))  # type: ignore[arg-type]


def with_member(plan: Any, **changes: Any) -> Any:
    """The plan with another first network."""
    return replace(plan, members=(replace(plan.members[0], **changes), *plan.members[1:]))
