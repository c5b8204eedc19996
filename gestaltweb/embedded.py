"""What runs inside the server: a real Celery worker in a thread of its own, the sweep, the federation's loop.

A coordinator has no work of a clinic, so there only the loop runs and torch is never loaded. All this only in
the embedded default (no CELERY_BROKER_URL); else `celery … worker` and `manage.py agent` run on their own.
Celery's command line would install signal handlers, write a pid file and take over logging, none of which a
thread may do, so its WorkController is used.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import close_old_connections

log = logging.getLogger(__name__)
STOP_SECONDS = 20.0
REPLAY_EVERY = 40  # sweeps: ten minutes at the usual fifteen seconds


class Sweeper:
    """A thread that makes good what was lost: messages, leases, half uploads, erasures cut off by a crash."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sweep now and every JOB_SWEEP_SECONDS; starting twice is fine."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _run(self) -> None:
        count = 0
        while True:
            close_old_connections()
            sweep_once(thorough=count % REPLAY_EVERY == 0)
            close_old_connections()
            count += 1
            if self._stop.wait(settings.JOB_SWEEP_SECONDS):
                return


def sweep_once(*, thorough: bool) -> None:
    """One round; what fails is logged and tried again in the next. `thorough` also replays erasures."""
    from diagnosis import engine, jobs
    from diagnosis.services.model import adoption_follow
    from diagnosis.services.photo import abandoned_discard
    from diagnosis.services.replay import erasures_replay

    rounds: list[Callable[[], object]] = [jobs.sweep, adoption_follow, abandoned_discard]
    rounds += [engine.galleries_refresh]
    rounds += [erasures_replay] if thorough else []
    for work in rounds:
        try:
            work()
        except Exception:  # the sweep must outlive a database that is away for a minute
            log.exception("sweep: a part failed")


sweeper = Sweeper()


class EmbeddedWorker:
    """Starts and stops with the server, on the server's event loop."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._controller: Any = None
        self._lock_file: IO[str] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the site's lock, hand progress to `loop`, begin to work. RuntimeError for a second server."""
        from diagnosis import vault
        from federation.agent import loop as federation

        vault.require_own_master_key()
        self._lock_file = _alone()
        if settings.SITE_ROLE == "hospital":
            self._start_clinic(loop)
        federation.start()

    def _start_clinic(self, loop: asyncio.AbstractEventLoop) -> None:
        from diagnosis import jobs, progress

        progress.serve_from(loop)
        jobs.release_dead_leases()
        close_old_connections()
        self._controller = _controller()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()
        sweeper.start()

    def stop(self) -> None:
        """Let the job in hand end, then stop. What waits stays in the Job table."""
        from celery.worker import state

        from diagnosis import progress
        from federation.agent import loop as federation

        federation.stop()
        sweeper.stop()
        progress.serve_from(None)
        if self._thread is not None:
            state.should_stop = os.EX_OK
            self._thread.join(STOP_SECONDS)
            state.should_stop = None
            self._thread = None
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _work(self) -> None:
        _warm_up()
        try:
            self._controller.start()
        except SystemExit:  # how a worker says that it was asked to stop
            pass
        except Exception:  # the page says that the photo waits; the log says why
            log.exception("the embedded worker ended")


def _controller() -> Any:
    from celery.worker import WorkController

    from gestaltweb.celery import QUEUES, app

    app.finalize()
    app.loader.import_default_modules()
    return WorkController(
        app=app,
        hostname=f"embedded-{settings.SITE_SLUG}@localhost",
        pool_cls="solo",
        concurrency=1,
        queues=list(QUEUES),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )


def _warm_up() -> None:
    """Load the networks before the first photo asks for them; it takes seconds."""
    from diagnosis import engine
    from diagnosis.errors import ClinicError

    try:
        engine.detector()
        engine.ensemble(engine.extractor_now())
    except ClinicError as error:
        log.warning("no model in use yet: %s", error)
    except Exception:  # the first job will meet it again and say so
        log.exception("the model could not be loaded")
    finally:
        close_old_connections()


def _alone() -> IO[str]:
    """The lock of this GESTALTWEB_HOME: two embedded workers on one SQLite file would wake no one else's."""
    path = Path(settings.GESTALTWEB_HOME) / "serve.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RuntimeError(
            f"A server already runs for {settings.GESTALTWEB_HOME}. Stop it first, or use another home."
        ) from None
    return lock


worker = EmbeddedWorker()
