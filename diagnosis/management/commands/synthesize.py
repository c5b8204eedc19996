"""Render a cohort of synthetic patients from its recipe. Needs the extra `synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from diagnosis.synthetic.recipes import RECIPES, recipe_named


class Command(BaseCommand):
    help = "Render a cohort of people who do not exist, bit for bit from its recipe's seed."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--recipe", default="demo", choices=sorted(RECIPES))
        parser.add_argument("--out", required=True, type=Path, help="an empty or new folder")
        parser.add_argument("--workers", type=int, default=1, help="processes that render")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Path = options["out"]
        if out.exists() and any(out.iterdir()):
            raise CommandError(f"{out} is not empty. Name a new folder.")
        try:
            from diagnosis.synthetic.cohort import write_cohort
        except ImportError as error:
            raise CommandError(
                f"{error.name} is missing. Install the extra: pip install '.[synthetic]'."
            ) from None
        write_cohort(recipe_named(options["recipe"]), out, workers=options["workers"])
        self.stdout.write(f"The cohort {options['recipe']} lies in {out}.")
