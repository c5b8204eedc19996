"""A plan has one byte string; anything else is refused in a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import learning_cases as cases
import numpy as np
import pytest
import torch

from federation.learning.config import (
    ADAM_STEP_BOUND,
    LocalTraining,
    TrainingPlan,
    encode_plan,
    parse_plan,
    round_up_samples,
    suggest_limit,
)
from federation.learning.errors import PlanRefused


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    return cases.plan_for(cases.three_hospitals(), cases.tiny_net())


def canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def test_there_and_back(plan: TrainingPlan) -> None:
    data = encode_plan(plan)
    assert parse_plan(data) == plan
    assert parse_plan(data).sha256 == plan.sha256 == sha256(data).hexdigest()


def test_every_field_changes_the_hash(plan: TrainingPlan) -> None:
    """Leaf by leaf: whoever signed the hash sees every change that is a plan at all."""
    paths = list(leaves(json.loads(encode_plan(plan))))
    hashes = [plan.sha256]
    for path in paths:
        changed = json.loads(encode_plan(plan))
        at(changed, path[:-1])[path[-1]] = other(at(changed, path))
        with suppress(PlanRefused):
            hashes.append(parse_plan(canonical(changed)).sha256)
    assert len(hashes) > 25
    assert len(set(hashes)) == len(hashes)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def other(value: Any) -> Any:
    if isinstance(value, str):
        return value[:-1] + chr(
            ord(value[-1]) ^ 1
        )  # the next digit or letter: "a" becomes a hash's "`" or not
    return value * 0.5 or 0.25 if isinstance(value, float) else value + 10


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("version",), 2, "version"), (("strategy",), "fedsgd", "one of"), (("k",), 4, "k is at least 5"),
        (("k",), 5.0, "int"), (("k",), True, "int"), (("seed",), -1, "seed"), (("seed",), "1", "int"),
        (("classes",), [], "two open classes"), (("classes", 0, "patients"), 4, "at least k"),
        (("classes", 1, "identifier"), "a", "ascend"), (("participants",), [], "three"),
        (("participants", 0, "samples"), 41, "tens"), (("participants", 0, "samples"), 0, "tens"),
        (("participants", 1, "site"), "site00", "once"), (("views", 0, "share"), 0.6, "add up"),
        (("views", 0, "name"), "flipped", "once"), (("views", 0, "name"), "upside down", "one of"),
        (("members",), [], "members"), (("members", 0, "base_sha256"), "A" * 64, "hexadecimal"),
        (("members", 0, "base_sha256"), "ab", "hexadecimal"),
        (("members", 0, "limits", 0, "limit"), 0.0, "range"),
        (("members", 0, "local", "epochs"), 0, "epochs"),
        (("members", 0, "local", "dropout"), 1.0, "Dropout"),
        (("members", 0, "local", "neck_learning_rate"), float("nan"), "float"),
        (("members", 0, "local", "neck_learning_rate"), 1, "float"),
        (("members", 0, "local", "proximal_mu"), 0.1, "fedprox"),
        (("server", "beta_2"), 1.0, "betas"), (("analytic", "shrinkage"), 0.0, "Shrinkage"),
        (("analytic", "diagonal_minimum_patients"), 2, "second moments"), (("server",), None, "object"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(plan: TrainingPlan, path: tuple[Any, ...], value: Any, word: str) -> None:
    body = json.loads(encode_plan(plan))
    at(body, path[:-1])[path[-1]] = value
    with pytest.raises(PlanRefused, match=word) as refused:
        parse_plan(canonical(body))
    assert str(refused.value).endswith(".")


def test_other_forms_are_refused(plan: TrainingPlan) -> None:
    body = json.loads(encode_plan(plan))
    pretty = json.dumps(body, sort_keys=True, indent=1).encode()
    repeated = encode_plan(plan).replace(b'{"analytic"', b'{"k":5,"analytic"', 1)
    bad = [(pretty, "canonical"), (repeated, "canonical"), (b"\xff", "JSON"), (b"[" * 9999, "JSON")]
    for data, word in (*bad, (b" " * (2 << 20), "1 MiB")):
        with pytest.raises(PlanRefused, match=word):
            parse_plan(data)
    with pytest.raises(PlanRefused, match="lacks 'seed'"):
        parse_plan(canonical({name: body[name] for name in body if name != "seed"}))
    with pytest.raises(PlanRefused, match="unknown 'extra'"):
        parse_plan(canonical(body | {"extra": 1}))


def test_weights_are_rounded_shares(plan: TrainingPlan) -> None:
    """Photos 44, 42, 54 (two of each patient) → 50, 50, 60 of 160."""
    assert [plan.weight_of(f"site0{index}") for index in range(3)] == [50 / 160, 50 / 160, 60 / 160]
    assert [round_up_samples(n) for n in (1, 10, 11)] == [10, 10, 20]
    with pytest.raises(PlanRefused, match="participants"):
        plan.weight_of("site99")


def test_fedprox_needs_mu(plan: TrainingPlan) -> None:
    with pytest.raises(PlanRefused, match="mu"):
        replace(plan, strategy="fedprox")


def test_no_gradient_takes_adam_past_the_suggested_range() -> None:
    """Gradients built to do so: nearly nothing for long, then growing as the second moment forgets."""
    worst = 0.0
    for growth in (1.0, 1.05, 0.81**-0.5, 2.0, 1e3):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        adam = torch.optim.Adam([weight], lr=1.0)
        for step in range(60):
            before = float(weight.detach())
            weight.grad = torch.full((1,), 1e-3 * growth**step, dtype=torch.float64)
            adam.step()
            worst = max(worst, abs(float(weight.detach()) - before))
    assert 1.0 <= worst <= ADAM_STEP_BOUND
    limit = suggest_limit(LocalTraining(epochs=2, batch_photos=8), 0.01, samples=20)
    assert limit == pytest.approx(ADAM_STEP_BOUND * 0.01 * 2 * 3)
    assert np.isfinite(limit)
