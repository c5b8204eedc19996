"""What the joint kernel refuses. Every message is a sentence that an admin may read; none names a patient."""

from __future__ import annotations


class KernelError(Exception):
    """Anything this package refuses."""


class ConfigRefused(KernelError):
    """A kernel configuration or policy that is incomplete, out of bounds or not in its canonical form."""


class SecretRefused(KernelError):
    """A sealed secret or sealing key that is forged, altered, misaddressed, or of another session."""


class RowsRefused(KernelError):
    """Embeddings or masked rows of another shape, type or length than the configuration says."""


class QueryRefused(KernelError):
    """A question that the policy does not allow; nothing was answered and nothing is charged."""


class DecisionRefused(KernelError):
    """A decision on a match by somebody else than its owner, or on one that waits no longer."""


class AuditFailed(KernelError):
    """Signed lines that do not continue, do not fit the policy, or do not fit what was received."""


class GroupRefused(KernelError):
    """A group statistic over too few patients, or one that earlier ones would make telling."""
