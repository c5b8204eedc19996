"""The same wire through a real server and real sockets: waiting blocks nobody, and files survive the way."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from wire_site import Site, found, sha

from federation.errors import Refused, Unreachable
from federation.models import Membership, Peer
from gestaltweb.limits import BodyLimit


@pytest.fixture
def server(transactional_db: None, engine: Any, settings: Any) -> Iterator[tuple[str, Any]]:
    settings.ROOT_URLCONF = "wire_urls"
    sites = found()
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    Membership.objects.update(coordinator_address=address)
    config = uvicorn.Config(BodyLimit(get_asgi_application()), log_config=None, lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([listener])))
    thread.start()
    until = time.monotonic() + 20
    while not running.started and time.monotonic() < until:
        time.sleep(0.05)
    yield address, sites
    running.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def timed(work: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    return work(), time.monotonic() - begun


def test_waiting_sites_block_nobody_and_hear_at_once(server: tuple[str, Any]) -> None:
    address, sites = server
    many = [Site(f"site{number}") for number in range(8)]
    for site in many:
        from federation.identity import public_hex

        Peer.objects.create(name=site.name, title=site.name, public_key=public_hex(site.key))
    with ThreadPoolExecutor(8) as pool:
        lines = [site.coordinator(address=address) for site in many]
        waiting = [pool.submit(timed, lambda line=line: line.links(0, wait=20)) for line in lines]
        time.sleep(2)
        assert not any(each.done() for each in waiting)
        _, quick = timed(lambda: httpx2.get(f"{address}/quick/", trust_env=False).raise_for_status())
        _, told = timed(lambda: sites.berlin.coordinator(address=address).time())
        said = time.monotonic()
        sites.berlin.coordinator(address=address).post_entry(sites.berlin.entry())
        answers = [each.result(timeout=20) for each in waiting]
        heard = time.monotonic() - said
    assert quick < 2 and told < 2, "eight waiting sites, and the ninth request is answered"
    assert all(len(found["links"]) == 1 for found, _ in answers)
    assert heard < 5 and max(seconds for _, seconds in answers) < 10
    print(f"beside 8 waiting sites: a page {quick:.3f} s, the time {told:.3f} s; a link heard {heard:.3f} s")


def test_a_file_of_several_chunks_travels_both_ways(server: tuple[str, Any], tmp_path: Path) -> None:
    address, sites = server
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789abcdef" * (17 * 2**16))  # 17 MiB: three chunks
    name = sha(source.read_bytes())
    _, sent = timed(lambda: sites.berlin.coordinator(address=address).blob_put(source, name))
    size = source.stat().st_size
    _, got = timed(lambda: sites.hamburg.coordinator(address=address).blob_get(name, size, target))
    assert target.read_bytes() == source.read_bytes()
    print(f"17 MiB: sent in {sent:.2f} s, fetched in {got:.2f} s")


def test_too_large_a_body_is_refused_before_it_is_read(server: tuple[str, Any]) -> None:
    address, sites = server
    line = sites.berlin.coordinator(address=address)
    with pytest.raises(Refused) as caught:
        line.post_entry(bytes(2**20 + 100))
    assert caught.value.status == 413
    # The answer comes before the body was read; a line that is cut while still writing may never see it.
    with pytest.raises((Refused, Unreachable)) as cut:
        line._json("PUT", f"/blobs/{'0' * 64}/0", query="size=9000000", body=bytes(9_000_000))
    if isinstance(cut.value, Refused):
        assert cut.value.status == 413 and "bytes that fit here" in str(cut.value)
    assert line.blob_state("0" * 64)["received"] == 0
