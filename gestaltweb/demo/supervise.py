"""Starts the demonstration's sites as child processes, watches them, and stops them all together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gestaltweb.demo.homes import DemoSite

START_SECONDS = 90
STOP_SECONDS = 15


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says what to do."""


def prepare_all(sites: Sequence[DemoSite], people: int | None = None) -> None:
    """Set up and fill homes, as many at a time as there are processors, each in processes of its own."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # the hospital with most patients comes first
        for done in [pool.submit(prepare, site, people) for site in sites]:
            done.result()


def prepare(site: DemoSite, people: int | None = None) -> None:
    """Set up and fill a site's home in processes of its own; quick when that was done before."""
    site.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (site.home / "seeded").exists():
        run(site, "migrate", "-v", "0")
        return
    run(site, "init_site")
    fewer = ["--people", str(people)] if people else []
    run(site, "seed_demo", *([site.cohort, *fewer] if site.cohort else []))


def run(site: DemoSite, *words: str) -> None:
    """One manage.py command of this site, in a process of its own; DemoFailed unless it ends well."""
    # Its words go to stderr: the demo's own stdout is the announcement, or one JSON document.
    command = site.command(*words)
    result = subprocess.run(command, env=site.environment(), check=False, stdout=sys.stderr)  # noqa: S603
    if result.returncode:
        raise DemoFailed(f"Setting up {site.name} failed. Remove {site.home} and start again.")


def ask(site: DemoSite, *words: str, told: Any = None) -> Any:
    """The JSON that a manage.py command of this site answers to `told`, as JSON on its standard input."""
    done = subprocess.run(  # noqa: S603  own command
        site.command(*words), env=site.environment(), check=False, stdout=subprocess.PIPE, text=True,
        input=json.dumps(told),
    )  # fmt: skip
    if done.returncode:
        raise DemoFailed(f"{site.name}: manage.py {words[0]} {' '.join(words[1:])} failed.")
    return json.loads(done.stdout)


def ask_all(questions: Mapping[DemoSite, Sequence[str]], told: Any = None) -> dict[DemoSite, Any]:
    """`ask` several sites at the same time."""
    with ThreadPoolExecutor(len(questions) or 1) as pool:
        asked = {site: pool.submit(ask, site, *words, told=told) for site, words in questions.items()}
        return {site: answer.result() for site, answer in asked.items()}


@contextmanager
def running(sites: Sequence[DemoSite]) -> Iterator[list[subprocess.Popen[bytes]]]:
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


def watch(sites: Sequence[DemoSite], children: list[subprocess.Popen[bytes]]) -> None:
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
