"""How often a patient may be shown: counters for life, and questions a day.

A counter counts answers that a patient stands behind, by the hospital that learns from them. Nothing lowers
one: not a new model, not a withdrawal and return, not a declined match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.kernel.errors import KernelError, QueryRefused
from federation.kernel.policy import Policy


@dataclass(frozen=True)
class Budgets:
    """used: {patient: {hospital: answers}}. Immutable; `charge` gives the next."""

    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def by_hospital(self, patient: str, hospital: str) -> int:
        """Answers that this hospital had and the patient stood behind."""
        return self.used.get(patient, {}).get(hospital, 0)

    def in_all(self, patient: str) -> int:
        """Answers over all hospitals."""
        return sum(self.used.get(patient, {}).values())

    def is_spent(self, patient: str, hospital: str, policy: Policy) -> bool:
        """Whether the patient may stand behind no further answer to this hospital."""
        own = self.by_hospital(patient, hospital) >= policy.answers_per_hospital
        return own or self.in_all(patient) >= policy.answers_in_all

    def spent(self, hospital: str, policy: Policy) -> frozenset[str]:
        """All patients that are spent for this hospital."""
        return frozenset(patient for patient in self.used if self.is_spent(patient, hospital, policy))

    def charge(self, patient: str, hospital: str, policy: Policy) -> Budgets:
        """One answer more. KernelError where none was left: whoever asks removes spent patients before."""
        if self.is_spent(patient, hospital, policy):
            raise KernelError("A patient stood behind as many answers as the policy allows already.")
        own = self.used.get(patient, {})
        return Budgets({**self.used, patient: {**own, hospital: own.get(hospital, 0) + 1}})


@dataclass(frozen=True)
class Days:
    """Questions of each hospital on its latest day. asked: {hospital: (day, count)}."""

    asked: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, hospital: str, day: int, policy: Policy) -> tuple[Days, int]:
        """One question more, and which of the day it is; QueryRefused when the day's are used up."""
        latest, count = self.asked.get(hospital, (day, 0))
        if day < latest:
            raise QueryRefused("The question is dated before an earlier one. Check the clock and ask again.")
        number = count + 1 if day == latest else 1
        if number > policy.queries_per_day:
            raise QueryRefused("This hospital has asked its questions for today. Ask again tomorrow.")
        return Days({**self.asked, hospital: (day, number)}), number
