"""This site's own membership, the other sites, who confirmed whose key, invitations, and seen nonces."""

from __future__ import annotations

from django.db import models

from diagnosis.models import User
from federation.models.base import state_constraint


class Membership(models.Model):
    """This site in its federation; at most one row. name: its own, or "coordinator".

    seq, sha256: how far this site has read (or, as the coordinator, written) the transcript. alarm: why this
    site has stopped following the coordinator; it signs and sends nothing until an admin has looked.
    """

    role = models.CharField(max_length=12, choices=[("hospital", "hospital"), ("coordinator", "coordinator")])
    federation = models.CharField(max_length=64)
    name = models.CharField(max_length=64)
    title = models.CharField(max_length=80)
    coordinator_address = models.CharField(max_length=200, blank=True)
    coordinator_key = models.CharField(max_length=64)
    clock_offset_ms = models.IntegerField(default=0)
    seq = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, default="0" * 64)
    seen_at = models.DateTimeField(null=True, blank=True)
    alarm = models.CharField(max_length=300, blank=True)
    left = models.BooleanField(default=False)
    invitation = models.CharField(max_length=200, blank=True, help_text="token, until the site has joined")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_membership")]

    def __str__(self) -> str:
        return self.title


class Peer(models.Model):
    """A site of the federation, as the transcript says. This site's own row is among them."""

    name = models.CharField(max_length=64, unique=True)
    title = models.CharField(max_length=80)
    public_key = models.CharField(max_length=64)
    state = models.CharField(max_length=12, default="joined", db_index=True)
    reason = models.CharField(max_length=200, blank=True)
    joined_seq = models.PositiveBigIntegerField(default=0)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [state_constraint("peer")]

    def __str__(self) -> str:
        return self.title


class Confirmation(models.Model):
    """`author` compared `subject`'s fingerprint out of band. It stands for that key only."""

    author = models.ForeignKey(Peer, on_delete=models.CASCADE, related_name="confirmed")
    subject = models.ForeignKey(Peer, on_delete=models.CASCADE, related_name="confirmations")
    public_key = models.CharField(max_length=64)
    withdrawn = models.BooleanField(default=False)
    seq = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["author", "subject", "public_key"], name="confirmed_once")
        ]

    def __str__(self) -> str:
        return f"{self.author_id} confirmed {self.subject_id}"


class Invitation(models.Model):
    """A one-time invitation that the coordinator's admin hands out; only the token's hash is kept."""

    token_sha256 = models.CharField(max_length=64, unique=True)
    title = models.CharField(max_length=80)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_by = models.ForeignKey(Peer, null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return f"invitation for {self.title}"


class Nonce(models.Model):
    """A nonce that a peer's request used. A second one is a replay."""

    peer = models.ForeignKey(Peer, on_delete=models.CASCADE, related_name="nonces")
    value = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["peer", "value"], name="nonce_once")]

    def __str__(self) -> str:
        return f"nonce of {self.peer_id}"
