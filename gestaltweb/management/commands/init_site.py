"""Make or complete this site: keys, database, catalogue, first admin; a hospital's model too. Idempotent."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command

from diagnosis import vault
from diagnosis.models import Role, Team, User
from diagnosis.services import catalogue, model, users


class Command(BaseCommand):
    help = "Set up this site under GESTALTWEB_HOME. Running it again completes what is missing."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--admin", default="admin", help="user name of the first site admin")
        parser.add_argument("--team", default="Dysmorphology", help="name of the first team")
        parser.add_argument(
            "--no-extractor", action="store_true", help="do not install the default extractor"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _prepare_folders()
        call_command("migrate", verbosity=0)
        catalogue.catalogue_load()
        if settings.SITE_ROLE == "hospital":
            _prepare_clinic(options)
        link = _first_admin(options["admin"])
        self.stdout.write(f"{settings.SITE_NAME} is set up in {settings.GESTALTWEB_HOME}")
        if link:
            self.stdout.write(f"First admin '{options['admin']}': set a password at {link} (works once)")


def _prepare_folders() -> None:
    for folder in (settings.GESTALTWEB_HOME, settings.GESTALTWEB_KEYS, settings.GESTALTWEB_FILES):
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    key_file = Path(settings.GESTALTWEB_KEYS) / "django.key"
    if not key_file.exists():
        vault.write_private(key_file, secrets.token_urlsafe(50).encode())
        settings.SECRET_KEY = key_file.read_text("utf-8")
    if not vault.master_versions():
        if vault.fingerprint_path().exists():
            raise CommandError("This site has its keys elsewhere: mount its key folder, then try again.")
        vault.create_master_key()
    vault.require_own_master_key()


def _prepare_clinic(options: dict[str, Any]) -> None:
    """What only a hospital has: a model and a team."""
    if not options["no_extractor"]:
        model.extractor_install_shipped()
    if not Team.objects.exists():
        users.team_create(user=None, name=options["team"])


def _first_admin(username: str) -> str | None:
    """The one-time link while no site admin has a password yet, else None."""
    admins = User.objects.filter(grants__role=Role.SITE_ADMIN, is_active=True)
    if any(admin.has_usable_password() for admin in admins):
        return None
    admin = admins.first() or users.user_create(
        user=None, username=username, full_name="", roles={Role.SITE_ADMIN}, teams=[]
    )
    return users.password_link(user=None, target=admin)
