"""Starts the demonstration's sites as child processes, watches them, and stops them all together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from gestaltweb.demo.homes import DemoSite

START_SECONDS = 90
STOP_SECONDS = 15


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says what to do."""


def prepare(site: DemoSite) -> None:
    """Set up and fill a site's home in processes of its own; quick when that was done before."""
    site.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (site.home / "seeded").exists():
        run(site, "init_site")
        run(site, "seed_demo", site.cohort)
    else:
        run(site, "migrate", "-v", "0")


def run(site: DemoSite, *words: str) -> None:
    """One manage.py command of this site, in a process of its own; DemoFailed unless it ends well."""
    # Its words go to stderr: the demo's own stdout is the announcement, or one JSON document.
    command = site.command(*words)
    result = subprocess.run(command, env=site.environment(), check=False, stdout=sys.stderr)  # noqa: S603
    if result.returncode:
        raise DemoFailed(f"Setting up {site.name} failed. Remove {site.home} and start again.")


@contextmanager
def running(sites: list[DemoSite]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All sites serving; at the end of the block they are asked to stop, and then made to."""
    for site in sites:
        _require_free(site)
    children = [
        subprocess.Popen(  # noqa: S603  own command
            site.command("serve", "--host", "127.0.0.1", "--port", str(site.port), "--quiet"),
            env=site.environment(), start_new_session=True,
        )
        for site in sites
    ]  # fmt: skip
    try:
        for site, child in zip(sites, children, strict=True):
            _wait_until_up(site, child)
        yield children
    finally:
        stop(children)


def stop(children: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to all, then SIGKILL to whoever is left after STOP_SECONDS."""
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def watch(sites: list[DemoSite], children: list[subprocess.Popen[bytes]]) -> None:
    """Return only when a child has ended by itself, with an error that names it."""
    while True:
        for site, child in zip(sites, children, strict=True):
            if child.poll() is not None:
                raise DemoFailed(f"{site.name} stopped by itself (exit code {child.returncode}).")
        time.sleep(0.5)


def _require_free(site: DemoSite) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", site.port)) == 0:
            raise DemoFailed(f"Port {site.port} is taken. Set DEMO_PORT to another first port.")


def _wait_until_up(site: DemoSite, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DemoFailed(f"{site.name} did not start (exit code {child.returncode}).")
        if _answers(site):
            return
        time.sleep(0.1)
    raise DemoFailed(f"{site.name} did not answer within {START_SECONDS} s.")


def _answers(site: DemoSite) -> bool:
    try:
        with urllib.request.urlopen(f"{site.address}/health/", timeout=2) as answer:  # noqa: S310  loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
