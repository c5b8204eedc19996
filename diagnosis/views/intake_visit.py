"""One visit to the intake: who it is about, how they came in, and the answers so far, kept in the session.

The session holds the patient's primary key and answers only; names and signatures never rest there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import Any

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone, translation

from diagnosis import vault
from diagnosis.intake_lock import lock
from diagnosis.models import Patient, User
from diagnosis.views.ledger_visit import INTAKE_KEY, ledger_now

KEY = INTAKE_KEY
MINUTES = 60
MODES = ("tablet", "link", "ledger")


@dataclass
class Visit:
    """`signed` is the primary key of the Consent row once signed; then only its pages are open."""

    patient: int
    mode: str
    language: str
    link: int | None = None
    staff: int | None = None
    signed: int | None = None
    ended: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    seen: float = 0.0

    def save(self, request: HttpRequest) -> None:
        self.seen = timezone.now().timestamp()
        request.session[KEY] = asdict(self)

    def row(self) -> Patient:
        return Patient.objects.get(pk=self.patient)

    def staff_user(self) -> User | None:
        return User.objects.get(pk=self.staff) if self.staff else None


def visit_of(request: HttpRequest) -> Visit | None:
    """The visit of this session, unless it is over or has rested for an hour.

    A visit that began in the ledger lives no longer than the ledger is open to the same patient.
    """
    stored = request.session.get(KEY)
    if not stored:
        return None
    visit = Visit(**stored)
    if timezone.now().timestamp() - visit.seen > MINUTES * 60 or not _ledger_allows(request, visit):
        request.session.pop(KEY, None)
        return None
    return visit


def _ledger_allows(request: HttpRequest, visit: Visit) -> bool:
    if visit.mode != "ledger":
        return True
    patient = ledger_now(request)
    return patient is not None and patient.pk == visit.patient


def visit_start(request: HttpRequest, visit: Visit) -> None:
    """Begin. On a tablet the staff member is signed out first: nothing of theirs is left in the session."""
    if visit.mode == "tablet":
        logout(request)
        lock(request)
    elif visit.mode == "link":
        request.session.cycle_key()
    visit.save(request)


def in_visit(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Pass the visit as second argument, in its language; without one go to the page that says so."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        visit = visit_of(request)
        if visit is None or not _still_open(visit):
            return redirect("clinic:intake_end")
        translation.activate(visit.language)
        request.LANGUAGE_CODE = visit.language
        return view(request, visit, *args, **kwargs)

    return inner


def _still_open(visit: Visit) -> bool:
    """The patient may have withdrawn elsewhere meanwhile."""
    patient = Patient.objects.filter(pk=visit.patient).first()
    return patient is not None and (vault.has_key(patient.key) or visit.ended)
