"""What federation refuses. Every message is a sentence that may be shown, and none holds a secret."""

from __future__ import annotations

from diagnosis.errors import ClinicError

#: Answers after which the same request may succeed later without anybody changing it.
LATER = frozenset({409, 429, 503, 507})


class FederationError(ClinicError):
    """Anything the network of hospitals refuses. `reason` is one word for programs."""

    status = 400
    reason = "refused"


class NotAuthentic(FederationError):
    """A request that nobody known has signed in this form. `reason` says which check it failed."""

    status = 401

    def __init__(self, sentence: str, *, reason: str = "forged") -> None:
        super().__init__(sentence)
        self.reason = reason


class NotAMember(FederationError):
    """A key that the federation does not know, or no longer accepts."""

    status = 403
    reason = "not-a-member"


class NotHere(FederationError):
    """Nothing with this name is here (yet)."""

    status = 404
    reason = "not-here"


class Conflict(FederationError):
    """Something else came first. `details` says where to go on."""

    status = 409
    reason = "conflict"

    def __init__(self, sentence: str, **details: int) -> None:
        super().__init__(sentence)
        self.details = details


class TooLarge(FederationError):
    """More bytes than anything of the protocol has."""

    status = 413
    reason = "too-large"


class InvalidMessage(FederationError):
    """A message, file or tensor that is not in the protocol's form."""

    status = 422
    reason = "invalid"


class NoRoom(FederationError):
    """The disk or a site's share of it is full. What was stored before stays."""

    retry = True
    status = 507
    reason = "no-room"


class Unreachable(FederationError):
    """The other side cannot be reached or is busy; the same request may be sent again later."""

    retry = True
    status = 503
    reason = "unreachable"


class ClockWrong(FederationError):
    """This machine's clock is too far from the coordinator's to be corrected by the program."""

    status = 409
    reason = "clock"


class Refused(FederationError):
    """The coordinator answered, and the answer was no."""

    def __init__(self, status: int, sentence: str, *, reason: str = "refused", **details: int) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.details = details
        self.retry = status in LATER
