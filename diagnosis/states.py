"""Every workflow of the clinic as a table {(state, event): next}. A pair that is missing is not allowed.

States are named for what is known, events for what happened. The one function that applies a table is
`diagnosis.services.transitions.move`.
"""

from __future__ import annotations

from typing import Final

Table = dict[tuple[str, str], str]


class IllegalMove(Exception):
    """The event does not fit the state; nothing was changed."""

    def __init__(self, workflow: str, state: str, event: str) -> None:
        super().__init__(f"{workflow}: '{event}' is not possible while it is '{state}'. Reload the page.")
        self.workflow, self.state, self.event = workflow, state, event


PHOTO: Final[Table] = {
    ("received", "analysis_started"): "analysing",
    ("received", "refused"): "refused",
    ("analysing", "analysis_started"): "analysing",  # a worker died; another one begins again
    ("analysing", "embedded"): "ready",
    ("analysing", "refused"): "refused",
    ("analysing", "failed"): "failed",
    ("ready", "rerun"): "received",
    ("refused", "rerun"): "received",
    ("failed", "rerun"): "received",
}

CASE: Final[Table] = {
    ("open", "photo_added"): "open",
    ("open", "ranked"): "ranked",
    ("ranked", "photo_added"): "open",
    ("ranked", "list_erased"): "open",  # with the photo that it was made from
    ("ranked", "ranked"): "ranked",
    ("ranked", "diagnosed"): "solved",
    ("ranked", "left_unsolved"): "unsolved",
    ("open", "diagnosed"): "solved",
    ("open", "left_unsolved"): "unsolved",
    ("solved", "reopened"): "open",
    ("unsolved", "reopened"): "open",
    ("unsolved", "ranked"): "unsolved",
    ("solved", "ranked"): "solved",
    ("unsolved", "diagnosed"): "solved",
    ("unsolved", "photo_added"): "open",
    ("solved", "photo_added"): "solved",
    ("open", "withdrawn"): "withdrawn",
    ("ranked", "withdrawn"): "withdrawn",
    ("solved", "withdrawn"): "withdrawn",
    ("unsolved", "withdrawn"): "withdrawn",
}

CONSENT: Final[Table] = {
    ("none", "signed"): "given",
    ("given", "signed"): "given",
    ("given", "withdrawn"): "withdrawn",
    ("withdrawn", "signed"): "given",
}

JOB: Final[Table] = {
    ("queued", "claimed"): "running",
    ("running", "claimed"): "running",  # the lease had expired
    ("running", "finished"): "done",
    ("running", "retry"): "queued",
    ("running", "failed"): "failed",
    ("failed", "requeued"): "queued",
    ("done", "requeued"): "queued",
}

EXTRACTOR: Final[Table] = {
    ("installed", "adopted"): "adopted",
    ("adopted", "replaced"): "retired",
    ("retired", "adopted"): "adopted",
}

TABLES: Final[dict[str, Table]] = {
    "photo": PHOTO,
    "case": CASE,
    "consent": CONSENT,
    "job": JOB,
    "extractor": EXTRACTOR,
}


def states_of(table: Table) -> list[str]:
    """All states of a table, in order of first mention."""
    seen: dict[str, None] = {}
    for (state, _), following in table.items():
        seen.setdefault(state)
        seen.setdefault(following)
    return list(seen)


def next_state(workflow: str, state: str, event: str) -> str:
    """The state after `event`, or IllegalMove."""
    try:
        return TABLES[workflow][(state, event)]
    except KeyError:
        raise IllegalMove(workflow, state, event) from None
