"""Hostile requests at the coordinator's doors: each refused with a reason, none a 500, and nothing changed."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_site import TOKEN, Site, effects, everything, raw, sha

from federation.identity import identity_create, public_hex
from federation.models import Nonce, Peer, TranscriptLink
from federation.signing import INVITATION

BLOB = b"masked input"
NAME = sha(BLOB)
PUT = f"/blobs/{NAME}/0?size={len(BLOB)}"


def refused(answer: Any, status: int, reason: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["reason"]) == (status, reason), body
    assert body["error"][0].isupper() and body["error"].endswith(".")
    assert "Set-Cookie" not in answer.headers and not answer.cookies
    return str(body["error"])


# --- what is honest gets in --------------------------------------------------------------------------------


def test_a_member_adds_an_entry_reads_links_and_is_seen(federation: Any) -> None:
    answer = federation.berlin.send("POST", "/entries", body=federation.berlin.entry())
    assert answer.status_code == 200 and answer.json()["seq"] == 1
    found = federation.hamburg.send("GET", "/links?after=0").json()
    assert [link["seq"] for link in found["links"]] == [1] and found["head"]["seq"] == 1
    assert found["health"].keys() == {"berlin", "hamburg"}, "a removed site is not among them"
    seen = dt.datetime.fromisoformat(found["health"]["berlin"])
    assert abs((timezone.now() - seen).total_seconds()) < 10
    assert not answer.cookies and "Set-Cookie" not in answer.headers


def test_a_blob_goes_in_and_any_member_reads_it(federation: Any) -> None:
    assert federation.berlin.send("GET", f"/blobs/{NAME}").json() == {
        "size": 0,
        "received": 0,
        "complete": False,
    }
    done = {"size": len(BLOB), "received": len(BLOB), "complete": True}
    assert federation.berlin.send("PUT", PUT, body=BLOB).json() == done
    assert federation.hamburg.send("GET", f"/blobs/{NAME}").json() == done
    answer = federation.hamburg.send("GET", f"/blobs/{NAME}/7")
    assert answer.content == BLOB[7:] and answer["Content-Type"] == "application/octet-stream"
    refused(federation.removed.send("GET", f"/blobs/{NAME}/0"), 403, "not-a-member")


def test_the_coordinator_s_address_counts_and_not_the_host_header(federation: Any) -> None:
    headers = federation.berlin.headers("GET", "/links?after=0")
    assert raw("GET", "/links?after=0", b"", headers | {"Host": "proxy.internal"}).status_code == 200


def test_an_address_that_only_the_invitation_gave_is_the_host_of_the_request(federation: Any) -> None:
    from federation.models import Membership

    headers = federation.berlin.headers("GET", "/links?after=0", address="http://other.example:99")
    assert raw("GET", "/links?after=0", b"", headers | {"Host": "other.example:99"}).status_code == 200
    Membership.objects.update(coordinator_address="")
    headers = federation.berlin.headers("GET", "/links?after=0", address="http://other.example:99")
    assert raw("GET", "/links?after=0", b"", headers | {"Host": "other.example:99"}).status_code == 200


def test_a_request_for_another_coordinator_is_refused_with_its_host_too(
    federation: Any, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    before = everything()
    headers = federation.berlin.headers("GET", "/links?after=0", address="https://other.example")
    assert raw("GET", "/links?after=0", b"", headers | {"Host": "other.example"}).status_code == 400
    refused(raw("GET", "/links?after=0", b"", headers | {"Host": "127.0.0.1"}), 401, "forged")
    assert everything() == before


# --- who and when ------------------------------------------------------------------------------------------

REQUESTS = [("POST", "/entries"), ("GET", "/links?after=0"), ("GET", f"/blobs/{NAME}"), ("PUT", PUT),
            ("GET", f"/blobs/{NAME}/0")]  # fmt: skip


def body_of(site: Site, method: str) -> bytes:
    return {"POST": site.entry(), "PUT": BLOB}.get(method, b"")


def _unsigned(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, path, body, {})


def _altered(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, path, body[:-1] + b" " if body else b"x", site.headers(method, path, body=body))


def _elsewhere(site: Site, method: str, path: str, body: bytes) -> Any:
    return site.send(method, path, body=body, address="https://other-coordinator.example")


def _other_path(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, path, body, site.headers(method, path.replace("/", "//", 1), body=body))


def _other_query(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, f"{path}&x=1" if "?" in path else f"{path}?x=1", body,
               site.headers(method, path, body=body))  # fmt: skip


def _other_method(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, path, body, site.headers("DELETE", path, body=body))


def _forged(site: Site, method: str, path: str, body: bytes) -> Any:
    headers = Site("forger").headers(method, path, body=body)
    forger = headers["Signature-Input"].split('keyid="')[1][:64]
    headers["Signature-Input"] = headers["Signature-Input"].replace(forger, public_hex(site.key))
    return raw(method, path, body, headers)


def _expired(site: Site, method: str, path: str, body: bytes) -> Any:
    return site.send(method, path, body=body, now=timezone.now() - dt.timedelta(minutes=6))


def _future(site: Site, method: str, path: str, body: bytes) -> Any:
    return site.send(method, path, body=body, now=timezone.now() + dt.timedelta(seconds=70))


def _malformed(site: Site, method: str, path: str, body: bytes) -> Any:
    return raw(method, path, body, site.headers(method, path, body=body) | {"Signature": "site=:%%:"})


def _unknown(site: Site, method: str, path: str, body: bytes) -> Any:
    return Site("berlin").send(method, path, body=body)


HOSTILE = [
    (_unsigned, 401, "missing"), (_malformed, 401, "malformed"), (_forged, 401, "forged"),
    (_other_path, 401, "forged"), (_other_query, 401, "forged"), (_other_method, 401, "forged"),
    (_elsewhere, 401, "forged"), (_expired, 401, "expired"), (_future, 401, "early"),
    (_unknown, 403, "not-a-member"),
]  # fmt: skip


@pytest.mark.parametrize("method, path", REQUESTS)
@pytest.mark.parametrize("attack, status, reason", HOSTILE)
def test_whoever_is_not_who_they_say_changes_nothing(
    federation: Any, attack: Any, status: int, reason: str, method: str, path: str
) -> None:
    before = everything()
    site = federation.berlin
    refused(attack(site, method, path, body_of(site, method)), status, reason)
    assert everything() == before


@pytest.mark.parametrize("method, path", REQUESTS)
def test_an_altered_body_changes_nothing(federation: Any, method: str, path: str) -> None:
    before = everything()
    answer = _altered(federation.berlin, method, path, body_of(federation.berlin, method))
    expected = (413, "too-large") if method == "GET" else (401, "altered")
    refused(answer, *expected)
    assert everything() == before


@pytest.mark.parametrize("method, path", REQUESTS)
def test_a_removed_site_may_do_nothing(federation: Any, method: str, path: str) -> None:
    before = everything()
    refused(
        federation.removed.send(method, path, body=body_of(federation.removed, method)), 403, "not-a-member"
    )
    assert everything() == before


@pytest.mark.parametrize("method, path", REQUESTS)
def test_the_same_request_is_never_taken_twice(federation: Any, method: str, path: str) -> None:
    if method == "GET":
        federation.hamburg.send("PUT", PUT, body=BLOB)
    site = federation.berlin
    body = body_of(site, method)
    headers = site.headers(method, path, body=body)
    assert raw(method, path, body, headers).status_code == 200
    before = everything()
    refused(raw(method, path, body, headers), 401, "replayed")
    assert everything() == before


def test_two_sites_may_draw_the_same_nonce(federation: Any) -> None:
    for site in (federation.berlin, federation.hamburg):
        assert site.send("GET", "/links?after=0", nonce="0" * 32).status_code == 200
    refused(federation.berlin.send("GET", "/links?after=0", nonce="0" * 32), 401, "replayed")


def test_a_nonce_and_its_effect_are_kept_or_lost_together(federation: Any, engine: Any) -> None:
    def die() -> None:
        raise OperationalError("database or disk is full")

    engine.after_append = die
    site, before = federation.berlin, everything()
    headers, body = site.headers("POST", "/entries", body=site.entry()), site.entry()
    refused(raw("POST", "/entries", body, headers), 507, "no-room")
    assert everything() == before
    engine.after_append = lambda: None
    assert raw("POST", "/entries", body, headers).status_code == 200, "the same request counts once"


def test_a_busy_database_is_a_reason_to_come_back(federation: Any, engine: Any) -> None:
    def busy() -> None:
        raise OperationalError("database is locked")

    engine.after_append = busy
    answer = federation.berlin.send("POST", "/entries", body=federation.berlin.entry())
    refused(answer, 503, "unreachable")


def test_old_nonces_are_forgotten_long_after_their_signatures_have_expired(federation: Any) -> None:
    federation.berlin.send("GET", "/links?after=0")
    Nonce.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=59))
    federation.berlin.send("GET", "/links?after=0")
    assert Nonce.objects.count() == 2, "kept, should the coordinator's clock be set back"
    Nonce.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=61))
    federation.berlin.send("GET", "/links?after=0")
    assert Nonce.objects.count() == 1


def test_a_rotated_key_counts_no_longer(federation: Any) -> None:
    new = Site("berlin")
    Peer.objects.filter(name="berlin").update(public_key=public_hex(new.key))
    refused(federation.berlin.send("GET", "/links?after=0"), 403, "not-a-member")
    assert new.send("GET", "/links?after=0").status_code == 200


def test_a_key_that_came_back_under_another_name_counts_as_the_new_site(federation: Any) -> None:
    Peer.objects.create(name="again", title="Again", public_key=public_hex(federation.removed.key))
    assert federation.removed.send("GET", "/links?after=0").status_code == 200
    assert Peer.objects.get(name="again").last_seen_at and not Peer.objects.get(name="removed").last_seen_at


# --- joining -----------------------------------------------------------------------------------------------


def join(site: Site, token: str, *, key: str = "", kind: str = "Join", extra: str | None = None) -> Any:
    public = key or public_hex(site.key)
    body = site.entry(kind=kind, title="New", public_key=public, invitation_sha256=sha(token.encode()))
    headers = site.headers("POST", "/entries", body=body, extra={INVITATION: token})
    return raw("POST", "/entries", body, headers if extra is None else headers | {INVITATION: extra})


def test_a_stranger_joins_with_an_invitation_and_the_key_of_its_own_entry(federation: Any) -> None:
    assert join(federation.stranger, TOKEN).status_code == 200
    assert TranscriptLink.objects.get().kind == "Join"


@pytest.mark.parametrize(
    "options, status, reason",
    [
        ({"token": "wrong"}, 422, "invalid"),
        ({"token": "wrong", "extra": TOKEN}, 401, "forged"),
        ({"token": TOKEN, "key": "0" * 64}, 401, "forged"),
        ({"token": TOKEN, "kind": "Leave"}, 401, "forged"),
        ({"token": TOKEN, "extra": ""}, 401, "forged"),
    ],
)
def test_nobody_joins_otherwise(federation: Any, options: Any, status: int, reason: str) -> None:
    before = everything()
    message = refused(join(federation.stranger, options.pop("token"), **options), status, reason)
    assert everything() == before and TOKEN not in message


def test_an_invitation_is_no_way_in_for_a_removed_site_and_opens_nothing_else(federation: Any) -> None:
    before = everything()
    refused(join(federation.removed, TOKEN), 403, "not-a-member")
    for method, path in REQUESTS[1:]:
        site = federation.stranger
        body = body_of(site, method)
        refused(site.send(method, path, body=body, extra={INVITATION: TOKEN}), 403, "not-a-member")
    assert everything() == before


# --- what is said ------------------------------------------------------------------------------------------


def entry_cases(site: Site) -> dict[str, bytes]:
    good = site.entry()
    fields = json.loads(good)
    return {
        "empty": b"", "truncated": good[:-5], "not an object": b"[1,2]", "text": b"hello",
        "not canonical": json.dumps(fields).encode(), "a field more": json.dumps(fields | {"x": 1}).encode(),
        "not UTF-8": b"\xff\xfe" + good, "NaN": good.replace(b'"seen":0', b'"seen":NaN'),
        "deep": b"[" * 100_000, "another's": Site("hamburg").entry(), "signed by another": _resigned(site),
        "huge number": good.replace(b'"seen":0', b'"seen":' + b"9" * 5000),
        "surrogate": good.replace(b'"reason":""', b'"reason":"\\ud800"'),
    }  # fmt: skip


def _resigned(site: Site) -> bytes:
    return Site(site.name).entry()


@pytest.mark.parametrize("case", sorted(entry_cases(Site("berlin"))))
def test_a_signed_request_with_a_bad_entry_is_refused(federation: Any, case: str) -> None:
    before = everything()
    body = entry_cases(federation.berlin)[case]
    refused(federation.berlin.send("POST", "/entries", body=body), 422, "invalid")
    assert everything() == before


def test_too_large_an_entry_or_chunk_is_refused(federation: Any) -> None:
    before = everything()
    refused(federation.berlin.send("POST", "/entries", body=bytes(2**20 + 1)), 413, "too-large")
    refused(federation.berlin.send("PUT", PUT, body=bytes(8 * 2**20 + 1)), 413, "too-large")
    assert everything() == before


@pytest.mark.parametrize(
    "method, path, status, reason",
    [
        ("GET", "/links", 422, "invalid"),
        ("GET", "/links?after=-1", 422, "invalid"),
        ("GET", "/links?after=x", 422, "invalid"),
        ("GET", "/links?after=1e3", 422, "invalid"),
        ("GET", "/links?after=9999999999999999999999", 422, "invalid"),
        ("GET", "/links?after=0&wait=26", 422, "invalid"),
        ("GET", "/links?after=0&wait=-1", 422, "invalid"),
        ("GET", "/blobs/ABC", 422, "invalid"),
        ("GET", f"/blobs/{NAME.upper()}", 422, "invalid"),
        ("GET", f"/blobs/{NAME}/0", 404, "not-here"),
        ("GET", f"/blobs/{NAME}/-1", 422, "invalid"),
        ("PUT", f"/blobs/{NAME}/0", 422, "invalid"),
        ("PUT", f"/blobs/{NAME}/0?size=0", 422, "invalid"),
        ("PUT", f"/blobs/{NAME}/0?size=3", 422, "invalid"),
        ("PUT", f"/blobs/{NAME}/5?size=99", 409, "conflict"),
        ("PUT", f"/blobs/{NAME}/0?size={10**15}", 413, "too-large"),
        ("PUT", "/blobs/..%2F..%2Fx/0?size=9", 404, ""),
        ("DELETE", f"/blobs/{NAME}", 405, "method"),
        ("PUT", "/entries", 405, "method"),
        ("POST", "/links?after=0", 405, "method"),
        ("POST", "/time?nonce=1", 405, "method"),
        ("GET", "/time", 422, "invalid"),
        ("GET", "/time?nonce=AB", 422, "invalid"),
    ],
)  # fmt: skip
def test_a_member_that_asks_nonsense_gets_a_sentence(
    federation: Any, method: str, path: str, status: int, reason: str
) -> None:
    before = effects()
    answer = federation.berlin.send(method, path, body=BLOB if method == "PUT" else b"")
    if reason:
        refused(answer, status, reason)
    assert answer.status_code == status and effects() == before


def test_a_chunk_with_the_wrong_hash_is_discarded_and_may_be_sent_again(federation: Any) -> None:
    wrong = bytes(len(BLOB))
    refused(federation.berlin.send("PUT", PUT, body=wrong), 422, "invalid")
    assert federation.berlin.send("GET", f"/blobs/{NAME}").json()["received"] == 0
    assert federation.berlin.send("PUT", PUT, body=BLOB).json()["complete"]


@settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=300), path=st.sampled_from(["/entries", PUT, "/links?after=0", "/time?nonce=0"])
)
def test_random_bytes_are_never_a_500(federation: Any, body: bytes, path: str) -> None:
    before = list(TranscriptLink.objects.all())
    for method in ("POST", "PUT", "GET"):
        assert 400 <= raw(method, path, body, {"Signature": "x", "Signature-Input": "y"}).status_code < 500
        assert federation.berlin.send(method, path, body=body).status_code < 500
    assert list(TranscriptLink.objects.all()) == before


@settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_random_change_of_an_entry_is_never_a_500_and_never_taken(federation: Any, data: Any) -> None:
    good = federation.berlin.entry()
    at = data.draw(st.integers(0, len(good) - 1))
    body = good[:at] + data.draw(st.binary(min_size=1, max_size=4)) + good[at + 1 :]
    answer = federation.berlin.send("POST", "/entries", body=body)
    assert answer.status_code == 422 or body == good
    assert not TranscriptLink.objects.exists() or body == good


# --- time and waiting --------------------------------------------------------------------------------------


def test_the_time_is_told_to_anybody_signed_and_says_nothing_else(federation: Any) -> None:
    from federation.clock import milliseconds, time_verify

    answer = raw("GET", f"/time?nonce={'ab' * 16}", b"", {}).json()
    assert answer.keys() == {"at", "nonce", "signature"}
    assert abs(answer["at"] - milliseconds(timezone.now())) < 5000
    time_verify(identity_create(), nonce="ab" * 16, at=answer["at"], signature=answer["signature"])


def test_waiting_for_links_ends_with_the_wait(federation: Any) -> None:
    begun = time.monotonic()
    found = federation.berlin.send("GET", "/links?after=0&wait=1").json()
    assert found["links"] == [] and 0.9 < time.monotonic() - begun < 3


def test_what_is_there_is_answered_at_once(federation: Any) -> None:
    federation.berlin.send("POST", "/entries", body=federation.berlin.entry())
    begun = time.monotonic()
    assert federation.hamburg.send("GET", "/links?after=0&wait=25").json()["links"]
    assert time.monotonic() - begun < 2
