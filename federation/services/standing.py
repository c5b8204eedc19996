"""Standing rules: a yes in advance, within limits. Ended, never edited."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from diagnosis.models import User
from federation.models import Round, StandingRule


def rule_create(
    *, user: User, strategies: Sequence[str], sites: Sequence[str], maximum_epochs: int,
    minimum_participants: int, expires_at: dt.datetime,
) -> StandingRule:  # fmt: skip
    """A rule that answers yes by itself to rounds within all of its limits, for at most a year.

    sites: names of members (this one need not be named); a round that invites anybody else is asked.
    """
    raise NotImplementedError


def rule_end(*, user: User, rule: StandingRule) -> None:
    """End a rule now; answers that it gave stay."""
    raise NotImplementedError


def rules_apply(round_: Round) -> bool:
    """Answer by the first rule that fits; False when a person has to, or has already."""
    raise NotImplementedError
