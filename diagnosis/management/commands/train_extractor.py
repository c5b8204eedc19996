"""Train the default extractor on synthetic people, calibrate it, evaluate it. Needs the extra `synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Train the default extractor from its committed configuration: hours; --quick: seconds."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--out", required=True, type=Path, help="folder for weights, card and measurements"
        )
        parser.add_argument("--work", required=True, type=Path, help="folder for rendered faces, used again")
        parser.add_argument("--workers", type=int, default=1, help="processes that render")
        parser.add_argument("--quick", action="store_true", help="only see that every step of training runs")
        parser.add_argument("--generic", type=Path, help="archive of the generic recogniser to compare with")
        parser.add_argument("--report", type=Path, help="write the page with curves and figures there")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from diagnosis.synthetic import training
        except ImportError as error:
            raise CommandError(f"{error.name} is missing: pip install '.[synthetic]'.") from None
        config = training.quick_config() if options["quick"] else training.TrainConfig()
        trained = training.train(
            config,
            work=options["work"],
            out=options["out"],
            workers=options["workers"],
            say=self.stdout.write,
        )
        self.stdout.write(f"{trained.weights.name}: sha256 {trained.sha256}")
        if not options["quick"]:
            self._measure(trained.weights, config, options)

    def _measure(self, weights: Path, config: Any, options: dict[str, Any]) -> None:
        from diagnosis.phenotype.embed.default import extractor_at
        from diagnosis.synthetic import release, report
        from diagnosis.synthetic.training_render import measure_landmark_error

        work, workers = options["work"], options["workers"]
        error = measure_landmark_error(config.portraits)
        release.calibrate_extractor(weights, work=work, error=error, workers=workers)
        release.evaluate_extractor(
            weights, work=work, generic=options["generic"], workers=workers, say=self.stdout.write
        )
        if options["report"]:
            report.write_report(options["report"], extractor_at(weights))
