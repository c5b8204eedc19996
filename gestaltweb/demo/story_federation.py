"""The federation's story over HTTP, as admins live it: found → invite → join → confirm → propose → approve →
published → adopted. Each person sits at their own site; what they tell each other is said in this module.

Every part first looks whether it is done already, so the story may be played on homes of an earlier one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from gestaltweb.demo.browser import StoryFailed, Visitor
from gestaltweb.demo.codes import fresh_code
from gestaltweb.demo.homes import JUDGED_BY, DemoSite, DemoSites, logins_read
from gestaltweb.demo.outcome import Outcome, found, sign_in

HEARD_SECONDS = 60
ROUND_SECONDS = 420
FINGERPRINT = r'class="fingerprint"[^>]*>\s*([0-9a-f]{4}(?: [0-9a-f]{4}){7})\s*<'
STATE = r'<span class="state state-(\w+)">'
STATES = {"solved": "published", "withdrawn": "aborted"}  # the page's colours; all others are under way
OVER = ("published", "aborted")
Admins = dict[DemoSite, Visitor]
T = TypeVar("T")


@contextmanager
def admins_of(sites: Iterable[DemoSite]) -> Iterator[Admins]:
    """Everybody's admin, signed in with password and code."""
    chosen = list(sites)
    admins = dict(zip(chosen, together(lambda site: sign_in(site, "admin"), chosen), strict=True))
    try:
        yield admins
    finally:
        for admin in admins.values():
            admin.close()


def together(do: Callable[[DemoSite], T], sites: Iterable[DemoSite]) -> list[T]:
    """The same at several sites at the same time: codes of second factors are waited for once."""
    chosen = list(sites)
    with ThreadPoolExecutor(len(chosen) or 1) as pool:
        return list(pool.map(do, chosen))


def federate(sites: DemoSites, admins: Admins, outcome: Outcome) -> None:
    """Found, invite, join, and confirm everybody's key."""
    coordinator = admins[sites.coordinator]
    if coordinator.open("/federation/").offers("/found/"):
        coordinator.submit("/found/", title="Demo Federation", address=sites.coordinator.address)
    for hospital in sites.hospitals:
        join(hospital, admins[hospital], coordinator)
    together(lambda site: members_await(admins[site], sites.hospitals), sites.hospitals)
    outcome.steps["federation: three hospitals joined by invitation"] = True
    confirm_all(sites.hospitals, admins)
    outcome.steps["federation: every admin confirmed the others' keys"] = True


def join(hospital: DemoSite, admin: Visitor, coordinator: Visitor) -> None:
    """With a code that the coordinator's admin hands over, unless the hospital is a member already."""
    if not admin.open("/federation/").offers("/join/"):
        return
    coordinator.open("/federation/invitations/").submit("", title=hospital.name)
    code = found(r"\b(eyJ[\w-]{100,})", coordinator.text)
    admin.submit("/join/", code=code, name=hospital.slug, title=hospital.name)


def members_await(admin: Visitor, hospitals: Iterable[DemoSite]) -> None:
    """Until this admin's page shows all of these hospitals as members."""
    names = [hospital.name for hospital in hospitals]

    def told() -> bool:
        text = admin.open("/federation/").text
        return all(name in text for name in names) and len(_site_numbers(text)) >= len(names)

    awaited(told, HEARD_SECONDS, "not every hospital was admitted")


def confirm_all(hospitals: Iterable[DemoSite], admins: Admins) -> None:
    """Each admin reads their own fingerprint out; the others compare it and confirm with a code."""
    chosen = list(hospitals)
    read_out = {site.name: found(FINGERPRINT, admins[site].open("/federation/").text) for site in chosen}
    together(lambda site: _confirm_others(site, admins[site], read_out), chosen)


def _confirm_others(site: DemoSite, admin: Visitor, read_out: dict[str, str]) -> None:
    for number in _site_numbers(admin.open("/federation/").text):
        page = admin.open(f"/federation/sites/{number}/")
        title = next((name for name in read_out if name in found(r"(?s)<h1[^>]*>(.*?)</h1>", page.text)), "")
        if title and title != site.name and page.offers("/confirm/"):
            with_code(site, admin, "/confirm/", heard=read_out[title][-9:], compared="on")


def _site_numbers(text: str) -> list[str]:
    return sorted(set(re.findall(r"/federation/sites/(\d+)/", text)), key=int)


def propose(hospital: DemoSite, admin: Visitor, invited: Iterable[DemoSite]) -> None:
    """Propose a round to these hospitals, else as the form suggests, unless one is under way."""
    before = round_number(admin)
    if before and round_state(admin, before) not in OVER:
        return
    names = [site.slug for site in invited]

    def shown() -> bool:
        """The plan; refused while confirmations are on their way."""
        try:
            page = admin.open("/federation/propose/").submit("", sites=names, minimum_patients=JUDGED_BY)
        except StoryFailed:
            return False
        return "Propose exactly this" in page.text

    awaited(shown, HEARD_SECONDS, f"{hospital.name} could not propose a round")
    admin.submit("")
    awaited(lambda: round_number(admin) > before, HEARD_SECONDS, "the proposed round did not appear")


def approve(site: DemoSite, admin: Visitor, number: int) -> None:
    """Read what would leave, and say yes to exactly that with a code, unless this hospital has answered."""
    awaited(lambda: round_number(admin) >= number, HEARD_SECONDS, f"{site.name} did not hear of the round")

    def asked() -> bool:
        page = admin.open(f"/federation/rounds/{number}/answer/")
        return page.offers("/approve/") or f"/federation/rounds/{number}/receipt.pdf" in page.text

    awaited(asked, HEARD_SECONDS, f"{site.name} was not asked")
    if admin.offers("/approve/"):
        with_code(site, admin, "/approve/")


def round_number(admin: Visitor) -> int:
    """The newest round's number, or 0."""
    numbers = re.findall(r"/federation/rounds/(\d+)/", admin.open("/federation/rounds/").text)
    return max(map(int, numbers), default=0)


def round_state(admin: Visitor, number: int) -> str:
    """ "published", "aborted", or "" while the round is under way."""
    return STATES.get(found(STATE, admin.open(f"/federation/rounds/{number}/").text), "")


def with_code(site: DemoSite, admin: Visitor, action: str, **values: str) -> None:
    """Send the open page's form with a new code; once more where a slow machine let the first one pass."""
    page, secret = admin.path, logins_read(site.home)["admin"]["totp"]
    try:
        admin.submit(action, code=fresh_code(secret), **values)
    except StoryFailed:
        admin.open(page).submit(action, code=fresh_code(secret), **values)


def awaited(look: Callable[[], bool], seconds: float, otherwise: str) -> float:
    """Look again and again; returns the seconds it took. StoryFailed when time is up."""
    began = time.monotonic()
    while not look():
        if time.monotonic() - began > seconds:
            raise StoryFailed(f"After {seconds:.0f} s {otherwise}.")
        time.sleep(0.5)
    return time.monotonic() - began
