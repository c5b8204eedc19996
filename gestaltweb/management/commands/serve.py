"""Serve this site from one process: pages, sockets and, in the embedded default, the worker."""

from __future__ import annotations

import os
from typing import Any

from django.core.management import BaseCommand

from diagnosis.log_privacy import WithoutSecrets


def log_config() -> dict[str, Any]:
    """uvicorn's own logging with the filter in front."""
    from uvicorn.config import LOGGING_CONFIG

    usual = LOGGING_CONFIG["handlers"]
    handlers = {name: handler | {"filters": ["private"]} for name, handler in usual.items()}
    return LOGGING_CONFIG | {"filters": {"private": {"()": WithoutSecrets}}, "handlers": handlers}


class Command(BaseCommand):
    help = "Serve this site (uvicorn, one process). Set it up first with `manage.py init_site`."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--quiet", action="store_true", help="no access log")

    def handle(self, *args: Any, **options: Any) -> None:
        # Before torch and numpy are loaded: small matrices are slower on several threads.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        os.umask(0o077)  # whatever this site writes is for its own account alone
        import uvicorn

        uvicorn.run(
            "gestaltweb.asgi:application",
            host=options["host"],
            port=options["port"],
            lifespan="on",
            access_log=not options["quiet"],
            log_config=log_config(),
            server_header=False,
            ws_max_size=4096,
            timeout_graceful_shutdown=10,
        )
