"""The federation's kinds of long work by name; the tasks themselves need torch, and workers import them."""

from __future__ import annotations

from typing import Final

from diagnosis.jobs import register_kind

QUEUE: Final = "train"
#: kind of job → name of its task
KINDS: Final = {
    "federation_prepare": "federation.prepare", "federation_candidate": "federation.candidate",
    "federation_adopt": "federation.adopt",
}  # fmt: skip


def register() -> None:
    """Make the kinds known; called when the app is ready, in every process."""
    for kind, task in KINDS.items():
        register_kind(kind, task, QUEUE)
