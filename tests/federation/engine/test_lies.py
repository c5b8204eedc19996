"""A coordinator that lies: each lie is noticed by a site, or changes nothing. Listed in docs/threat-model.md."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from world import COORDINATOR, Line


@pytest.fixture
def asked(make_world, make_plan, propose, approve) -> Any:
    """Three hospitals, a proposed round that all have approved, nothing counted yet."""
    world = make_world("a", "b", "c")
    plan = make_plan(world)
    propose(world, plan)
    for site in world.names:
        approve(world, site, plan)
    world.plan = plan
    return world


class Lying(Line):
    """A line whose answers pass through the coordinator's own hands once more."""

    def __init__(self, world: Any, name: str, twist: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__(world, name)
        self.twist = twist

    def links(self, after: int, wait: float = 0) -> dict[str, Any]:
        return self.twist(super().links(after, wait))


def hear(world: Any, name: str, twist: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """One pass of a site over a lying line, after the others have said something new."""
    from federation import agent

    for other in world.names:
        if other != name:
            world.step(other)
    world.step(COORDINATOR)
    with world.at(name):
        agent.pull(Lying(world, name, twist))
    return world.report(name)


def _dropped(answer):
    answer["links"] = answer["links"][1:]
    return answer


def _last_dropped(answer):
    """Leaves the end away and shows a head that fits what is left, signed by the coordinator itself."""
    answer["links"] = answer["links"][:-1]
    return answer


def _swapped(answer):
    answer["links"][0], answer["links"][1] = answer["links"][1], answer["links"][0]
    return answer


def _renumbered(answer):
    for number, link in enumerate(answer["links"]):
        link["seq"] += 1 + number
    return answer


def _entry_changed(answer):
    entry = json.loads(answer["links"][0]["entry"])
    entry["body"]["reason"] = "changed on the way"
    answer["links"][0]["entry"] = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return answer


def _time_changed(answer):
    answer["links"][0]["at"] += 1
    return answer


def _head_forged(answer):
    answer["head"]["seq"] += 5
    return answer


@pytest.mark.parametrize(
    "twist", [_dropped, _swapped, _renumbered, _entry_changed, _time_changed, _head_forged]
)
def test_a_list_that_was_tampered_with_raises_the_alarm(asked, twist) -> None:
    found = hear(asked, "a", twist)
    assert found["alarm"]
    before = asked.report("a")
    asked.step("a")
    assert asked.report("a") == before  # nothing is read, said or sent any more


def test_a_repeated_answer_changes_nothing(asked) -> None:
    from federation import agent

    kept: list[dict[str, Any]] = []

    def keep(answer):
        kept.append(copy.deepcopy(answer))
        return answer

    hear(asked, "a", keep)
    asked.settle()
    before = asked.report("a")
    with asked.at("a"):
        from federation.services.following import links_follow

        links_follow(kept[0]["links"], kept[0]["head"])
        after = asked.report("a")
    assert after["alarm"].startswith("The coordinator's list is shorter")  # an old head, in order of arrival
    assert {**after, "alarm": ""} == before
    assert agent is not None


def test_a_list_without_its_end_is_a_delay_and_no_more(asked) -> None:
    found = hear(asked, "a", _last_dropped)
    assert not found["alarm"]
    asked.settle()
    assert asked.report("a")["state"] == "published"


def test_an_older_head_is_noticed(asked) -> None:
    with asked.at(COORDINATOR):
        from federation.services.coordination import head_now

        old = json.loads(json.dumps(head_now()))
    asked.settle()

    def behind(answer):
        return answer | {"links": [], "head": old}

    assert "shorter" in hear(asked, "a", behind)["alarm"]


def _own_entry(world, body: Any, key: str) -> Any:
    """An entry that the coordinator makes with its own key, as it could for a list of its own."""
    from federation import kinds
    from federation.identity import identity_now
    from federation.models import Membership
    from federation.transcript import Entry

    with world.at(COORDINATOR):
        membership = Membership.objects.get()
        return Entry(
            federation=membership.federation, author=kinds.COORDINATOR, kind=type(body).__name__, key=key,
            seen=membership.seq, seen_sha256=membership.sha256, body=kinds.plain(body),
        ).sign(identity_now())  # fmt: skip


def _fork(world: Any, body: Any, key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The list ends with an entry that only one site is shown, with a head to match."""
    from federation.identity import identity_now
    from federation.models import Membership
    from federation.transcript import Head, Link

    def twist(answer):
        entry = _own_entry(world, body, key)
        with world.at(COORDINATOR):
            membership = Membership.objects.get()
            link = Link(membership.seq + 1, membership.sha256, 1, entry)
            head = Head(membership.federation, link.seq, link.sha256, 1).sign(identity_now())
        return {"links": [*answer["links"], link.as_json()], "head": head.__dict__}

    return twist


def test_a_fork_shows_as_soon_as_either_side_reads_the_other(asked) -> None:
    """Site a is shown that the round was aborted, the others are not."""
    from federation import kinds

    forked = hear(asked, "a", _fork(asked, kinds.Aborted(asked.plan.sha256, "so it is said"), "aborted/x"))
    assert not forked["alarm"] and forked["state"] == "aborted"
    asked.step("b")
    asked.step("c")
    asked.step("a")  # reads the others' list: it does not continue its own
    assert asked.report("a")["alarm"]
    assert "aborted" not in (asked.report("b")["state"], asked.report("c")["state"])


@pytest.mark.parametrize("what", ["plan", "roster", "words", "early"])
def test_a_sum_that_was_not_agreed_on_gets_no_keys(asked, what) -> None:
    """The coordinator begins a sum over other sites, with another length, or before its time."""
    from federation import agent, kinds
    from federation.models import Outgoing
    from federation.services import sums

    sha256, sites = asked.plan.sha256, ("a", "b", "c")
    bodies = {
        "plan": kinds.SumBegun(f"{'0' * 16}.presence.1", "0" * 64, "presence", "", 1, sites, 4, 64),
        "roster": kinds.SumBegun(f"{sha256[:16]}.presence.1", sha256, "presence", "", 1, ("a", "b"), 4, 64),
        "words": kinds.SumBegun(f"{sha256[:16]}.presence.1", sha256, "presence", "", 1, sites, 5, 64),
        "early": kinds.SumBegun(f"{sha256[:16]}.update.tiny.1", sha256, "update", "tiny", 1, sites, 99, 32),
    }
    with asked.at("a"):
        agent.push(asked.line("a"))
    found = hear(asked, "a", _instead(asked, "SumBegun", bodies[what]))
    with asked.at("a"):
        if not found["alarm"]:
            sums.sums_step()
        assert not Outgoing.objects.filter(kind="Advert").exists()
        assert found["alarm"] or Outgoing.objects.filter(kind="Drop").exists()


def _instead(world: Any, kind: str, body: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The true list up to the first entry of this kind, and then another one in its place."""
    from federation import kinds
    from federation.identity import identity_now
    from federation.models import Membership
    from federation.transcript import Entry, Head, Link, read_link

    def twist(answer):
        links = [read_link(found) for found in answer["links"]]
        cut = next(number for number, link in enumerate(links) if link.entry.kind == kind)
        last = links[cut - 1]
        with world.at(COORDINATOR):
            federation = Membership.objects.get().federation
            entry = Entry(
                federation=federation, author=kinds.COORDINATOR, kind=type(body).__name__, key="instead",
                seen=last.seq, seen_sha256=last.sha256, body=kinds.plain(body),
            ).sign(identity_now())  # fmt: skip
            link = Link(last.seq + 1, last.sha256, last.at, entry)
            head = Head(federation, link.seq, link.sha256, last.at).sign(identity_now())
        return {"links": [*answer["links"][:cut], link.as_json()], "head": head.__dict__}

    return twist


def test_a_sum_is_not_what_was_announced(asked, monkeypatch) -> None:
    """The coordinator opens the sum, changes one word, and announces that."""
    from federation import storage
    from federation.services import summing_up

    honest = summing_up.sum_open

    def dishonest(total: Any) -> str:
        data = bytearray(storage.blob_bytes(honest(total)))
        data[0] ^= 1
        return storage.blob_add(bytes(data))

    monkeypatch.setattr(summing_up, "sum_open", dishonest)
    for _ in range(12):
        for name in (COORDINATOR, *asked.names):
            asked.step(name)
    for name in asked.names:
        found = asked.report(name)
        assert "is not the sum of the inputs" in found["alarm"] and found["state"] != "published"


def hear_alone(world: Any, name: str, twist: Any) -> dict[str, Any]:
    """Only what the twist makes of the true list, without anybody saying anything new."""
    from federation import agent

    with world.at(name):
        agent.pull(Lying(world, name, twist))
    return world.report(name)


def test_votes_cannot_be_claimed(asked, light_clinic) -> None:
    """A model is published only where a site reads enough accepting votes, signed by their sites."""
    from federation import kinds

    light_clinic.BALLOTS.update({"a": "accept", "b": "reject", "c": "reject"})
    asked.settle()
    assert asked.report("a")["state"] == "aborted"
    made = (kinds.MadeMember("tiny", "1" * 64, "2" * 64, "3" * 64),)
    body = kinds.Published(asked.plan.sha256, made, "")
    found = hear_alone(asked, "a", _fork(asked, body, "published/x"))
    assert found["alarm"] and found["state"] == "aborted"


def test_a_site_that_the_coordinator_makes_up_counts_nowhere(asked) -> None:
    """A Sybil may be admitted to the list; without every admin's confirmation no sum with it is begun."""
    from world import World

    assert isinstance(asked, World)
    asked.settle()
    from federation import kinds
    from federation.identity import identity_create
    from federation.models import Confirmation, Peer

    with asked.at(COORDINATOR):
        identity_create()
        Peer.objects.create(name="sybil", title="Sybil", public_key="9" * 64)
        assert not Confirmation.objects.filter(subject__name="sybil").exists()
    with asked.at("a"):
        from federation.services.validity import is_confirmed

        assert not is_confirmed("sybil", "9" * 64)
        assert is_confirmed("b", Peer.objects.get(name="b").public_key)
    assert kinds.COORDINATOR not in asked.names
