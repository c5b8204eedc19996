"""What follows from hospitals' answers: a no, a vote against, and sums that were opened before."""

from __future__ import annotations

from world import COORDINATOR


def play(world, plan, propose, approve, no=()) -> dict:
    propose(world, plan)
    for site in world.names:
        approve(world, site, plan, "decline" if site in no else "approve")
    world.settle(passes=120)
    return world.report(COORDINATOR)


def test_two_hospitals_are_too_few(make_world, make_plan, propose, approve) -> None:
    world = make_world("a", "b", "c")
    found = play(world, make_plan(world), propose, approve, no=("b",))
    assert (found["state"], found["sums"]) == ("aborted", {})
    assert found["reason"] == "2 hospitals take part; the plan needs 3."
    assert world.report("a")["reason"] == found["reason"]


def test_after_a_rejected_candidate_only_the_same_hospitals_are_summed(
    make_world, make_plan, propose, approve, light_clinic
) -> None:
    """An opened sum counts as opened whatever became of it: without one hospital nothing is opened again."""
    world = make_world("a", "b", "c", "d")
    light_clinic.BALLOTS.update(dict.fromkeys(world.names, "reject"))
    first = play(world, make_plan(world), propose, approve)
    assert first["state"] == "aborted" and "rejected" in first["reason"]
    opened = {name for name, (state, _) in first["sums"].items() if state == "opened"}
    assert opened == {"presence.1", "counts.1", "update.tiny.1"}

    light_clinic.BALLOTS.clear()
    fewer = play(world, make_plan(world, seed=8), propose, approve, no=("d",))
    assert fewer["state"] == "aborted"
    assert {state for state, _ in fewer["sums"].values()} == {"failed"}
    reasons = []
    for name in ("a", "b", "c"):
        with world.at(name):
            from federation.models import Opening, OwnSum

            assert not Opening.objects.filter(sum__startswith=_short(world)).exists()
            reasons += OwnSum.objects.filter(state="left").values_list("reason", flat=True)
    assert "Only the same sites can be summed again" in " ".join(reasons)

    again = play(world, make_plan(world, seed=9), propose, approve)
    assert again["state"] == "published"


def _short(world) -> str:
    from federation.models import Round

    return Round.objects.order_by("-pk").first().sha256[:16]


def test_only_the_proposer_stops_a_round(make_world, make_plan, propose, approve) -> None:
    from federation import kinds
    from federation.services.speaking import entry_say

    world = make_world("a", "b", "c")
    plan = make_plan(world)
    propose(world, plan)
    for site, refused in (("b", True), ("a", False)):
        with world.at(site):
            entry_say(kinds.StopRound(plan.sha256, "no longer needed"), key=f"stop/{plan.sha256}")
        world.settle()
        found = world.report(site)
        assert bool(found["refusals"]) == refused
        assert found["state"] == ("approving" if refused else "aborted")
