"""Rounds as the transcript tells them, and this hospital's own answers and standing rules."""

from __future__ import annotations

from django.db import models

from diagnosis.models import Evidence, User
from federation.models.base import state_constraint
from federation.models.sites import Peer


class Round(models.Model):
    """One round. sha256: hash of its plan, and its name everywhere. training: the training plan's text.

    moments: {state: milliseconds since 1970} when each state was reached, by the coordinator's clock.
    """

    sha256 = models.CharField(max_length=64, unique=True)
    number = models.PositiveIntegerField()
    plan = models.TextField()
    proposer = models.ForeignKey(Peer, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=12, default="proposed", db_index=True)
    reason = models.CharField(max_length=300, blank=True)
    moments = models.JSONField(default=dict)
    training = models.TextField(blank=True)
    tidied = models.BooleanField(default=False, help_text="its masked inputs were removed")

    class Meta:
        ordering = ["-pk"]
        constraints = [state_constraint("round")]

    def __str__(self) -> str:
        return f"round {self.number}"


class Participation(models.Model):
    """One site in one round. made: what its vote says it computed (JSON of MadeMember)."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="participations")
    peer = models.ForeignKey(Peer, on_delete=models.PROTECT, related_name="participations")
    state = models.CharField(max_length=12, default="invited")
    samples = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True)
    ballot = models.CharField(max_length=8, blank=True)
    made = models.TextField(blank=True)
    changed_at = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["peer__name"]
        constraints = [
            state_constraint("participation"),
            models.UniqueConstraint(fields=["round", "peer"], name="participation_once"),
        ]

    def __str__(self) -> str:
        return f"{self.peer_id} in {self.round_id}"


class StandingRule(models.Model):
    """A yes in advance, within limits that the admin set. Ended, never edited."""

    strategies = models.JSONField(default=list)
    sites = models.JSONField(default=list, help_text="names; a round that invites anybody else is asked")
    maximum_epochs = models.PositiveIntegerField()
    minimum_participants = models.PositiveIntegerField()
    expires_at = models.DateTimeField()
    created_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"standing rule {self.pk}"


class Approval(Evidence):
    """This hospital's answer to a plan: who said yes or no to exactly which text, when, and what was shown.

    rule: the standing rule that answered, if no person did. shown: the facts of the approval page.
    """

    round = models.OneToOneField(Round, on_delete=models.PROTECT, related_name="approval")
    answer = models.CharField(max_length=8)
    reason = models.CharField(max_length=200, blank=True)
    plan_sha256 = models.CharField(max_length=64)
    samples = models.PositiveIntegerField(default=0)
    shown = models.JSONField(default=dict)
    user = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    rule = models.ForeignKey(StandingRule, null=True, on_delete=models.PROTECT, related_name="+")
    entry_key = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.answer} {self.plan_sha256[:12]}"
