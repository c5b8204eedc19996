"""What a newcomer adopts: which secret, model, kernel and policy a session runs with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from federation.kernel.errors import ConfigRefused
from federation.kernel.policy import Policy

KernelName = Literal["cosine", "linear", "rbf", "polynomial"]
#: Length of an embedding, and of a masked row unless a plan says otherwise.
EMBEDDING = 512
MASKED = 576
VERSION = 1
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KernelConfig:
    """secret_id: `sealing.secret_id` of the secret, never the secret. model_sha256: the ensemble's.

    members: m, the rows of an embedding, each with a mask of its own. masked: k', the length of a masked row.
    """

    secret_id: str
    model_sha256: str
    members: int
    policy: Policy
    kernel: KernelName = "cosine"
    masked: int = MASKED

    def __post_init__(self) -> None:
        hashes = (self.secret_id, self.model_sha256)
        if not all(isinstance(text, str) and _HEX64.fullmatch(text) for text in hashes):
            raise ConfigRefused("Secret id and model are named by 64 hex digits each.")
        if self.kernel not in get_args(KernelName):
            raise ConfigRefused("The kernel is cosine, linear, rbf or polynomial.")
        if type(self.members) is not int or type(self.masked) is not int or not 1 <= self.members <= 64:
            raise ConfigRefused("An ensemble has 1 to 64 rows.")
        if not EMBEDDING < self.masked <= 8 * EMBEDDING:
            raise ConfigRefused(f"Masked rows are longer than {EMBEDDING}, {8 * EMBEDDING} at most.")

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "v": VERSION,
            "secret_id": self.secret_id,
            "model_sha256": self.model_sha256,
            "members": self.members,
            "masked": self.masked,
            "kernel": self.kernel,
            "policy": self.policy.as_json(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> KernelConfig:
        """The reverse of `as_json`; ConfigRefused for anything else."""
        try:
            fields = dict(found)
            version = fields.pop("v")
            config = cls(**fields | {"policy": Policy.from_json(fields["policy"])})
        except (TypeError, ValueError, KeyError):
            raise ConfigRefused("The kernel configuration is not in its form. Ask for it again.") from None
        if version != VERSION or config.as_json() != dict(found):
            raise ConfigRefused("The kernel configuration has another version. Update the older site.")
        return config

    def digest(self) -> str:
        """Hex sha256: what is approved and signed."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(b"gestaltweb/kernel-config/1\n" + text.encode()).hexdigest()
