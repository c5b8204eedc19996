"""Tensors of a stranger: exactly what was asked for, or a refusal with a sentence."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from federation.errors import InvalidMessage, TooLarge
from federation.tensors import HEADER_BYTES, tensors_load

EXPECTED = {"weight": ((2, 3), np.dtype("<f4")), "count": ((4,), np.dtype("<u8"))}
GOOD = {"weight": np.arange(6, dtype="<f4").reshape(2, 3), "count": np.arange(4, dtype="<u8")}


def with_value(value: float) -> dict[str, np.ndarray]:
    weight = GOOD["weight"].copy()
    weight[1, 2] = value
    return GOOD | {"weight": weight}


def header_says(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_what_was_asked_for_comes_back_as_its_own_memory() -> None:
    found = tensors_load(save(GOOD), expected=EXPECTED)
    for name, values in GOOD.items():
        assert found[name].dtype == values.dtype and np.array_equal(found[name], values)
        assert found[name].flags.owndata and found[name].flags.writeable


@pytest.mark.parametrize(
    "data, sentence",
    [
        (save(with_value(np.nan)), "not a finite"),
        (save(with_value(np.inf)), "not a finite"),
        (save(with_value(-np.inf)), "not a finite"),
        (save(GOOD | {"weight": GOOD["weight"].T.copy()}), "another shape"),
        (save(GOOD | {"weight": GOOD["weight"].reshape(6)}), "another shape"),
        (save(GOOD | {"weight": GOOD["weight"].astype("<f2")}), "another type"),
        (save(GOOD | {"count": GOOD["count"].astype("<i8")}), "another type"),
        (save({"weight": GOOD["weight"]}), "exactly the tensors"),
        (save(GOOD | {"more": np.zeros(1, "<f4")}), "exactly the tensors"),
        (save({"Weight": GOOD["weight"], "count": GOOD["count"]}), "exactly the tensors"),
        (save(GOOD)[:-1], "safetensors format"),
        (save(GOOD) + b"\x00", "safetensors format"),
        (b"", "safetensors format"),
        (b"\x80\x04\x95pickle", "safetensors format"),
        (struct.pack("<Q", 1 << 62) + b"{}", "safetensors format"),
        (header_says({"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 1 << 60]}}), "format"),
        (header_says({"weight": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 0]}}), "format"),
        (header_says({"weight": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"\0\0"), "."),
        (header_says([]), "safetensors format"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidMessage, match=sentence):
        tensors_load(data, expected=EXPECTED)


def test_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge):
        tensors_load(bytes(6 * 4 + 4 * 8 + HEADER_BYTES + 1), expected=EXPECTED)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.data())
def test_random_bytes_and_random_changes_raise_nothing_else(data: Any) -> None:
    whole = save(GOOD)
    at = data.draw(st.integers(0, len(whole) - 1))
    mutated = whole[:at] + data.draw(st.binary(max_size=12)) + whole[at + data.draw(st.integers(0, 12)) :]
    candidate = data.draw(st.sampled_from([mutated, data.draw(st.binary(max_size=80))]))
    try:
        found = tensors_load(candidate, expected=EXPECTED)
    except InvalidMessage:
        return
    assert {name: (values.shape, values.dtype) for name, values in found.items()} == EXPECTED
    assert np.isfinite(found["weight"]).all()
