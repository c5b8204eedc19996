"""manage.py backup TARGET: database, sealed files and models in one sealed file, never the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from diagnosis.services.backup import BackupError, backup_write


class Command(BaseCommand):
    help = "Write a backup to a new sealed file. It opens only with the key folder: keep that safe by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("target", type=Path, help="a new file")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = backup_write(target=options["target"])
        except BackupError as error:
            raise CommandError(str(error)) from None
        count = len(manifest["files"])
        self.stdout.write(f"{options['target']}: {count} files, sealed; needs {manifest['needs']}.")
