"""A site's side of the wire: addresses, resumed files, a corrected clock, and a coordinator that misbehaves."""

from __future__ import annotations

import datetime as dt
import errno
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import time_machine
from django.utils import timezone
from wire_site import ADDRESS, TOKEN, Bridge, Site, reply, sha

from federation import storage
from federation.clock import Clock, milliseconds, time_sign
from federation.errors import ClockWrong, InvalidMessage, NoRoom, NotAuthentic, Refused, Unreachable
from federation.identity import identity_now, public_hex
from federation.models import Blob, Membership, TranscriptLink
from federation.transport import Coordinator, require_address

DATA = bytes(range(250)) * 20  # five chunks of 1000
NAME = sha(DATA)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "masked"
    path.write_bytes(DATA)
    return path


# --- where to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address, kept",
    [
        ("https://coordinator.example", "https://coordinator.example"),
        ("https://coordinator.example:8443/", "https://coordinator.example:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.9.9.9:8000", "http://127.9.9.9:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_https_anywhere_and_plain_http_on_this_machine(address: str, kept: str) -> None:
    assert require_address(address) == kept


@pytest.mark.parametrize(
    "address",
    [
        "http://coordinator.example", "http://10.0.0.5:8000", "http://127.0.0.1.example.org",
        "http://localhost.example.org", "http://[fe80::1]", "http://0.0.0.0:8000", "http://2130706433",
    ],
)  # fmt: skip
def test_plain_http_to_another_machine_is_refused(address: str) -> None:
    with pytest.raises(InvalidMessage, match="https://"):
        require_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "", "coordinator.example", "ftp://coordinator.example", "https://", "https://a.example/path",
        "https://user:secret@a.example", "https://a.example?x=1", "https://a.example#x",
        "https://a.example:port", "https://a.example:99999", "file:///etc/passwd", "https://[::1",
        "http://127.0.0.1@evil.example", "https://a.example/..",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        require_address(address)
    assert "secret" not in str(caught.value)


def test_proxies_of_the_environment_are_for_https_only(monkeypatch: Any, db: None) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.hospital.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    key = Site("berlin").key
    made = {address: Coordinator(address=address, identity=key, name="b", clock=Clock())
            for address in ("http://127.0.0.1:9", "https://coordinator.example")}  # fmt: skip
    proxies = {address: [mount for mount in line._client._mounts.values() if mount]
               for address, line in made.items()}  # fmt: skip
    assert not proxies["http://127.0.0.1:9"] and proxies["https://coordinator.example"]


def test_nobody_there_is_unreachable_and_may_be_tried_again(federation: Any) -> None:
    line = federation.berlin.coordinator(address="http://127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        line.links(0)
    assert caught.value.retry
    line.close()


# --- entries and links -------------------------------------------------------------------------------------


def test_an_entry_goes_in_and_comes_back_as_a_link(federation: Any) -> None:
    line = federation.berlin.coordinator(Bridge())
    assert line.post_entry(federation.berlin.entry())["seq"] == 1
    found = federation.hamburg.coordinator(Bridge()).links(0)
    assert found["links"][0]["entry"].encode() == federation.berlin.entry()
    assert federation.hamburg.coordinator(Bridge()).links(after=1, wait=0.5)["links"] == []


def test_a_stranger_joins_by_its_invitation_only(federation: Any) -> None:
    site = federation.stranger
    body = site.entry(kind="Join", title="N", public_key=public_hex(site.key), invitation_sha256="0" * 64)
    line = site.coordinator(Bridge())
    with pytest.raises(Refused) as caught:
        line.post_entry(body)
    assert (caught.value.status, caught.value.reason, caught.value.retry) == (403, "not-a-member", False)
    assert line.post_entry(body, invitation=TOKEN)["seq"] == 1


def test_a_refusal_carries_the_coordinator_s_sentence(federation: Any) -> None:
    with pytest.raises(Refused, match="not a member of the federation any more") as caught:
        federation.removed.coordinator(Bridge()).links(0)
    assert caught.value.status == 403 and not caught.value.retry


# --- files -------------------------------------------------------------------------------------------------


def test_a_file_goes_over_in_chunks_and_comes_back(federation: Any, small_chunks: int, file: Path) -> None:
    bridge = Bridge()
    federation.berlin.coordinator(bridge).blob_put(file, NAME)
    assert bridge.sent_bytes == len(DATA) and len(bridge.seen) == 1 + 5
    federation.berlin.coordinator(bridge).blob_put(file, NAME)
    assert bridge.sent_bytes == len(DATA), "what is there is not sent again"
    target = file.parent / "deep" / "fetched"
    assert federation.hamburg.coordinator(Bridge()).blob_get(NAME, len(DATA), target) == target
    assert target.read_bytes() == DATA and target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["fetched"]


@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("cut", range(1, 7))
def test_a_cut_at_any_request_is_resumed(
    federation: Any, small_chunks: int, file: Path, cut: int, lost: bool
) -> None:
    """Before: the request never arrived. After: it had its effect, and the answer was lost."""
    first, second = Bridge(cut=cut, lost=lost), Bridge()
    with pytest.raises(Unreachable):
        federation.berlin.coordinator(first).blob_put(file, NAME)
    federation.berlin.coordinator(second).blob_put(file, NAME)
    assert storage.blob_path(NAME).read_bytes() == DATA
    assert first.sent_bytes + second.sent_bytes == len(DATA), "no chunk went over twice"


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_cut_download_is_resumed(federation: Any, small_chunks: int, file: Path, cut: int) -> None:
    storage.blob_add(DATA)
    target, again = file.parent / "fetched", Bridge()
    with pytest.raises(Unreachable):
        federation.berlin.coordinator(Bridge(cut=cut)).blob_get(NAME, len(DATA), target)
    assert not target.exists()
    federation.berlin.coordinator(again).blob_get(NAME, len(DATA), target)
    assert target.read_bytes() == DATA and len(again.seen) == 5 - (cut - 1)


def test_death_of_the_coordinator_before_the_hash_check_is_made_up_for(
    federation: Any, small_chunks: int, file: Path
) -> None:
    for start in range(0, len(DATA), 1000):
        storage.chunk_store(sha256=NAME, offset=start, size=len(DATA), data=DATA[start : start + 1000],
                            owner="berlin")  # fmt: skip
    bridge = Bridge()
    federation.berlin.coordinator(bridge).blob_put(file, NAME)
    assert bridge.sent_bytes == 0 and Blob.objects.get().complete


def test_two_uploads_at_once_both_succeed(federation: Any, small_chunks: int, file: Path) -> None:
    """Before each of its chunks, the slower one finds that the faster one has sent it already."""
    fast = federation.berlin.coordinator(Bridge())

    class Overtaken(Bridge):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "PUT" and len(self.seen) % 2:
                received = fast.blob_state(NAME)["received"]
                if received < len(DATA):
                    fast._chunk_put(NAME, received, len(DATA), DATA[received : received + 1000])
            return super().handle_request(request)

    federation.berlin.coordinator(Overtaken()).blob_put(file, NAME)
    assert storage.blob_path(NAME).read_bytes() == DATA


def test_another_site_s_unfinished_file_is_a_reason_to_come_back(federation: Any, file: Path) -> None:
    storage.chunk_store(sha256=NAME, offset=0, size=len(DATA), data=DATA[:10], owner="hamburg")
    with pytest.raises(Unreachable):
        federation.berlin.coordinator(Bridge()).blob_put(file, NAME)


def test_a_file_that_is_not_what_it_is_called_is_refused(
    federation: Any, small_chunks: int, file: Path
) -> None:
    with pytest.raises(Refused, match="hash") as caught:
        federation.berlin.coordinator(Bridge()).blob_put(file, "0" * 64)
    assert caught.value.status == 422 and not Blob.objects.exists()


def test_a_full_disk_at_the_coordinator_is_a_reason_to_come_back(
    federation: Any, file: Path, settings: Any
) -> None:
    settings.FEDERATION_PEER_QUOTA_BYTES = 1
    with pytest.raises(Refused) as caught:
        federation.berlin.coordinator(Bridge()).blob_put(file, NAME)
    assert caught.value.status == 507 and caught.value.retry


def test_a_full_disk_at_the_site_is_a_sentence_and_resumes(
    federation: Any, small_chunks: int, file: Path, monkeypatch: Any
) -> None:
    storage.blob_add(DATA)
    line, target = federation.berlin.coordinator(Bridge()), file.parent / "fetched"

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("federation.transport.write_all", full)
    with pytest.raises(NoRoom):
        line.blob_get(NAME, len(DATA), target)
    monkeypatch.undo()
    monkeypatch.setattr("federation.transport.CHUNK_BYTES", 1000)
    monkeypatch.setattr("federation.storage.CHUNK_BYTES", 1000)
    assert line.blob_get(NAME, len(DATA), target).read_bytes() == DATA


def test_a_damaged_beginning_is_noticed_and_fetched_anew(federation: Any, file: Path) -> None:
    storage.blob_add(DATA)
    line, target = federation.berlin.coordinator(Bridge()), file.parent / "fetched"
    target.with_name(".fetched.part").write_bytes(b"\xff" * 100)
    with pytest.raises(InvalidMessage, match="hash"):
        line.blob_get(NAME, len(DATA), target)
    assert not target.exists()
    assert line.blob_get(NAME, len(DATA), target).read_bytes() == DATA


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_than_announced_is_refused(federation: Any, file: Path, size: int) -> None:
    storage.blob_add(DATA)
    with pytest.raises(Refused, match="size|larger"):
        federation.berlin.coordinator(Bridge()).blob_get(NAME, size, file.parent / "fetched")
    assert not (file.parent / "fetched").exists()


# --- clocks ------------------------------------------------------------------------------------------------


class Skewed(Bridge):
    """The coordinator lives in `minutes` from now, by the site's clock."""

    minutes = 0.0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        there = timezone.now() + dt.timedelta(minutes=self.minutes)
        with time_machine.travel(there):
            return super().handle_request(request)


def skewed(minutes: float) -> Skewed:
    bridge = Skewed()
    bridge.minutes = minutes
    return bridge


@pytest.mark.parametrize("minutes", [9.9, -9.9, 7, -2])
def test_a_clock_ten_minutes_off_is_corrected_on_the_way(federation: Any, minutes: float) -> None:
    bridge = skewed(minutes)
    assert federation.berlin.coordinator(bridge).post_entry(federation.berlin.entry())["seq"] == 1
    asked = [path.rsplit("/", 1)[1] for path in bridge.seen]
    assert asked == ["entries", "time", "entries"] if abs(minutes) > 4 or minutes < -1 else ["entries"]
    offset = Membership.objects.get().clock_offset_ms
    assert abs(offset - minutes * 60_000) < 3_000
    assert federation.berlin.coordinator(skewed(minutes)).links(0)["head"]["seq"] == 1


@pytest.mark.parametrize("minutes", [60, -60])
def test_a_clock_an_hour_off_is_not(federation: Any, minutes: float) -> None:
    line = federation.berlin.coordinator(skewed(minutes))
    with pytest.raises(ClockWrong, match="Set the clock"):
        line.post_entry(federation.berlin.entry())
    assert Membership.objects.get().clock_offset_ms == 0 and not TranscriptLink.objects.exists()


def test_without_the_coordinator_s_key_no_clock_is_corrected(federation: Any) -> None:
    line = federation.berlin.coordinator(skewed(9))
    line.coordinator_key = ""
    with pytest.raises(Refused) as caught:
        line.links(0)
    assert caught.value.reason == "expired"


def test_a_time_signed_by_another_or_shown_again_is_refused(federation: Any) -> None:
    line = federation.berlin.coordinator(Bridge())
    old = line.time()
    forger = Site("forger").key

    def answer(found: dict[str, Any]) -> Coordinator:
        return federation.berlin.coordinator(httpx2.MockTransport(lambda _: reply(200, found)))

    signature = time_sign(forger, nonce=old["nonce"], at=old["at"])
    for found in (old, old | {"signature": signature}, old | {"at": old["at"] + 1}, {"at": old["at"]}):
        with pytest.raises(NotAuthentic):
            answer(found).synchronise()
    for found in ({}, old | {"at": "noon"}, old | {"at": -1}, old | {"at": 1 << 60}):
        with pytest.raises(InvalidMessage):
            answer(found).synchronise()
    assert Membership.objects.get().clock_offset_ms == 0


def test_a_slow_answer_is_counted_half(federation: Any, monkeypatch: Any) -> None:
    ticks = iter([100.0, 104.0])
    line = federation.berlin.coordinator(Bridge())
    at = milliseconds(timezone.now())
    monkeypatch.setattr(line, "time", lambda: {"at": at})
    monkeypatch.setattr("federation.transport.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    assert abs(line.synchronise() - 2000) < 1000


# --- a coordinator that misbehaves -------------------------------------------------------------------------


def answered(site: Site, make: Callable[[httpx2.Request], httpx2.Response]) -> Coordinator:
    return site.coordinator(httpx2.MockTransport(make))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(federation: Any, status: int) -> None:
    asked: list[str] = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return reply(status, Location="https://evil.example/")

    with pytest.raises(Refused, match="leads elsewhere"):
        answered(federation.berlin, elsewhere).links(0)
    assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_at_the_coordinator_is_tried_again_later(federation: Any, status: int) -> None:
    with pytest.raises(Unreachable):
        answered(federation.berlin, lambda _: reply(status, b"<html>")).links(0)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 50_000, b'"' + b"x" * 100])
def test_an_answer_of_another_form_is_refused(federation: Any, content: bytes) -> None:
    line = answered(federation.berlin, lambda _: reply(200, content))
    for ask in (lambda: line.links(0), lambda: line.post_entry(b"{}"), lambda: line.blob_state(NAME)):
        with pytest.raises(InvalidMessage):
            ask()


def test_an_endless_or_compressed_answer_is_refused(federation: Any) -> None:
    def endless() -> Any:
        while True:
            yield bytes(1 << 20)

    line = answered(federation.berlin, lambda _: httpx2.Response(200, content=endless()))
    with pytest.raises(Refused, match="larger"):
        line.links(0)
    bomb = answered(
        federation.berlin,
        lambda _: reply(200, b"x", **{"Content-Encoding": "gzip"}),
    )
    with pytest.raises(Refused, match="compressed"):
        bomb.links(0)


def test_a_dripping_answer_is_given_up(federation: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("federation.transport.SECONDS", -1.0)
    with pytest.raises(Unreachable, match="slowly"):
        answered(federation.berlin, lambda _: reply(200, {})).links(0)


def test_a_stranger_s_sentence_is_short_and_printable(federation: Any) -> None:
    error = {"error": "\x1b[31mred\n" + "x" * 5000, "reason": ["no"], "received": "many"}
    with pytest.raises(Refused) as caught:
        answered(federation.berlin, lambda _: reply(422, error)).links(0)
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 300
    assert caught.value.reason == "refused" and caught.value.details == {}
    with pytest.raises(Refused, match="status 418"):
        answered(federation.berlin, lambda _: reply(418, b"teapot")).links(0)


@pytest.mark.parametrize(
    "state",
    [{"received": 0, "complete": False}, {"received": -1}, {"received": 10**9}, {}, {"received": True}],
)
def test_an_upload_that_does_not_move_ends(
    federation: Any, small_chunks: int, file: Path, state: Any
) -> None:
    line = answered(federation.berlin, lambda _: reply(200, state))
    with pytest.raises((Unreachable, InvalidMessage)):
        line.blob_put(file, NAME)


def test_an_upload_that_is_sent_back_and_forth_ends(federation: Any, small_chunks: int, file: Path) -> None:
    asked: list[str] = []

    def to_and_fro(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.method)
        if request.method == "GET":
            return reply(200, {"received": 0, "complete": False})
        place = 1000 if request.url.path.endswith("/0") else 0
        return reply(409, {"error": "No.", "received": place})

    with pytest.raises(Unreachable):
        answered(federation.berlin, to_and_fro).blob_put(file, NAME)
    assert len(asked) < 60


def test_a_download_of_empty_or_wrong_bytes_ends(federation: Any, small_chunks: int, file: Path) -> None:
    target = file.parent / "fetched"
    for content in (b"", b"x", bytes(1001)):
        line = answered(federation.berlin, lambda _, found=content: reply(200, found))
        with pytest.raises(Refused):
            line.blob_get(NAME, len(DATA), target)
    line = answered(federation.berlin, lambda _: reply(200, bytes(1000)))
    with pytest.raises(InvalidMessage, match="hash"):
        line.blob_get(NAME, len(DATA), target)
    assert [path.name for path in file.parent.iterdir() if "fetched" in path.name] == []


def test_cookies_and_secrets_do_not_travel(federation: Any, caplog: Any) -> None:
    sent: list[httpx2.Request] = []

    def bake(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return reply(200, {"links": []}, **{"Set-Cookie": "track=1"})

    line = answered(federation.berlin, bake)
    with caplog.at_level(0):
        line.links(0)
        line.links(0)
    assert "cookie" not in sent[1].headers and "authorization" not in sent[1].headers
    secret = federation.berlin.key.private_bytes_raw().hex()
    assert secret not in caplog.text and secret not in json.dumps(dict(sent[0].headers))
    assert identity_now() and ADDRESS in str(sent[0].url)
