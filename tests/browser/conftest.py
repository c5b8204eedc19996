"""A real demo site in a process of its own, and Chromium to visit it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PEOPLE = os.environ.get("GESTALTWEB_BROWSER_PEOPLE", "40")
if not CHROMIUM and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]
    print("SKIPPED: tests/browser needs Debian's package chromium")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def demo_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A seeded demo hospital that is serving; fewer patients than the demo's, each syndrome kept."""
    from gestaltweb.demo import supervise
    from gestaltweb.demo.homes import DemoSite

    folder = tmp_path_factory.mktemp("demo")
    os.environ["GESTALTWEB_DEMO"] = str(folder)
    site = DemoSite("hospital-a", "Demo Hospital A", "A", free_port())
    site.home.mkdir(parents=True)
    supervise.run(site, "init_site")
    supervise.run(site, "seed_demo", "A", "--people", PEOPLE)
    with supervise.running([site]):
        yield site
    del os.environ["GESTALTWEB_DEMO"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(chromium: Any, demo_site: Any) -> Iterator[Any]:
    """visit(user or None, width=1280) → a page, signed in where a user is named; complaints fail the test."""
    contexts, faults = [], []

    def enter(user: str | None, *, width: int = 1280, **options: Any) -> Any:
        height = 900 if width > 600 else 844
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda note: faults.append(note.text) if "Content Security" in note.text else None)
        if user:
            sign_in(page, demo_site, user)
        return page

    yield enter
    for context in contexts:
        context.close()
    assert faults == []


def sign_in(page: Any, site: Any, user: str) -> None:
    from gestaltweb.demo.codes import current_code
    from gestaltweb.demo.homes import logins_read

    login = logins_read(site.home)[user]
    page.goto(f"{site.address}/account/login/")
    page.fill("[name=login]", user)
    page.fill("[name=password]", login["password"])
    page.click("main form button")
    if login["totp"]:
        page.fill("[name=code]", current_code(login["totp"]))
        page.click("main form button")


@pytest.fixture(scope="session")
def pictures() -> Any:
    """pictures(page, name): keeps a screenshot in docs/screenshots when GESTALTWEB_SCREENSHOTS=1.

    Only with `-k staff`, on a home of its own: the other story uploads a real photo, which has no place there.
    """
    folder = Path(__file__).resolve().parents[2] / "docs" / "screenshots"

    def keep(page: Any, name: str, *, whole: bool = True) -> None:
        if os.environ.get("GESTALTWEB_SCREENSHOTS"):
            for image in page.locator("img[loading=lazy]").all():
                image.scroll_into_view_if_needed()
            page.wait_for_load_state("networkidle")
            page.evaluate("window.scrollTo(0, 0)")
            page.screenshot(path=str(folder / f"{name}.png"), full_page=whole)

    return keep
