"""Fill this empty home for the demonstration: accounts, and at a hospital synthetic patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from diagnosis.models import Patient, User
from diagnosis.synthetic.manifest import load_shipped
from gestaltweb.demo import seed


class Command(BaseCommand):
    help = "Fill this empty home with the shipped synthetic patients of one hospital; a coordinator has none."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("hospital", nargs="?", choices=["A", "B", "C", "D"])
        parser.add_argument("--people", type=int, help="only this many solved patients and one unsolved")

    def handle(self, *args: Any, **options: Any) -> None:
        if Patient.objects.exists():
            raise CommandError("This home has patients already; remove the whole home to start afresh.")
        if (options["hospital"] is None) != (settings.SITE_ROLE == "coordinator"):
            raise CommandError("Name one of the hospitals A to D, and none at a coordinator.")
        home = Path(settings.GESTALTWEB_HOME)
        accounts = seed.accounts_make(home)
        if options["hospital"]:
            self._fill(accounts["geneticist"], options["hospital"], options["people"])
        (home / "seeded").touch()

    def _fill(self, staff: User, hospital: str, people: int | None) -> None:
        cohort = load_shipped()
        persons = seed.persons_of(cohort, hospital, people)

        def say(line: str) -> None:
            self.stderr.write(f"{hospital}: {line.strip()}")

        seed.patients_add(persons, cohort, staff, say)
        seed.jobs_run("analyse_photo", say)
        seed.diagnoses_confirm(persons, staff)
        seed.jobs_run("rank_case", say)
        seed.waiting_case_show(staff)
