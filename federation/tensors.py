"""Tensors from another site: safetensors only, and exactly what was expected. Nothing is repaired."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from federation.errors import InvalidMessage, TooLarge

Expected = Mapping[str, tuple[tuple[int, ...], np.dtype]]
HEADER_BYTES: Final = 1 << 20  # names, shapes and offsets of any model here fit many times


def tensors_load(data: bytes, *, expected: Expected) -> dict[str, np.ndarray]:
    """The tensors in safetensors bytes. InvalidMessage unless names, shapes and dtypes are `expected`'s and
    every value is finite; TooLarge, before anything is parsed, beyond the size that `expected` allows.

    expected: {name: (shape, dtype)}. The arrays returned own their memory.
    """
    if len(data) > _bytes_of(expected) + HEADER_BYTES:
        raise TooLarge("The tensors are larger than what was asked for.")
    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise InvalidMessage("The file is not in the safetensors format.") from None
    if found.keys() != expected.keys():
        raise InvalidMessage("The file does not hold exactly the tensors that were asked for.")
    return {name: _checked(name, found[name], *expected[name]) for name in sorted(found)}


def _bytes_of(expected: Expected) -> int:
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in expected.values())


def _checked(name: str, found: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    # `name` is one of the expected ones here, so the sentence repeats nothing a stranger wrote.
    if found.shape != tuple(shape):
        raise InvalidMessage(f"The tensor {name} has another shape than was asked for.")
    if found.dtype != np.dtype(dtype):
        raise InvalidMessage(f"The tensor {name} has another type of number than was asked for.")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise InvalidMessage(f"The tensor {name} holds a value that is not a finite number.")
    return np.array(found)
