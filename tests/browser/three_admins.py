"""Admins of three hospitals, each at a browser of their own: what they click, and what they then see."""

from __future__ import annotations

import re
import time
from typing import Any

WAIT_MS = 60_000


class Admin:
    """One hospital's admin in a browser of their own, signed in with password and code."""

    def __init__(self, chromium: Any, site: Any) -> None:
        from gestaltweb.demo.homes import logins_read

        self.site, self.login = site, logins_read(site.home)["admin"]
        self.page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.open("/account/login/")
        self.page.fill("[name=login]", "admin")
        self.page.fill("[name=password]", self.login["password"])
        self.page.click("main form button")
        self.code("main form button")

    def open(self, path: str) -> Any:
        self.page.goto(f"{self.site.address}{path}")
        return self.page

    def code(self, button: str) -> None:
        """Type a code that was not used yet and press the button."""
        from gestaltweb.demo.codes import fresh_code

        self.page.locator("[name=code]").first.fill(fresh_code(self.login["totp"]))
        self.page.locator(button).first.click()
        self.page.wait_for_load_state()

    def asked(self) -> int:
        """The number of the round that waits for this hospital's answer, once it does."""
        return int(self.until(r"Round (\d+) waits for this hospital", "/federation/"))

    def until(self, pattern: str, path: str, seconds: float = 180) -> str:
        """Look at a page again until it says so; what the pattern's group found."""
        end = time.monotonic() + seconds
        while (match := re.search(pattern, self.open(path).inner_text("main"))) is None:
            assert time.monotonic() < end, (self.site.name, pattern, self.page.inner_text("main")[:1500])
            time.sleep(1)
        return match.group(1) if match.groups() else match.group()

    def approve(self, number: int) -> None:
        self.open(f"/federation/rounds/{number}/answer/")
        self.code("form[action*='/approve/'] button")

    def decline(self, number: int, reason: str) -> None:
        self.open(f"/federation/rounds/{number}/answer/").click(
            "details:has(form[action$='/decline/']) summary"
        )
        self.page.fill("form[action$='/decline/'] [name$=reason]", reason)
        self.page.click("form[action$='/decline/'] button")
        self.page.wait_for_load_state()

    def propose(self, sites: list[str]) -> None:
        """Invite exactly these hospitals; few held-out patients may judge, as in the demonstration."""
        page = self.open("/federation/propose/")
        for box in page.locator("[name=sites]").all():
            box.set_checked(box.get_attribute("value") in sites)
        page.fill("[name=minimum_patients]", "5")
        page.click("main form .button-primary")
        page.click("main form:has([name=plan]) .button-primary")
        page.wait_for_load_state()

    def close(self) -> None:
        self.page.context.close()


def play(chromium: Any, hospitals: list[Any]) -> tuple[list[str], list[str]]:
    """A round waits for the first hospital, which declines; it proposes the next one, and all three approve.

    Returns what every hospital's page says of the declined round and of the approved one.
    """
    admins = [Admin(chromium, site) for site in hospitals]
    first = admins[0]
    declined = first.asked()
    first.decline(declined, "not this week")
    ended = [admin.until(r"Aborted|Ended", f"/federation/rounds/{declined}/") for admin in admins]
    first.propose([site.slug for site in hospitals])
    for admin in admins:
        number = admin.asked()
        admin.approve(number)
    published = [admin.until(r"Published", f"/federation/rounds/{number}/") for admin in admins]
    assert number == declined + 1
    for admin in admins:
        admin.close()
    return ended, published
