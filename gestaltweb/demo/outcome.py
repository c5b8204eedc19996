"""What a story saw, and how its people sign in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gestaltweb.demo.browser import StoryFailed, Visitor
from gestaltweb.demo.codes import fresh_code
from gestaltweb.demo.homes import DemoSite, logins_read


@dataclass
class Outcome:
    """`steps`: what should hold → whether it did. `facts`: what was measured, printed and not judged."""

    steps: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def held(self) -> bool:
        return bool(self.steps) and all(self.steps.values()) and not self.problem


def sign_in(site: DemoSite, name: str) -> Visitor:
    """A visitor who signed in at a site, with the second factor's code where there is one."""
    login = logins_read(site.home)[name]
    visitor = Visitor(site.address).open("/account/login/")
    visitor.submit("", login=name, password=login["password"])
    for _ in range(2):  # a slow machine may let a code pass
        if "/2fa/authenticate" in visitor.path:
            visitor.submit("", code=fresh_code(login["totp"]))
    if "/login" in visitor.path or "/2fa/authenticate" in visitor.path:
        raise StoryFailed(f"{name} could not sign in at {site.name}.")
    return visitor


def found(pattern: str, text: str) -> str:
    """The pattern's first group in the text; StoryFailed without it."""
    match = re.search(pattern, text)
    if match is None:
        raise StoryFailed(f"A page did not show what was expected ({pattern}).")
    return match.group(1)
