"""Masks: reproducible, semi-orthogonal, one per row, and every kernel is the pooled one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from kernel_cases import MODEL, POLICY, SECRET, config, people

from federation.kernel.config import KernelConfig
from federation.kernel.errors import ConfigRefused, RowsRefused, SecretRefused
from federation.kernel.gram import Shape, distances, kernel_blocks
from federation.kernel.mask import Mask, member_mask, standard_normals, uniform_words
from federation.secagg.keys import derive

MASK = Mask.derive(SECRET, config())


def test_the_stream_is_the_cipher_s_key_stream() -> None:
    key = bytes(range(32))
    plain = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * 70_000))
    assert (uniform_words(key, 70_000) == np.frombuffer(plain, "<u8")).all()


def test_normals_are_normal_and_follow_the_written_method() -> None:
    key = derive(SECRET, "test")
    normals = standard_normals(key, 100_000)
    words = uniform_words(key, 100_000)
    slow = []
    for first, second in zip(words[:20:2].tolist(), words[1:20:2].tolist(), strict=True):
        left, right = ((first >> 11) + 0.5) / 2.0**53, ((second >> 11) + 0.5) / 2.0**53
        radius = np.sqrt(-2.0 * np.log(left))
        slow += [radius * np.cos(2.0 * np.pi * right), radius * np.sin(2.0 * np.pi * right)]
    assert normals[:20] == pytest.approx(slow, abs=1e-12)
    assert abs(normals.mean()) < 0.02 and abs(normals.var() - 1.0) < 0.02
    assert abs(np.mean(normals[::2] * normals[1::2])) < 0.02
    assert np.mean(np.abs(normals) > 1.959964) == pytest.approx(0.05, abs=0.005)


def gram_schmidt(columns: np.ndarray) -> np.ndarray:
    """(k', d) → orthonormal columns, each as near its own as may be: the slow twin of QR with signs fixed."""
    basis: list[np.ndarray] = []
    for column in columns.T:
        rest = column.copy()
        for _ in range(2):
            for known in basis:
                rest -= (known @ rest) * known
        basis.append(rest / np.linalg.norm(rest))
    return np.array(basis).T


def test_a_mask_is_the_gram_schmidt_basis_of_its_normals() -> None:
    own = config()
    name = (bytes.fromhex(own.secret_id), bytes.fromhex(MODEL))
    key = derive(SECRET, "kernel-mask", *name, (0).to_bytes(4, "big"), own.masked.to_bytes(4, "big"))
    normals = standard_normals(key, 512 * own.masked).reshape(own.masked, 512)
    mask = member_mask(SECRET, own, 0)
    assert np.abs(mask[:24] - gram_schmidt(normals[:, :24]).T).max() < 1e-12
    assert np.abs(mask @ mask.T - np.eye(512)).max() < 1e-12


def test_the_mask_of_a_known_secret() -> None:
    """A vector that later versions must reproduce, or the hospitals of a session would no longer agree."""
    mask = member_mask(SECRET, config(), 1)
    assert [mask[0, 0], mask[5, 7], mask[511, 575]] == pytest.approx(VECTOR, abs=1e-9)


VECTOR = [0.0114345821, 0.0668952396, -0.0173088264]


def test_every_row_index_model_and_secret_has_another_mask() -> None:
    own = config()
    masks = [
        member_mask(SECRET, own, 0), member_mask(SECRET, own, 1),
        member_mask(SECRET, config(model_sha256="b" * 64), 0), member_mask(bytes(32), own, 0),
    ]  # fmt: skip
    for first in range(4):
        for second in range(first):
            overlap = np.abs(np.sum(masks[first] * masks[second], axis=1))
            assert overlap.max() < 0.3  # random unit vectors of 576 numbers: sd 0.04


@pytest.mark.parametrize("kernel", ["linear", "cosine", "rbf", "polynomial"])
def test_masked_is_pooled(kernel: str) -> None:
    plain = people(40) * np.linspace(0.5, 1.5, 40, dtype=np.float32)[:, None, None]
    masked = MASK.apply(plain)
    shape = Shape(gamma=0.7, offset=0.5, degree=3)
    got = np.concatenate(
        list(kernel_blocks(masked[:7], (masked[start : start + 9] for start in range(0, 40, 9)), kernel, shape)),
        axis=1,
    )  # fmt: skip
    exact = plain.astype(np.float64)
    for i in range(7):
        for j in range(40):
            assert got[i, j] == pytest.approx(slow_kernel(exact[i], exact[j], kernel, shape), abs=1e-5)


def slow_kernel(a: np.ndarray, b: np.ndarray, kernel: str, shape: Shape) -> float:
    """Straight from the definitions, row by row, on the embeddings themselves."""
    values = []
    for left, right in zip(a, b, strict=True):
        dot = sum(x * y for x, y in zip(left.tolist(), right.tolist(), strict=True))
        if kernel == "cosine":
            dot /= np.linalg.norm(left) * np.linalg.norm(right)
        elif kernel == "rbf":
            dot = np.exp(-shape.gamma * np.sum((left - right) ** 2))
        elif kernel == "polynomial":
            dot = (shape.gamma * dot + shape.offset) ** shape.degree
        values.append(dot)
    return float(np.mean(values))


def test_distances_are_the_mean_of_the_cosine_distances() -> None:
    plain = people(30)
    masked = MASK.apply(plain)
    got = distances(masked[:3], [masked[:16], masked[16:]])
    slow = [
        [np.mean([1.0 - np.dot(a, b) for a, b in zip(q, g, strict=True)]) for g in plain] for q in plain[:3]
    ]
    assert got == pytest.approx(np.array(slow), abs=1e-5)
    assert distances(masked[:1], [masked]) == pytest.approx(got[:1], abs=1e-6)
    assert distances(masked[:1], []).shape == (1, 0)


def test_masking_costs_little_more_than_one_product() -> None:
    """12 rows of 400 patients against one (4800 × 512)(512 × k') product; processor time, best of some."""
    mask = Mask(np.concatenate([MASK.matrices] * 6))
    plain = people(400, 12)
    flat = plain.reshape(-1, 512)
    out = np.empty((len(flat), MASK.matrices.shape[2]), dtype=np.float32)
    ours, product = [], []
    for _ in range(9):
        start = time.process_time()
        mask.apply(plain)
        ours.append(time.process_time() - start)
        start = time.process_time()
        np.matmul(flat, MASK.matrices[0], out=out)
        product.append(time.process_time() - start)
    assert min(ours) <= 1.5 * min(product)


def test_what_is_not_rows_or_not_this_secret_is_refused() -> None:
    with pytest.raises(SecretRefused):
        Mask.derive(bytes(32), config())
    with pytest.raises(SecretRefused):
        Mask.derive(b"short", config())
    for wrong in (people(2, 3), people(2).astype(np.float64), people(2)[0]):
        with pytest.raises(RowsRefused):
            MASK.apply(wrong)
    bad = people(2)
    bad[0, 0, 0] = np.nan
    with pytest.raises(RowsRefused):
        MASK.apply(bad)
    assert str(SECRET) not in repr(MASK) and "matrices" not in repr(MASK)


def test_a_configuration_is_read_back_as_it_was_or_refused() -> None:
    own = config()
    assert KernelConfig.from_json(own.as_json()) == own
    assert own.digest() != config(masked=640).digest()
    for wrong in ({"masked": 512}, {"members": 0}, {"kernel": "sigmoid"}, {"model_sha256": "A" * 64}):
        with pytest.raises(ConfigRefused):
            config(**wrong)
    for found in (own.as_json() | {"v": 2}, own.as_json() | {"more": 1}, {"v": 1}):
        with pytest.raises(ConfigRefused):
            KernelConfig.from_json(found)
    assert POLICY.from_json(POLICY.as_json()) == POLICY
