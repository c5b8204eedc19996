"""The Celery app: three queues, JSON messages that carry a job's number, nothing else.

The same tasks and routes run in the embedded worker (memory:// broker, own thread, see embedded) and on
any number of machines with `celery -A gestaltweb worker -Q analyse,train,federate`.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutdown
from django.conf import settings
from kombu.entity import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gestaltweb.settings.dev")
os.umask(0o077)  # a worker's files are this account's alone

QUEUES = ("analyse", "train", "federate")
# The virtual transports look for messages this often; kombu's default of a second would be felt.
POLL_SECONDS = 0.05

app = Celery("gestaltweb")
app.set_default()  # for every thread, not only the one that imports this
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=[
        Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]
        for name in QUEUES  # without its own key each would also get the default queue's messages
    ],
    task_default_queue="analyse",
    task_create_missing_queues=False,
    task_serializer="json",
    accept_content=["json"],  # a message is never unpickled
    result_backend=None,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    broker_connection_max_retries=None,
)
if str(app.conf.broker_url or "").startswith("memory:"):
    app.conf.broker_url = "memory://localhost/"
    app.conf.broker_transport_options = {"polling_interval": POLL_SECONDS}
else:  # several sites may share one Redis
    app.conf.broker_transport_options = {"global_keyprefix": f"gw-{settings.SITE_SLUG}:"}
app.autodiscover_tasks()


def _begin_sweeping(**_: Any) -> None:
    """A worker process of its own also sweeps: there is no other place for it in production."""
    from gestaltweb.embedded import sweeper

    sweeper.start()


def _end_sweeping(**_: Any) -> None:
    from gestaltweb.embedded import sweeper

    sweeper.stop()


worker_ready.connect(_begin_sweeping)
worker_shutdown.connect(_end_sweeping)
