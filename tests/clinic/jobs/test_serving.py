"""The pieces around the server: what is logged, what a broker may carry, what the sweep survives."""

from __future__ import annotations

import logging

import pytest

from diagnosis.log_privacy import WithoutSecrets, redact
from gestaltweb import embedded
from gestaltweb.celery import QUEUES, app
from gestaltweb.management.commands.serve import log_config


@pytest.mark.parametrize(
    "path, logged",
    [
        ("/cases/12/", "/cases/12/"),
        ("/cases/?search=Smith", "/cases/"),
        ("/intake/b2pQvG8xw7Yk3Lr1ZtNf0A/?language=de", "/intake/…/"),
        ("/key/1-did095-a7bf9f3e8fb564c4684021ceb980258f/", "/key/…/"),
        ("HTTP/1.1", "HTTP/1.1"),
    ],
)  # fmt: skip
def test_paths_lose_queries_and_one_time_secrets(path: str, logged: str) -> None:
    assert redact(path) == logged


def test_both_lines_that_uvicorn_writes_go_through_the_filter() -> None:
    """One for requests, one for sockets; the filter stands in every handler."""
    config = log_config()
    assert all(handler["filters"] == ["private"] for handler in config["handlers"].values())
    arguments = ("127.0.0.1:5", "GET", "/ledger/?code=SECRET", "1.1", 200)
    line = logging.LogRecord("uvicorn.access", 20, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None)
    assert WithoutSecrets().filter(line) and "SECRET" not in line.getMessage()
    line = logging.LogRecord(
        "uvicorn.error", 20, "", 0, '%s - "WebSocket %s" [accepted]', ("h", "/ws/?a=SECRET"), None
    )
    assert WithoutSecrets().filter(line) and "SECRET" not in line.getMessage()


def test_messages_are_json_and_every_queue_gets_only_its_own() -> None:
    assert app.conf.accept_content == ["json"] and app.conf.task_serializer == "json"
    found = {queue.name: (queue.exchange.name, queue.routing_key) for queue in app.conf.task_queues}
    assert found == {name: (name, name) for name in QUEUES}
    assert not app.conf.worker_enable_remote_control and app.conf.result_backend is None


def test_every_kind_of_job_has_a_task_on_a_known_queue() -> None:
    from diagnosis.jobs import TASKS

    app.loader.import_default_modules()
    assert {task for task, _ in TASKS.values()} <= set(app.tasks)
    assert {queue for _, queue in TASKS.values()} <= set(QUEUES)


def test_one_failing_part_does_not_stop_the_sweep(db, monkeypatch, caplog) -> None:
    from diagnosis import jobs
    from diagnosis.services import model, photo, replay

    done: list[str] = []

    def broken() -> int:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(jobs, "sweep", broken)
    monkeypatch.setattr(photo, "abandoned_discard", lambda: done.append("uploads"))
    monkeypatch.setattr(model, "adoption_follow", lambda: done.append("lists"))
    monkeypatch.setattr(replay, "erasures_replay", lambda: done.append("erasures"))
    embedded.sweep_once(thorough=False)
    embedded.sweep_once(thorough=True)
    assert done == ["lists", "uploads", "lists", "uploads", "erasures"]


def test_one_server_per_home(site_home) -> None:
    first = embedded._alone()
    with pytest.raises(RuntimeError, match="already runs"):
        embedded._alone()
    first.close()
    embedded._alone().close()
