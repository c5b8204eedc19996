"""Who may be sent to the kernel at all: consent, and no part in any sum that was ever opened.

A coordinator that holds opened class sums or moments and masked rows of the same patients finds the mask
(`experiments.privacy_masks`). What was opened stays open, so a patient who once stood in a sum stays out of
the kernel for good, under every model: the masks of two models hide the same faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Opened:
    """One contribution: its patients by the hospital's own identifiers, and whether it may have been opened.

    opened: an attempt in which any unmasking share was sent counts as opened, whatever was announced.
    """

    patients: frozenset[str]
    opened: bool


def eligible_patients(consenting: Iterable[str], contributions: Iterable[Opened]) -> frozenset[str]:
    """Patients who agreed to comparison (now) and stand in no opened sum (ever)."""
    summed = frozenset[str]().union(*(one.patients for one in contributions if one.opened))
    return frozenset(consenting) - summed


def summable_patients(consenting: Iterable[str], sent: Iterable[str]) -> frozenset[str]:
    """The other way round: patients for a sum, without any whose masked row was ever sent."""
    return frozenset(consenting) - frozenset(sent)
