"""Accuracy on GestaltMatcher's split files, as its papers state it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from diagnosis.phenotype.errors import PhenotypeError
from diagnosis.phenotype.ranking.gmdb import SETTINGS, evaluate


class Command(BaseCommand):
    help = "Macro and micro top-1/5/10/30 in per cent from encodings and split files of one GMDB version."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--encodings", required=True, type=Path, help="the encodings CSV")
        parser.add_argument("--metadata", required=True, type=Path, help="folder of the split CSVs")
        parser.add_argument("--gmdb-version", required=True, help="1.1.0 or v1.1.0")
        parser.add_argument("--fuse-photos", action="store_true", help="average the photos of one subject")
        parser.add_argument("--skip-missing", action="store_true", help="leave out images without encodings")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            results = evaluate(
                options["encodings"], options["metadata"], options["gmdb_version"],
                fuse_photos=options["fuse_photos"], skip_missing=options["skip_missing"],
            )  # fmt: skip
        except PhenotypeError as refused:
            raise CommandError(str(refused)) from None
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from None
        self.stdout.write(json.dumps(results, indent=2) if options["json"] else as_text(results))


def as_text(results: dict[str, dict[str, Any]]) -> str:
    """A small table for a terminal."""
    lines = [f"{'':10s}{'top-1':>8s}{'top-5':>8s}{'top-10':>8s}{'top-30':>8s}   (macro, per cent)"]
    for name in SETTINGS:
        figures = "".join(f"{results[name][f'top{k}']:8.2f}" for k in (1, 5, 10, 30))
        lines.append(f"{name:10s}{figures}")
    return "\n".join(lines)
