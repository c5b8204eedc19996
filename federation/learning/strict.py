"""JSON ↔ frozen dataclasses, strictly: every field once, every type exact, one byte string per value."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from typing import Any, TypeVar

from federation.learning.errors import PlanRefused

T = TypeVar("T")

MAX_BYTES = 1 << 20


def canonical_json(value: Any) -> bytes:
    """A dataclass as the one UTF-8 byte string that is hashed: sorted keys, no spaces, no NaN."""
    body = dataclasses.asdict(value)
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")


def sha256_of(value: Any) -> str:
    """Hex sha256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def parse_canonical(cls: type[T], data: bytes) -> T:
    """The dataclass whose canonical JSON is exactly `data`; PlanRefused for anything else."""
    if len(data) > MAX_BYTES:
        raise PlanRefused("A plan is larger than 1 MiB. Ask its proposer for a smaller one.")
    try:
        body = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise PlanRefused("A plan is not JSON. Ask its proposer to send it again.") from None
    parsed: T = _value(cls, body, "plan")
    if canonical_json(parsed) != data:
        raise PlanRefused("A plan is not in its canonical form. Ask its proposer to send it again.")
    return parsed


def _value(hint: Any, found: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), found, where)
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint)[0], found, where)
    if typing.get_origin(hint) is typing.Literal:
        return _choice(typing.get_args(hint), found, where)
    return _scalar(hint, found, where)


def _dataclass(cls: type, found: Any, where: str) -> Any:
    hints = _hints(cls)
    if not isinstance(found, dict):
        raise PlanRefused(f"In {where} an object is needed.")
    missing, unknown = sorted(hints.keys() - found.keys()), sorted(found.keys() - hints.keys())
    if missing or unknown:
        fault = f"lacks {missing[0]!r}" if missing else f"has an unknown {unknown[0][:60]!r}"
        raise PlanRefused(f"{where} {fault}. Use the same version on every site.")
    return cls(**{name: _value(hint, found[name], f"{where}.{name}") for name, hint in hints.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a plan's fields; looking them up costs more than reading the plan."""
    return typing.get_type_hints(cls)


def _tuple(hint: Any, found: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(found, list):
        raise PlanRefused(f"In {where} a list is needed.")
    return tuple(_value(hint, item, f"{where}[{index}]") for index, item in enumerate(found))


def _choice(allowed: tuple[Any, ...], found: Any, where: str) -> Any:
    if found not in allowed:
        raise PlanRefused(f"{where} must be one of {', '.join(map(str, allowed))}.")
    return found


def _scalar(hint: Any, found: Any, where: str) -> Any:
    # bool is an int to isinstance, so types are compared exactly.
    if isinstance(hint, types.UnionType) or hint not in (int, float, str, bool):
        raise TypeError(f"{where} has a type that plans cannot carry")
    if type(found) is not hint or (hint is float and not math.isfinite(found)):
        raise PlanRefused(f"In {where} a {hint.__name__} is needed.")
    return found
