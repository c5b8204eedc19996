"""System checks at start: arrangements that would lose work or leave keys open are said before serving."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register("gestaltweb")
def check_arrangement(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Separate workers need a database and a channel layer that they share with the server."""
    if settings.EMBEDDED_WORKER:
        return []
    found: list[CheckMessage] = []
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        found.append(
            Error(
                "Separate workers are set up (CELERY_BROKER_URL) but the database is SQLite.",
                hint="Set DATABASE_URL to PostgreSQL, or leave CELERY_BROKER_URL empty.",
                id="gestaltweb.E001",
            )
        )
    if "InMemory" in str(settings.CHANNEL_LAYERS["default"]["BACKEND"]):
        found.append(
            Error(
                "Separate workers are set up (CELERY_BROKER_URL) but their progress cannot reach the pages.",
                hint="Set REDIS_URL, or leave CELERY_BROKER_URL empty.",
                id="gestaltweb.E002",
            )
        )
    return found


@register(Tags.security)
def check_key_folder(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Keys are for the site's own account alone."""
    folder = Path(settings.GESTALTWEB_KEYS)
    if folder.exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return [
            Warning(
                f"The key folder {folder} can be opened by other accounts.",
                hint=f"chmod 700 {folder}",
                id="gestaltweb.W001",
            )
        ]
    return []


@register(Tags.database)
def check_weights(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """The weights of the model in use lie where they are looked for. Only run where a database is asked."""
    if not databases:
        return []
    from diagnosis import engine
    from diagnosis.selectors import extractor_adopted

    extractor = extractor_adopted()
    members = extractor.members.all() if extractor is not None else []
    return [
        Error(
            f"The weights of {member.name} of the model in use are missing.",
            hint=f"Restore {engine.weights_path(member.sha256)} or install them with install_weights.",
            id="gestaltweb.E003",
        )
        for member in members
        if not engine.weights_path(member.sha256).exists()
    ]
