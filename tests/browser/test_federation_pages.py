"""Every page of the federation's console in Chromium, at desk and phone width, light and dark: nothing serious for
axe, nothing wider than its screen, usable by keyboard alone, and live without moving what is being read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client

sys.path.insert(0, str(Path(__file__).parents[1] / "federation" / "pages"))
import pages_world  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SERIOUS = {"serious", "critical"}
WIDTHS = (1280, 390)
HOSPITAL_PAGES = [
    ("nothing", "join", "/federation/"), ("joining", "joining", "/federation/"),
    ("unconfirmed", "unconfirmed", "/federation/"), ("unconfirmed", "site-changed", "site:hospital-c"),
    ("quiet", "home", "/federation/"), ("quiet", "own-site", "site:hospital-a"),
    ("quiet", "site", "site:hospital-b"), ("quiet", "propose", "/federation/propose/"),
    ("quiet", "leave", "/federation/leave/"), ("quiet", "key", "/federation/key/"),
    ("alarm", "follow", "/federation/follow/"), ("quiet", "transcript", "/federation/transcript/"), ("asked", "asked", "/federation/"),
    ("asked", "answer", "/federation/rounds/1/answer/"), ("asked", "rules", "/federation/rules/"),
    ("asked_unconfirmed", "answer-blocked", "/federation/rounds/1/answer/"),
    ("approved", "answer-given", "/federation/rounds/1/answer/"),
    ("approved", "round-approving", "/federation/rounds/1/"), ("training", "round-training", "/federation/rounds/1/"),
    ("validating", "round-validating", "/federation/rounds/1/"),
    ("published", "round-published", "/federation/rounds/1/"), ("published", "home-published", "/federation/"),
    ("aborted", "round-aborted", "/federation/rounds/1/"), ("aborted", "rounds", "/federation/rounds/"),
    ("alarm", "alarm", "/federation/"),
]  # fmt: skip
COORDINATOR_PAGES = [
    ("nothing", "coordinator-found", "/federation/"), ("gathered", "coordinator", "/federation/"),
    ("gathered", "invitations", "/federation/invitations/"), ("gathered", "coordinator-site", "site:hospital-d"),
    ("gathered", "remove", "remove:hospital-d"), ("coordinating", "coordinator-round", "/federation/rounds/1/"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def two_loops() -> Iterator[None]:
    """Playwright's loop runs in this thread beside Django, which would take it for a server's."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A hospital with a model, or with `indirect` "coordinator" a coordinator's site."""
    from django.core.cache import cache
    from django.urls import clear_url_caches, set_urlconf

    from federation.services import dry_run

    cache.clear()
    settings.SITE_ROLE = getattr(request, "param", "hospital")
    settings.SITE_NAME = "Demo Hospital A" if settings.SITE_ROLE == "hospital" else "Demo Coordinator"
    if settings.SITE_ROLE == "hospital":
        pages_world.clinic()
    else:
        settings.ROOT_URLCONF = "gestaltweb.coordinator_urls"
    clear_url_caches()
    monkeypatch.setattr(dry_run, "dry_run", lambda plan: pages_world.dry_run_found())
    monkeypatch.setattr(dry_run, "samples_now", lambda k: 210)
    yield settings.SITE_ROLE
    clear_url_caches()
    set_urlconf(None)


@pytest.fixture
def admin(make_user: Callable[..., Any]) -> Any:
    return make_user(roles={"site_admin"}, second_factor=True)


@pytest.fixture
def open_page(chromium: Any, live_server: Any, admin: Any, sign_in: Any) -> Iterator[Any]:
    """open_page(address, width=1280, **context) → a page of the signed-in admin; complaints fail the test."""
    client = sign_in(Client(), admin)
    name = settings.SESSION_COOKIE_NAME
    contexts, faults = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "status of 4" not in message.text:  # refusals are tested
            faults.append(message.text)

    def make(address: str, *, width: int = 1280, **options: Any) -> Any:
        size = {"width": width, "height": 900 if width > 600 else 844}
        context = chromium.new_context(viewport=size, **options)
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(live_server.url + place(address))
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def place(address: str) -> str:
    """site:hospital-b → that site's page."""
    from federation.models import Peer

    kind, colon, name = address.partition(":")
    if not colon:
        return address
    return f"/federation/sites/{Peer.objects.get(name=name).pk}/" + ("remove/" if kind == "remove" else "")


def axe_faults(page: Any) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:160]) for v in found if v["impact"] in SERIOUS]


