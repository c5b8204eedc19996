"""One round from proposal to adoption, between processes that share nothing but the line."""

from __future__ import annotations

import hashlib

import numpy as np
from world import COORDINATOR


def play(world, plan, propose, approve, answers=None) -> None:
    propose(world, plan)
    for site in world.names:
        approve(world, site, plan, (answers or {}).get(site, "approve"))
    world.settle()


def test_a_round_is_published_and_every_site_has_the_same_model(
    make_world, make_plan, propose, approve, light_clinic
) -> None:
    world = make_world("a", "b", "c")
    plan = make_plan(world)
    play(world, plan, propose, approve)
    reports = {name: world.report(name) for name in (COORDINATOR, "a", "b", "c")}
    for name, found in reports.items():
        assert (found["state"], found["alarm"], found["refusals"]) == ("published", "", []), (name, found)
        assert set(found["sites"].values()) == {"done"}
        assert found["sums"] == reports["a"]["sums"]
        assert (found["seq"], found["sha256"]) == (reports["a"]["seq"], reports["a"]["sha256"])
    with world.at("a"):
        from federation.models import SecureSum

        total = SecureSum.objects.get(purpose="update")
        plain = sum(light_clinic.plain_update(name, total).astype(np.uint64) for name in world.names)
        expected = hashlib.sha256(plain.astype("<u4").tobytes()).hexdigest()
        assert total.result == expected
        assert set(SecureSum.objects.values_list("own__checked", flat=True)) == {"agrees"}
