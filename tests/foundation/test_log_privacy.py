"""A one-time link's secret never reaches a log line, whichever logger writes it."""

from __future__ import annotations

import logging

from django.conf import settings

from diagnosis.log_privacy import WithoutSecrets, redact

TOKEN = "Zk3vQ0p-hx7_Yt2LmN8rBw4sDf6gHj1k"


def test_paths_lose_query_and_token() -> None:
    assert redact(f"/i/{TOKEN}/?next=x") == "/i/…/"
    assert redact("/cases/7/") == "/cases/7/"


def test_every_handler_has_the_filter() -> None:
    assert all("private" in handler["filters"] for handler in settings.LOGGING["handlers"].values())
    record = logging.LogRecord("django.request", 40, "", 0, "%s: %s", ("Forbidden", f"/i/{TOKEN}/"), None)
    WithoutSecrets().filter(record)
    assert TOKEN not in record.getMessage()
