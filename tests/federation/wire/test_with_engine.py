"""The wire with the coordinator's own engine behind it: joining, adding, reading, and what both refuse."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_site import FEDERATION, TOKEN, Bridge, Site, effects, found, sha

from federation import kinds
from federation.errors import Refused
from federation.identity import public_hex
from federation.models import Invitation, Membership, Peer, TranscriptLink
from federation.transcript import GENESIS, Entry, decode_entry, read_head, read_link, require_next


@pytest.fixture
def sites(db: None, settings: Any) -> Any:
    settings.ROOT_URLCONF = "wire_urls"
    made = found()
    later = timezone.now() + dt.timedelta(days=1)
    Invitation.objects.create(token_sha256=sha(TOKEN.encode()), title="New", expires_at=later)
    return made


def join_entry(site: Site) -> bytes:
    body = kinds.plain(kinds.Join("New", public_hex(site.key), sha(TOKEN.encode())))
    return Entry(FEDERATION, site.name, "Join", "join", 0, GENESIS, body).sign(site.key).encode()


def confirm_entry(site: Site, peer: Site) -> Entry:
    body = kinds.plain(kinds.Confirm(peer.name, public_hex(peer.key)))
    return Entry(FEDERATION, site.name, "Confirm", f"confirm/{peer.name}", 0, GENESIS, body).sign(site.key)


def test_a_site_joins_speaks_and_reads_a_list_that_verifies(sites: Any) -> None:
    line = sites.stranger.coordinator(Bridge())
    assert line.post_entry(join_entry(sites.stranger), TOKEN)["seq"] == 1
    assert line.post_entry(join_entry(sites.stranger), TOKEN)["seq"] == 1, "a lost answer is asked for again"
    assert Peer.objects.get(name="stranger").state == "joined"
    assert line.post_entry(confirm_entry(sites.stranger, sites.berlin).encode())["seq"] == 2
    answer = line.links(0)
    before = (0, GENESIS)
    for each in map(read_link, answer["links"]):
        require_next(each, after=before[0], sha256=before[1])
        each.entry.verify(public_hex(sites.stranger.key))
        before = (each.seq, each.sha256)
    head = read_head(answer["head"])
    head.verify(Membership.objects.get().coordinator_key)
    assert (head.seq, head.sha256) == before
    assert "stranger" in answer["health"]


def test_an_invitation_counts_once(sites: Any) -> None:
    sites.stranger.coordinator(Bridge()).post_entry(join_entry(sites.stranger), TOKEN)
    before = effects()
    with pytest.raises(Refused) as caught:
        Site("second").coordinator(Bridge()).post_entry(join_entry(Site("second")), TOKEN)
    assert caught.value.status in (401, 403) and effects() == before and TOKEN not in str(caught.value)


def hostile(sites: Any) -> dict[str, bytes]:
    entry = confirm_entry(sites.berlin, sites.hamburg)

    def signed(**changes: Any) -> bytes:
        return replace(entry, **changes).sign(sites.berlin.key).encode()

    return {
        "another's name": confirm_entry(replace(sites.berlin, name="hamburg"), sites.berlin).encode(),
        "another's signature": confirm_entry(Site("berlin"), sites.hamburg).encode(),
        "another federation": signed(federation="0" * 64),
        "the coordinator's word": signed(kind="Aborted", body={"round": "0" * 64, "reason": "x"}),
        "an unknown kind": signed(kind="Nonsense"),
        "a misshapen body": signed(body={"site": 7}),
        "an empty body": signed(body={}),
        "a list that does not exist": signed(seen=5, seen_sha256="a" * 64),
        "a coordinator's name": signed(author="coordinator"),
        "a second join": signed(kind="Join", body=kinds.plain(kinds.Join("B", "0" * 64, "0" * 64))),
        "a sum that does not exist": signed(kind="Masked", body={"sum": "x", "message": "{}"}),
        "a plan that is none": signed(kind="Propose", body={"plan": "{}"}),
        "a key of another": signed(kind="Rotate", body={"public_key": "0" * 64, "proof": "0" * 128}),
        "cut off": signed()[:-1],
        "a surrogate": signed(key="a").replace(b'"key":"a"', b'"key":"\\ud800"'),
        "a number of a thousand digits": signed().replace(b'"seen":0', b'"seen":' + b"9" * 1000),
    }


CASES = sorted(hostile(type("Sites", (), {"berlin": Site("berlin"), "hamburg": Site("hamburg")})))


@pytest.mark.parametrize("case", CASES)
def test_a_member_s_hostile_entry_is_refused_and_changes_nothing(sites: Any, case: str) -> None:
    before = effects(), list(Peer.objects.values_list("name", "public_key", "state"))
    answer = sites.berlin.send("POST", "/entries", body=hostile(sites)[case])
    body = answer.json()
    assert 400 <= answer.status_code < 500 and body["error"].endswith(".") and body["reason"], body
    assert (effects(), list(Peer.objects.values_list("name", "public_key", "state"))) == before


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(sorted(kinds.KINDS)), data=st.data())
def test_random_bodies_of_every_kind_are_never_a_500(sites: Any, kind: str, data: Any) -> None:
    value = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3))
    names = list(kinds.KINDS[kind].__dataclass_fields__)
    body = {name: data.draw(value) for name in names}
    entry = Entry(FEDERATION, "berlin", kind, data.draw(st.text(min_size=1, max_size=9)), 0, GENESIS, body)
    try:
        sent = entry.sign(sites.berlin.key).encode()
        decode_entry(sent)
    except ValueError:
        return  # not even in form: tested at the doors
    answer = sites.berlin.send("POST", "/entries", body=sent)
    assert answer.status_code < 500, (kind, body)
    assert answer.status_code != 200 or TranscriptLink.objects.get(text=sent.decode())
