"""Times of the transcript as people read them, and when the step in hand of a secure sum must be over."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from federation import kinds
from federation.models import SecureSum, TranscriptLink
from federation.plans import parse_plan

#: The coordinator's entry from which each step is counted, by its key.
STEP_BEGAN = {"keys": "begun", "shares": "keys", "inputs": "shares", "survivors": "inputs"}


def at(milliseconds: int) -> dt.datetime:
    """Aware UTC of whole milliseconds since 1970."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=milliseconds)


def when(moment: dt.datetime) -> str:
    """A time as pages and receipts say it, in this site's zone."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M %Z}"


def duration(seconds: int) -> str:
    """Whole seconds as people say them."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds / size
            return f"{count:.3g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def sum_due(total: SecureSum) -> dt.datetime | None:
    """When the step in hand of a sum must be over, by the coordinator's clock; None once the sum is."""
    began = STEP_BEGAN.get(total.state)
    link = TranscriptLink.objects.filter(author=kinds.COORDINATOR, key=f"{began}/{total.name}").first()
    if began is None or link is None:
        return None
    schedule = parse_plan(total.round.plan).schedule
    training = total.state == "inputs" and total.purpose == "update"
    return at(link.at + 1000 * (schedule.training_seconds if training else schedule.step_seconds))