def keep(page: Any, name: str) -> None:
    """A picture of the whole page in the folder that GESTALTWEB_PICTURES names, if it does."""
    folder = os.environ.get("GESTALTWEB_PICTURES")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def look_over(open_page: Any, address: str, name: str) -> None:
    """Both widths light, the wide one dark, and at twice the size."""
    for width, scheme in ((1280, "light"), (390, "light"), (1280, "dark")):
        page = open_page(address, width=width, bypass_csp=True, color_scheme=scheme)
        keep(page, f"federation-{name}-{width}" + ("-dark" if scheme == "dark" else ""))
        assert axe_faults(page) == [], (name, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            f"{name} is wider than {width} px"
        )
        page.context.close()
    half = open_page(address, width=640)  # 1280 px at 200 %
    assert half.evaluate("document.documentElement.scrollWidth") <= 640, f"{name} at 200 %"


@pytest.mark.parametrize(
    ("state", "name", "address"), HOSPITAL_PAGES, ids=[page[1] for page in HOSPITAL_PAGES]
)
def test_hospital_page(site: str, open_page: Any, state: str, name: str, address: str) -> None:
    pages_world.HOSPITAL[state]()
    look_over(open_page, address, name)


@pytest.mark.parametrize("site", ["coordinator"], indirect=True)
@pytest.mark.parametrize(
    ("state", "name", "address"), COORDINATOR_PAGES, ids=[page[1] for page in COORDINATOR_PAGES]
)
def test_coordinator_page(site: str, open_page: Any, state: str, name: str, address: str) -> None:
    pages_world.COORDINATOR[state]()
    look_over(open_page, address, name)


def test_the_plan_is_shown_before_it_is_proposed(site: str, open_page: Any) -> None:
    from federation.models import Outgoing

    pages_world.quiet()
    page = open_page("/federation/propose/", bypass_csp=True)
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("heading", name="The plan of round 1").wait_for()
    keep(page, "federation-preview-1280")
    assert axe_faults(page) == [] and not Outgoing.objects.exists()
    page.get_by_role("button", name="Propose exactly this").click()
    page.get_by_text("Proposed. The round appears here").wait_for()
    assert Outgoing.objects.get().kind == "Propose"


def code_of(user: Any) -> str:
    from allauth.mfa.models import Authenticator
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
    from allauth.mfa.utils import decrypt

    secret = decrypt(Authenticator.objects.get(user=user, type="totp").data["secret"])
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


def test_an_admin_approves_by_keyboard_alone(site: str, open_page: Any, admin: Any) -> None:
    """Tab leads to the code; a wrong one is said at its field and the focus finds it; the right one signs."""
    from federation.models import Approval

    pages_world.asked()
    page = open_page("/federation/rounds/1/answer/", bypass_csp=True)
    tab_to(page, "code")
    page.keyboard.type("000001" if code_of(admin) == "000000" else "000000")
    page.keyboard.press("Enter")
    page.get_by_text("This code is wrong").wait_for()
    field = page.locator("[name=code]")
    described = page.locator(f"#{field.get_attribute('aria-describedby').split()[-1]}")
    assert field.get_attribute("aria-invalid") == "true" and "wrong" in described.inner_text()
    keep(page, "federation-answer-wrong-code-1280")
    assert axe_faults(page) == [] and not Approval.objects.exists()
    tab_to(page, "code")
    page.keyboard.type(code_of(admin))
    page.keyboard.press("Enter")
    page.get_by_text("Approved and signed.").wait_for()
    assert Approval.objects.get().answer == "approve"


def tab_to(page: Any, name: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name || ''") == name:
            return
    raise AssertionError(f"no Tab leads to {name}")


def test_a_round_is_followed_live_without_losing_ones_place(site: str, open_page: Any) -> None:
    from federation.models import Curve, Round

    pages_world.training()
    page = open_page("/federation/rounds/1/")
    table = page.locator("#rows-1")
    assert table.locator("tbody tr").count() == 4
    table.focus()
    Curve.objects.create(
        round=Round.objects.get(), member="compact", attempt=2, epoch=5, loss=0.31, top_1=0.66
    )
    page.get_by_role("row", name="5 0.310 66 %").wait_for()
    assert page.evaluate("document.activeElement.id") == "rows-1"
    points = page.locator("polyline.curve-line:not(.curve-old)").get_attribute("points")
    assert len(points.split()) == 5


def test_polling_ends_with_the_round(site: str, open_page: Any) -> None:
    made = pages_world.training()
    from federation.models import Round

    page = open_page("/federation/rounds/1/")
    made.advance(Round.objects.get(), "validating", "published")
    page.get_by_text("How it ended").wait_for()
    assert page.locator("#live[hx-get]").count() == 0


def test_a_phone_needs_no_sideways_scrolling_and_paper_no_buttons(site: str, open_page: Any) -> None:
    pages_world.asked()
    page = open_page("/federation/rounds/1/answer/", width=390)
    for table in page.locator("table.flow").all():
        assert table.evaluate("table => table.scrollWidth <= table.clientWidth + 1")
    page.emulate_media(media="print")
    assert page.locator("main button:visible").count() == 0
    assert page.get_by_text("Never leaves").first.is_visible()
