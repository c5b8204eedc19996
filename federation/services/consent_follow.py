"""When a patient takes back the consent to training alone: what was derived for training goes, too.

A withdrawal of everything destroys the photos' keys and needs none of this.
"""

from __future__ import annotations

from typing import Final

from diagnosis import outbox
from diagnosis.models import OutboxCursor
from federation.services.features import features_discard
from federation.services.local_rows import rows_discard

READER: Final = "federation.consent"
AT_ONCE: Final = 1000


def consent_follow() -> bool:
    """Discard features and local rows that consent no longer covers, if anything changed since last time.

    Cheap when nothing did. The site's loop calls it, and so does every training.
    """
    if outbox.newest() <= _position():
        return False
    with outbox.read(READER, limit=AT_ONCE) as events:
        if any(event.kind.startswith("consent.") for event in events):
            features_discard()
            rows_discard()
    return True


def _position() -> int:
    return OutboxCursor.objects.filter(reader=READER).values_list("position", flat=True).first() or 0
