"""Progress to open case pages: a hint over the channel layer. The page's truth is what it then reads.

In the embedded default the channel layer lives in the server's event loop, and a message put into it from
another thread can lie there until something else wakes that loop. So the server hands its loop over here,
and messages are scheduled on it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)
_server: dict[str, asyncio.AbstractEventLoop] = {}


def serve_from(loop: asyncio.AbstractEventLoop | None) -> None:
    """Send messages on this loop from now on; None when the server stops."""
    if loop is None:
        _server.pop("loop", None)
    else:
        _server["loop"] = loop


def group(case: int) -> str:
    """The channel group of one case's pages."""
    return f"case-{case}"


def say(*, case: int, photo: int | None, step: str, percent: int) -> None:
    """Tell the case's open pages what is going on, after the transaction in hand has been committed."""
    message = {"type": "case.changed", "photo": photo, "step": step, "progress": percent}
    transaction.on_commit(lambda: _send(group(case), message), robust=True)


def _send(name: str, message: dict[str, Any]) -> None:
    """A message that cannot be sent is a delay of a few seconds: the page also polls."""
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        loop = _server.get("loop")
        if loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(layer.group_send(name, message), loop)
        else:
            async_to_sync(layer.group_send)(name, message)
    except Exception:  # any broker's errors
        log.warning("progress could not be sent")
