"""How both ends check the coordinator: signed, chained lines, and counters counted again from them.

Whatever a step says to a site becomes a line of that site's own log. A line names its number and the hash of
the line before, and is signed by the coordinator, so that none can be changed, dropped or put in later
unseen. The owner's lines hold the counters of its rows, the asker's lines the answers it was given; pair
names tie the two together without telling either what the other knows. A coordinator that answers a
hospital off its log leaves no line: what it could do with that hospital anyway is said in
docs/threat-model.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.kernel.budgets import Budgets
from federation.kernel.errors import AuditFailed
from federation.kernel.policy import Policy
from federation.secagg.wire import canonical

START = "0" * 64


@dataclass(frozen=True)
class Line:
    """One entry of a site's log. session: digest of the configuration; signature: hex, "" before signing."""

    session: str
    site: str
    number: int
    previous: str
    body: dict[str, Any]
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the coordinator signs."""
        return canonical("kernel-line", asdict(replace(self, signature="")))

    @property
    def sha256(self) -> str:
        """Hex hash, which covers all lines before."""
        return hashlib.sha256(canonical("kernel-line-hash", asdict(self))).hexdigest()


def next_line(
    last: Line | None, body: dict[str, Any], *, session: str, site: str, identity: Ed25519PrivateKey
) -> Line:
    """The line after `last` (None: the first), signed by the coordinator."""
    number, previous = (1, START) if last is None else (last.number + 1, last.sha256)
    line = Line(session, site, number, previous, body)
    return replace(line, signature=identity.sign(line.signed_bytes()).hex())


def check_lines(lines: Sequence[Line], public_key: bytes, *, session: str, site: str) -> None:
    """AuditFailed unless these are, from the first, all lines that the coordinator signed for this site."""
    previous = START
    for number, line in enumerate(lines, start=1):
        if (line.session, line.site, line.number, line.previous) != (session, site, number, previous):
            raise AuditFailed(f"Line {number} of the kernel log does not continue the one before.")
        try:
            key = Ed25519PublicKey.from_public_bytes(public_key)
            key.verify(bytes.fromhex(line.signature), line.signed_bytes())
        except (InvalidSignature, ValueError):
            raise AuditFailed(f"Line {number} of the kernel log is not signed by the coordinator.") from None
        previous = line.sha256


def recount(lines: Iterable[Line], policy: Policy) -> Budgets:
    """The owner's counters, counted again. AuditFailed where a line says another number or passes a budget.

    A pair is charged once in its life; a second line for it is a wrong one.
    """
    budgets, pairs = Budgets(), set[str]()
    for line in lines:
        body = line.body
        if body["kind"] not in ("charged", "proposed"):
            continue
        row, hospital = body["row"], body["hospital"]
        if body["pair"] in pairs or budgets.is_spent(row, hospital, policy):
            raise AuditFailed(f"Line {line.number} uses a patient more often than the policy allows.")
        pairs.add(body["pair"])
        budgets = budgets.charge(row, hospital, policy)
        counted = (budgets.by_hospital(row, hospital), budgets.in_all(row))
        if (body["by_hospital"], body["in_all"]) != counted:
            raise AuditFailed(f"Line {line.number} says another count than the lines before it.")
    return budgets


def recheck_answers(lines: Iterable[Line], policy: Policy) -> dict[str, tuple[str, str]]:
    """The asker's answers {pair: (tag, band)}. AuditFailed where one passes the policy or was changed."""
    said: dict[str, tuple[str, str]] = {}
    day, number = 0, 0
    for line in lines:
        body = line.body
        if body["kind"] != "answered":
            continue
        number = number + 1 if body["day"] == day else 1
        if body["day"] < day or number > policy.queries_per_day or body["number"] != number:
            raise AuditFailed(f"Line {line.number} does not fit the questions allowed for its day.")
        day = body["day"]
        tags = {candidate["tag"] for candidate in body["candidates"]}
        if len(body["candidates"]) > policy.candidates or len(tags) != len(body["candidates"]):
            raise AuditFailed(f"Line {line.number} names more candidates than the policy allows.")
        for candidate in body["candidates"]:
            entry = (candidate["tag"], candidate["band"])
            if said.setdefault(candidate["pair"], entry) != entry:
                raise AuditFailed(f"Line {line.number} answers a pair otherwise than before.")
    return said


def compare_ends(asker: str, asked: Iterable[Line], owners: Mapping[str, Iterable[Line]]) -> None:
    """AuditFailed unless what `asker` was told is exactly what the owners of all rows were charged for.

    For an auditor who sees the logs of several hospitals; `owners` are all sites with rows.
    """
    told = {candidate["pair"] for line in asked for candidate in line.body.get("candidates", ())}
    told |= {line.body["pair"] for line in asked if line.body["kind"] == "matched"}
    charged: set[str] = set()
    waiting: set[str] = set()
    for lines in owners.values():
        for line in lines:
            body = line.body
            if body["kind"] == "charged" and body["hospital"] == asker:
                charged.add(body["pair"])
            elif body["kind"] == "proposed" and body["hospital"] == asker:
                waiting.add(body["pair"])
            elif body["kind"] == "decided" and body["accepted"] and body["pair"] in waiting:
                charged.add(body["pair"])
    if told != charged:
        raise AuditFailed("What one hospital was told is not what the others were charged for.")
