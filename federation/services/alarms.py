"""Ending an alarm: an admin has compared lists with other hospitals and lets the site read on."""

from __future__ import annotations

from django.db import transaction

from diagnosis.errors import NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation.permissions import require, require_hospital
from federation.services.own import membership_locked
from federation.services.texts import require_reason


def alarm_end(*, user: User, reason: str) -> None:
    """Follow the coordinator again from where this site stopped; the reason stands in the audit chain.

    Nothing is forgiven: the next link must continue what was read, or the alarm is there again at once. A
    sum that was found to differ stays refused, and this site takes no further part in its round.
    """
    require_hospital()
    require(user, "federation.manage")
    reason = require_reason(reason)
    with transaction.atomic():
        membership = membership_locked()
        if not membership.alarm:
            raise NotReady("There is no alarm. This site follows its coordinator.")
        was, membership.alarm = membership.alarm, ""
        membership.save(update_fields=["alarm"])
        audit(actor=user, action="federation.alarm_ended", subject="federation", was=was, reason=reason,
              after=membership.seq)  # fmt: skip
