"""The federation's loop in a process of its own: for sites whose workers are not inside the server."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from gestaltweb.only_one import only_one


class Command(BaseCommand):
    help = (
        "Talk to the federation's coordinator, or at the coordinator move rounds on, until SIGTERM. One "
        "process a site. Only with CELERY_BROKER_URL: without it `manage.py serve` does this itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.EMBEDDED_WORKER:
            raise CommandError("Without CELERY_BROKER_URL `manage.py serve` runs this loop itself.")
        from federation.agent import loop

        from diagnosis import vault

        vault.require_own_master_key()
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        try:
            lock = only_one("agent.lock", "An agent")
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        with lock:
            loop.start()
            ended.wait()
            loop.stop()
