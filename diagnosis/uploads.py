"""Uploads stay in memory: photos never touch a temporary file in plain."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import MemoryFileUploadHandler


class InMemoryUploads(MemoryFileUploadHandler):
    """Keeps every file in memory whatever the request's size; `gestaltweb.limits` caps that before.

    Django's own handler switches itself off for a large request, which would drop its files silently.
    """

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        self.activated = True
