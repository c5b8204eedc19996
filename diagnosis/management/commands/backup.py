"""manage.py backup TARGET: database, sealed files and models, never the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from diagnosis.services.backup import BackupError, backup_write


class Command(BaseCommand):
    help = (
        "Write a backup to a new folder or .tar file. Keys are not in it: keep the key folder safe by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("target", type=Path, help="a new folder, or a new file that ends in .tar")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = backup_write(target=options["target"])
        except BackupError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{options['target']}: {len(manifest['files'])} files, without any key.")
