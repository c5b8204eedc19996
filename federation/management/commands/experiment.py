"""Run one of the project's experiments on synthetic patients. Needs the extra `synthetic` to render them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

NAMES = ("gain",)


class Command(BaseCommand):
    help = "Run an experiment by name into a folder; run it again there after a stop and it goes on."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "name", choices=NAMES, help="gain: the federated model against models trained alone"
        )
        parser.add_argument("--out", required=True, type=Path, help="folder for features, parts and results")
        parser.add_argument("--quick", action="store_true", help="only see that every step runs")
        parser.add_argument(
            "--seeds", type=int, default=None, help="how many seeds, each with its own cohort"
        )
        parser.add_argument("--publish", type=Path, help="write the result's JSON and short page there too")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = {"gain": self._gain}[options["name"]]
        try:
            experiment(options, lambda line: self.stderr.write(line))
        except ImportError as error:
            raise CommandError(f"{error.name} is missing: pip install '.[synthetic]'.") from None
        except ValueError as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(f"{options['name']}.json and {options['name']}.html lie in {options['out']}.")

    def _gain(self, options: dict[str, Any], say: Callable[[str], None]) -> None:
        from federation.experiments.gain_options import SEEDS
        from federation.experiments.gain_run import publish, run_gain

        result = run_gain(options["out"], quick=options["quick"], seeds=options["seeds"] or SEEDS, say=say)
        if options["publish"]:
            publish(result, options["publish"])
