"""Every workflow of the federation as a table {(state, event): next}. A pair that is missing is not allowed.

States are named for what is known, events for what happened. `services.transitions.move` applies the tables.
"""

from __future__ import annotations

from typing import Final

from diagnosis.states import IllegalMove, Table, states_of

__all__ = ["ENDED", "TABLES", "IllegalMove", "next_state", "open_states", "states_of"]

ENDED: Final = frozenset({"published", "aborted"})

_STEPS: Final[Table] = {
    ("proposed", "asked"): "approving",
    ("approving", "answered"): "counting",
    ("counting", "keys_asked"): "keying",
    ("keying", "shares_dealt"): "training",
    ("training", "input_arrived"): "collecting",
    ("collecting", "inputs_closed"): "unmasking",
    ("unmasking", "keys_asked"): "keying",  # the next member of the ensemble
    ("unmasking", "candidate_asked"): "validating",
    ("validating", "published"): "published",
    # A new attempt, without the site that the last one failed on. Nothing was opened in it.
    ("keying", "keys_asked"): "keying",
    ("training", "keys_asked"): "keying",
    ("collecting", "keys_asked"): "keying",
}
ROUND: Final[Table] = _STEPS | {
    (state, "aborted"): "aborted" for state in states_of(_STEPS) if state not in ENDED
}

_PART: Final[Table] = {
    ("invited", "approved"): "approved",
    ("invited", "declined"): "declined",
    ("approved", "keys_sent"): "keyed",
    ("keyed", "trained"): "trained",
    ("trained", "uploaded"): "uploaded",
    ("uploaded", "confirmed"): "confirmed",
    ("confirmed", "adopted"): "done",
    # The next member, or another attempt.
    ("keyed", "keys_sent"): "keyed",
    ("trained", "keys_sent"): "keyed",
    ("uploaded", "keys_sent"): "keyed",
    ("confirmed", "keys_sent"): "keyed",
}
PARTICIPATION: Final[Table] = _PART | {
    (state, "dropped"): "dropped" for state in states_of(_PART) if state not in ("declined", "done")
}

_SUM: Final[Table] = {
    ("keys", "keys_closed"): "shares",
    ("shares", "shares_closed"): "inputs",
    ("inputs", "inputs_closed"): "survivors",
    ("survivors", "opened"): "opened",
}
#: One secure sum as everybody sees it.
SUM: Final[Table] = _SUM | {(state, "failed"): "failed" for state in states_of(_SUM) if state != "opened"}

_OWN: Final[Table] = {
    ("asked", "advertised"): "advertised",
    ("advertised", "shared"): "shared",
    ("shared", "received"): "received",
    ("received", "prepared"): "prepared",  # the plain input lies in the key folder
    ("prepared", "withdrawn"): "received",  # a patient withdrew: the input is made again without them
    ("prepared", "masked"): "masked",
    ("masked", "signed"): "signed",
    ("signed", "answered"): "answered",
}
#: This site's own side of one secure sum. `left`: it takes no further part, whatever is asked.
OWN_SUM: Final[Table] = _OWN | {(state, "left"): "left" for state in states_of(_OWN) if state != "answered"}

PEER: Final[Table] = {
    ("joined", "rotated"): "joined",
    ("joined", "left"): "left",
    ("joined", "removed"): "removed",
}

TABLES: Final[dict[str, Table]] = {
    "round": ROUND,
    "participation": PARTICIPATION,
    "sum": SUM,
    "own_sum": OWN_SUM,
    "peer": PEER,
}


def next_state(workflow: str, state: str, event: str) -> str:
    """The state after `event`, or IllegalMove."""
    try:
        return TABLES[workflow][(state, event)]
    except KeyError:
        raise IllegalMove(workflow, state, event) from None


def open_states(workflow: str, ended: frozenset[str] = ENDED) -> list[str]:
    """The states of a workflow that something still follows on."""
    return [state for state in states_of(TABLES[workflow]) if state not in ended]
