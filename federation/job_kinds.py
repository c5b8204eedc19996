"""The federation's kinds of long work by name; the tasks themselves need torch, and workers import them."""

from __future__ import annotations

import datetime as dt
from typing import Final

from diagnosis.jobs import register_kind

QUEUE: Final = "train"
#: The features of some thousand photos take a large network hours on a CPU; they are stored one by one.
LONGEST: Final = dt.timedelta(hours=12)
#: kind of job → name of its task
KINDS: Final = {
    "federation_prepare": "federation.prepare", "federation_candidate": "federation.candidate",
    "federation_adopt": "federation.adopt", "federation_install": "federation.install",
}  # fmt: skip


def register() -> None:
    """Make the kinds known; called when the app is ready, in every process."""
    for kind, task in KINDS.items():
        register_kind(kind, task, QUEUE, longest=LONGEST)
