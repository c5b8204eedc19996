"""What the entries of the transcript say: one frozen dataclass per kind, read strictly.

Sites write the first group, the coordinator the second. Messages of secure aggregation travel as the text
that `secagg.wire.encode` made, with their own end-to-end signatures.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from federation.learning.errors import PlanRefused
from federation.learning.strict import parse_canonical

COORDINATOR: Final = "coordinator"  # the author's name; no site may have it


class BodyRefused(ValueError):
    """The body of an entry is not in the form of its kind."""


# --- sites -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Join:
    """A site enters: its name as people read it, its Ed25519 key (hex), the hash of its invitation."""

    title: str
    public_key: str
    invitation_sha256: str


@dataclass(frozen=True)
class Confirm:
    """The author's admin compared this site's fingerprint out of band."""

    site: str
    public_key: str


@dataclass(frozen=True)
class Unconfirm:
    """The author does not trust this key any more."""

    site: str
    public_key: str
    reason: str


@dataclass(frozen=True)
class Rotate:
    """A new key, in an entry signed by the old one; proof: the new key's signature of `rotation_bytes`."""

    public_key: str
    proof: str


@dataclass(frozen=True)
class Leave:
    reason: str


@dataclass(frozen=True)
class Propose:
    """plan: canonical JSON of plans.RoundPlan."""

    plan: str


@dataclass(frozen=True)
class Answer:
    """The admin's signed answer to the plan with this hash. samples: training photos, rounded up to tens."""

    round: str
    answer: Literal["approve", "decline"]
    samples: int
    reason: str


@dataclass(frozen=True)
class Drop:
    """A site that approved takes no further part."""

    round: str
    reason: str


@dataclass(frozen=True)
class StopRound:
    """The proposer ends its round."""

    round: str
    reason: str


@dataclass(frozen=True)
class Advert:
    sum: str
    message: str


@dataclass(frozen=True)
class Shares:
    sum: str
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """The input of this sum is ready; the masked bytes follow."""

    sum: str


@dataclass(frozen=True)
class Masked:
    """The commitment; its bytes are the blob of that hash, which is complete when this is accepted."""

    sum: str
    message: str


@dataclass(frozen=True)
class Signed:
    sum: str
    message: str


@dataclass(frozen=True)
class Unmask:
    sum: str
    message: str


@dataclass(frozen=True)
class Checked:
    """The author added the sum up itself, from the masked inputs and the answers, and found this hash."""

    sum: str
    sha256: str


@dataclass(frozen=True)
class MadeMember:
    """What a site computed from the opened sum: sha256 of weights, classifier rows and strategy state."""

    name: str
    weights: str
    classifier: str
    state: str


@dataclass(frozen=True)
class Vote:
    """A ballot on the candidate that the author computed. Figures stay at the site."""

    round: str
    ballot: Literal["accept", "reject", "abstain"]
    members: tuple[MadeMember, ...]


@dataclass(frozen=True)
class Adopted:
    round: str


# --- coordinator -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removed:
    """A site's key counts no longer, anywhere."""

    site: str
    reason: str


@dataclass(frozen=True)
class Asked:
    """The round is open for answers."""

    round: str


@dataclass(frozen=True)
class Answered:
    """Answers are closed: who takes part, in order of name."""

    round: str
    sites: tuple[str, ...]


@dataclass(frozen=True)
class SumBegun:
    """sum: its name. purpose: presence, counts, update or centroids; member: "" but for updates."""

    sum: str
    round: str
    purpose: Literal["presence", "counts", "update", "centroids"]
    member: str
    attempt: int
    sites: tuple[str, ...]
    words: int
    bits: int


@dataclass(frozen=True)
class KeysClosed:
    sum: str
    sites: tuple[str, ...]


@dataclass(frozen=True)
class SharesClosed:
    sum: str


@dataclass(frozen=True)
class InputsClosed:
    sum: str
    survivors: tuple[str, ...]


@dataclass(frozen=True)
class Opened:
    """The plain sum is the blob of this hash."""

    sum: str
    sha256: str


@dataclass(frozen=True)
class Failed:
    """The sum ended unopened; blamed: who is left out of the next attempt."""

    sum: str
    reason: str
    blamed: tuple[str, ...]


@dataclass(frozen=True)
class CandidateAsked:
    """All sums of the round are open: compute the candidate, validate it, vote."""

    round: str


@dataclass(frozen=True)
class Published:
    """The candidate that the votes name is the federation's model from now on. centroids: a sum or ""."""

    round: str
    members: tuple[MadeMember, ...]
    centroids: str


@dataclass(frozen=True)
class Aborted:
    round: str
    reason: str


SITE_KINDS: Final = (
    Join, Confirm, Unconfirm, Rotate, Leave, Propose, Answer, Drop, StopRound, Advert, Shares, Trained,
    Masked, Signed, Unmask, Checked, Vote, Adopted,
)  # fmt: skip
COORDINATOR_KINDS: Final = (
    Removed, Asked, Answered, SumBegun, KeysClosed, SharesClosed, InputsClosed, Opened, Failed,
    CandidateAsked, Published, Aborted,
)  # fmt: skip
KINDS: Final[dict[str, type]] = {cls.__name__: cls for cls in (*SITE_KINDS, *COORDINATOR_KINDS)}
BY_COORDINATOR: Final = frozenset(cls.__name__ for cls in COORDINATOR_KINDS)


def plain(body: Any) -> dict[str, Any]:
    """A body as the dict that goes into an entry."""
    made: dict[str, Any] = json.loads(json.dumps(asdict(body)))
    return made


def read_body(kind: str, body: dict[str, Any]) -> Any:
    """The dataclass of this kind; BodyRefused for an unknown kind, a missing, extra or misshapen field."""
    cls = KINDS.get(kind)
    if cls is None:
        raise BodyRefused("An entry has a kind that this version does not know. Update the older site.")
    data = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    try:
        return parse_canonical(cls, data)
    except PlanRefused:
        raise BodyRefused(f"The body of a {kind} entry is not in its form.") from None
