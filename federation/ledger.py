"""What the federation adds to a patient's ledger: sentences for people who are no doctors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.utils.translation import gettext as _

from diagnosis.registries import ledger_lines


def _counted(detail: dict[str, Any]) -> str:
    text = _(
        "You were counted in round %(round)s of the joint training with other hospitals. Only sums over "
        "several hospitals left this one."
    )
    return text % {"round": detail.get("round", "?")}


def _trained(detail: dict[str, Any]) -> str:
    text = _(
        "Your photos helped to train the shared model in round %(round)s. The photos did not leave this "
        "hospital. A model that has been trained cannot forget them, even if you withdraw."
    )
    return text % {"round": detail.get("round", "?")}


def _centroid(detail: dict[str, Any]) -> str:
    text = _(
        "Your photos went into the average face features of your diagnosis, published with round %(round)s. "
        "If you withdraw, you leave the averages that come later; those published already stay."
    )
    return text % {"round": detail.get("round", "?")}


LINES: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "federation.counted": _counted, "federation.trained": _trained, "federation.centroid": _centroid,
}  # fmt: skip


def register() -> None:
    """Add the lines to the clinic's registry; called once, when the app is ready."""
    for name, line in LINES.items():
        ledger_lines.register(name, line)
