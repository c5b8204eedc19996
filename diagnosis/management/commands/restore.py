"""manage.py restore SOURCE: bring a backup back; who withdrew since stays erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from diagnosis.services.backup import BackupError, backup_restore


class Command(BaseCommand):
    help = "Restore a backup with today's keys. Stop the site first. Erasures made since are done again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", type=Path, help="the file that `backup` wrote")
        parser.add_argument("--replace", action="store_true", help="overwrite a site that has patients")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = backup_restore(source=options["source"], replace=options["replace"])
        except BackupError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"Restored. Files written: {report.files}. Erasures done again: {report.erasures}. "
            f"Patients whose choices were narrowed again: {report.narrowed}. "
            f"Ledger codes replaced again: {report.codes}."
        )
        self.stdout.write(
            f"Ended: {report.links} one-time links, {report.tokens} API tokens, all sessions. Make new ones. "
            "Accounts, roles, passwords and second factors are those of the backup: a site admin must review "
            "them now, before the site is started for everybody."
        )
