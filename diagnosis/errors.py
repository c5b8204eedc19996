"""Errors of the clinic. Each knows whether its message may be shown and whether trying again can help."""

from __future__ import annotations


class ClinicError(Exception):
    """Something a user asked for could not be done; `str(error)` is a sentence that may be shown."""

    retry = False
    status = 400


class NotAllowed(ClinicError):
    """The user's role, team or second factor does not allow this."""

    status = 403


class ConsentMissing(ClinicError):
    """The patient has not agreed to this use, or has withdrawn."""

    status = 403


class InvalidInput(ClinicError):
    """What was entered cannot be used; the sentence says what to change."""

    status = 400


class Duplicate(ClinicError):
    """The same thing is already here."""

    status = 409


class Unreadable(ClinicError):
    """Sealed data that cannot be opened: erased, damaged, or sealed for something else."""

    status = 410


class LeaseLost(ClinicError):
    """Another worker took this job over; this one's effect is rolled back."""

    retry = True
    status = 409


class NotReady(ClinicError):
    """Something needed first is missing (a model, a gallery); the sentence says what."""

    retry = True
    status = 409
