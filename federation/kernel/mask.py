"""Masks that keep every inner product: A M (B M)ᵀ = A Bᵀ for a semi-orthogonal M, M Mᵀ = 1.

FLAKE (arXiv 2306.02677) multiplies by L (N Nᵀ)^{1/2} with L a left inverse of a random N, which is such an M.
Here each row index of the ensemble has its own, drawn from the session's secret:

    words: AES-256-CTR under HKDF-SHA256(secret, "kernel-mask", secret id, model hash, row index, k'), 64 bits
    uniforms: u = (word >> 11 + 1/2) · 2⁻⁵³, in (0, 1)
    normals: Box & Muller, Ann. Math. Stat. 29 (1958): √(−2 ln u₁) · (cos, sin)(2π u₂)
    M: Qᵀ of the QR factorisation of the (k', 512) normals, R's diagonal made positive, so that Q is unique,
       and uniform among all such matrices (Mezzadri, Notices AMS 54 (2007), section 5)

float64 throughout, then float32. Libraries differ in the last bits of float64, so two sites' masks agree to
about 1e-15 before rounding, not bit for bit. An isometry is no encryption: whoever holds the secret undoes
it, and known rows give it away piece by piece (`experiments.privacy_masks` measures that).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from federation.kernel.config import EMBEDDING, KernelConfig
from federation.kernel.errors import RowsRefused, SecretRefused
from federation.kernel.sealing import require_secret, secret_id
from federation.secagg.keys import derive
from federation.secagg.masks import BLOCK_BYTES, Stream

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def uniform_words(key: bytes, count: int) -> npt.NDArray[np.uint64]:
    """(count,) uint64 of the key's stream, the same on every machine."""
    block = bytearray(8 * count)
    stream = Stream(key)
    for start in range(0, len(block), BLOCK_BYTES):
        stream.read_into(memoryview(block)[start : start + BLOCK_BYTES])
    return np.frombuffer(block, dtype="<u8").astype(np.uint64)


def standard_normals(key: bytes, count: int) -> Float64:
    """(count,) float64, count even: independent N(0, 1) by Box and Muller."""
    words = uniform_words(key, count)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(uniform[::2])), 2.0 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def member_mask(secret: bytes, config: KernelConfig, member: int) -> Float64:
    """M_member (512, k') float64 with orthonormal rows."""
    name = (bytes.fromhex(config.secret_id), bytes.fromhex(config.model_sha256))
    key = derive(secret, "kernel-mask", *name, member.to_bytes(4, "big"), config.masked.to_bytes(4, "big"))
    normals = standard_normals(key, EMBEDDING * config.masked).reshape(config.masked, EMBEDDING)
    q, r = np.linalg.qr(normals)  # (k', 512), (512, 512)
    return np.ascontiguousarray((q * np.sign(np.diagonal(r))).T)


@dataclass(frozen=True, eq=False)
class Mask:
    """All m masks of one session, (m, 512, k') float32. Secret: never sent, logged or stored unsealed."""

    matrices: Float32 = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, config: KernelConfig) -> Mask:
        """The masks that every holder of the secret derives. SecretRefused for another session's secret."""
        require_secret(secret)
        if secret_id(secret) != config.secret_id:
            raise SecretRefused("The kernel secret here is not that of this session. Ask for it again.")
        masks = [member_mask(secret, config, member) for member in range(config.members)]
        return cls(np.stack(masks).astype(np.float32))

    def apply(self, embeddings: Float32) -> Float32:
        """(n, m, 512) float32 → (n, m, k') float32: row r of each patient times M_r.

        One product per row index, read and written in place of the whole array, without copies.
        """
        members, size, masked = self.matrices.shape
        if embeddings.ndim != 3 or embeddings.shape[1:] != (members, size) or embeddings.dtype != np.float32:
            raise RowsRefused(f"Embeddings are (n, {members}, {size}) float32. Embed these patients again.")
        if not np.isfinite(embeddings).all():
            raise RowsRefused("An embedding is not finite. Embed that patient again.")
        rows = np.empty((len(embeddings), members, masked), dtype=np.float32)
        for member in range(members):
            np.matmul(embeddings[:, member], self.matrices[member], out=rows[:, member])
        return rows
