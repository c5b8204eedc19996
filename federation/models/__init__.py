"""The federation's tables. One file per idea; constraints here, workflows in services."""

from federation.models.learning import (
    AdoptedModel,
    Curve,
    GlobalModel,
    PhotoFeatures,
    PublishedCentroids,
    SiteValidation,
)
from federation.models.rounds import Approval, Participation, Round, StandingRule
from federation.models.sites import Confirmation, Invitation, Membership, Nonce, Peer
from federation.models.sums import Contribution, Opening, OwnSum, SecureSum, SumMessage
from federation.models.transcript import Blob, Outgoing, TranscriptLink

__all__ = [
    "AdoptedModel",
    "Approval",
    "Blob",
    "Confirmation",
    "Contribution",
    "Curve",
    "GlobalModel",
    "Invitation",
    "Membership",
    "Nonce",
    "Opening",
    "Outgoing",
    "OwnSum",
    "Participation",
    "Peer",
    "PhotoFeatures",
    "PublishedCentroids",
    "Round",
    "SecureSum",
    "SiteValidation",
    "StandingRule",
    "SumMessage",
    "TranscriptLink",
]
