"""The federation's loop in a process of its own: for sites whose workers are not inside the server."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management import BaseCommand, CommandError

from diagnosis import vault
from federation.agent import loop


class Command(BaseCommand):
    help = (
        "Follow this site's federation until SIGTERM; at the coordinator, move rounds on. One a site. "
        "Without CELERY_BROKER_URL `manage.py serve` does this itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        vault.require_own_master_key()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.stop())
        try:
            loop.run_forever()
        except RuntimeError as error:
            raise CommandError(str(error)) from None
