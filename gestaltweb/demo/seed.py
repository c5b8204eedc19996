"""Fills a fresh demo home through the same services that staff use: people, consents, photos, diagnoses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings
from django.utils import timezone

from diagnosis import jobs, tasks
from diagnosis.models import Case, Job, Patient, Syndrome, Team, Tier, User
from diagnosis.services import case as cases
from diagnosis.services import consent, people, photo, users, verdict
from diagnosis.synthetic.manifest import Cohort, CohortPerson
from gestaltweb.demo import homes

Say = Callable[[str], None]
RUNNERS = {
    "analyse_photo": tasks.analyse_photo,
    "rank_case": tasks.rank_case,
    "reembed_photo": tasks.reembed_photo,
}

# What every n-th person agreed to, so that each tier has people without it; the rest agree to everything.
EXCEPTIONS: dict[int, set[str]] = {
    7: {Tier.ANALYSIS},
    11: {Tier.ANALYSIS, Tier.GALLERY},
    13: {Tier.ANALYSIS, Tier.GALLERY, Tier.TRAINING},
}


def accounts_make(home: Path) -> dict[str, User]:
    """The demo's accounts with their passwords; the admin also gets a second factor."""
    logins, made = homes.logins_draw(home, settings.SITE_ROLE), {}
    teams = list(Team.objects.order_by("pk")[:1])
    for name, roles in homes.USERS[settings.SITE_ROLE].items():
        user = User.objects.filter(username=name).first()
        if user is None:
            user = users.user_create(user=None, username=name, full_name="", roles=set(roles), teams=teams)
        users.roles_set(user=None, target=user, roles=set(roles))
        users.teams_set(user=None, target=user, teams=teams)
        user.set_password(logins[name]["password"])
        user.save(update_fields=["password"])
        made[name] = user
    if not logins["admin"]["totp"]:
        logins["admin"]["totp"] = generate_totp_secret()
        TOTP.activate(made["admin"], logins["admin"]["totp"])
        homes.logins_write(home, logins)
    return made


def persons_of(cohort: Cohort, hospital: str, limit: int | None = None) -> list[CohortPerson]:
    """The people of a hospital in the order in which they are registered: solved ones first.

    With a `limit`, every syndrome keeps its first patients and one unsolved person stays.
    """
    persons = sorted(cohort.hospital(hospital), key=lambda person: person.status != "solved")
    if limit is None:
        return persons
    solved = [person for person in persons if person.status == "solved"]
    seen: dict[str | None, int] = {}
    turn = {}
    for person in solved:
        turn[person.key] = seen.get(person.syndrome, 0)
        seen[person.syndrome] = turn[person.key] + 1
    chosen = sorted(solved, key=lambda person: turn[person.key])
    unsolved = [person for person in persons if person.status == "unsolved"]
    return chosen[:limit] + unsolved[-1:]


def patients_add(persons: list[CohortPerson], cohort: Cohort, staff: User, say: Say) -> None:
    """Every person: registered, consent signed, case opened, photos added.

    The last unsolved person waits without a photo; their photos lie in photos-to-try for a first upload.
    """
    waiting = [person for person in persons if person.status == "unsolved"][-1]
    for number, person in enumerate(persons, start=1):
        case = _case_open(person, number, staff)
        if person is waiting:
            _photos_leave(cohort, person)
            continue
        for shot in person.photos:
            months = round(shot.age_years * 12)
            photo.photo_add(user=staff, case=case, data=cohort.read_photo(shot), age_months=months)
        if number % 20 == 0:
            say(f"  {number} of {len(persons)} synthetic patients registered")
    say(f"  {len(persons)} synthetic patients registered")


def _case_open(person: CohortPerson, number: int, staff: User) -> Case:
    patient = _patient_register(person, staff)
    adult = person.photos[-1].age_years >= people.ADULT_YEARS
    signer = "self" if adult else "parent"
    consent.consent_sign(
        user=staff, patient=patient, form=consent.form_current("en", signer), signer=signer,
        tiers=_tiers(number), signer_name="Synthetic Signer", signature=None, language="en",
    )  # fmt: skip
    note = "" if person.status != "unaffected" else "unaffected reference person"
    return cases.case_open(user=staff, patient=patient, note=note)


def _patient_register(person: CohortPerson, staff: User) -> Patient:
    oldest = max(shot.age_years for shot in person.photos)
    born = timezone.localdate() - dt.timedelta(days=round(oldest * 365.25) + 20)
    return people.patient_register(
        user=staff, team=staff.teams.order_by("pk")[0], given_name="Synthetic",
        family_name=f"Person {person.number}", date_of_birth=born, sex=person.sex,
        affected=person.status != "unaffected", synthetic=True,
    )  # fmt: skip


def _tiers(number: int) -> set[str]:
    for divisor, tiers in EXCEPTIONS.items():
        if number % divisor == 0:
            return set(tiers)
    return set(Tier.values)


def _photos_leave(cohort: Cohort, person: CohortPerson) -> None:
    folder = Path(settings.GESTALTWEB_HOME) / "photos-to-try"
    folder.mkdir(exist_ok=True)
    for shot in person.photos:
        (folder / f"{person.key}-{shot.number}.jpg").write_bytes(cohort.read_photo(shot))


def jobs_run(kind: str, say: Say) -> int:
    """Do all waiting jobs of one kind here and now, as a worker would; returns how many."""
    waiting = Job.objects.filter(kind=kind, state="queued")
    total, done = waiting.count(), 0
    while (pk := jobs.due().filter(kind=kind).values_list("pk", flat=True).first()) is not None:
        RUNNERS[kind](pk)
        done += 1
        if done % 40 == 0:
            say(
                f"  {done} of {total} photos analysed"
                if kind == "analyse_photo"
                else f"  {done} cases ranked"
            )
    return done


def diagnoses_confirm(persons: list[CohortPerson], staff: User) -> None:
    """Confirm what the cohort's hospital knows; the n-th case is the n-th person's."""
    syndromes = {row.identifier: row for row in Syndrome.objects.all()}
    for case, person in zip(Case.objects.order_by("pk"), persons, strict=True):
        if person.syndrome is not None and case.state != "solved":
            verdict.diagnosis_confirm(user=staff, case=case, syndrome=syndromes[person.syndrome])


def waiting_case_show(staff: User) -> None:
    """The case without a photo comes to the top of the list, and says what it waits for."""
    case = Case.objects.filter(photos__isnull=True, state="open").order_by("pk").last()
    if case is not None:
        cases.case_note(
            user=staff, case=case, note="Waits to be ranked: drop a picture from photos-to-try here."
        )
