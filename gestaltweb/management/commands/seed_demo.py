"""Fill this home with synthetic patients. For the demonstration only: refuses a home that has patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from diagnosis.models import Patient
from diagnosis.synthetic.manifest import load_shipped
from gestaltweb.demo import seed


class Command(BaseCommand):
    help = "Fill this empty home with the shipped synthetic patients of one hospital (A, B, C or D)."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("hospital", choices=["A", "B", "C", "D"])
        parser.add_argument("--people", type=int, help="only this many solved patients and one unsolved")

    def handle(self, *args: Any, **options: Any) -> None:
        if Patient.objects.exists():
            raise CommandError("This home has patients already; remove the whole home to start afresh.")
        home, cohort = Path(settings.GESTALTWEB_HOME), load_shipped()
        persons = seed.persons_of(cohort, options["hospital"], options["people"])
        say = self.stderr.write
        staff = seed.accounts_make(home)["geneticist"]
        seed.patients_add(persons, cohort, staff, say)
        seed.jobs_run("analyse_photo", say)
        seed.diagnoses_confirm(persons, staff)
        seed.jobs_run("rank_case", say)
        seed.waiting_case_show(staff)
        (home / "seeded").write_text(cohort.name, encoding="utf-8")
