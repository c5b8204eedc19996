"""The patient's pages in Chromium: drawn and keyboard signatures, the QR's code, axe, narrow and wide."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse

from diagnosis.selectors import consent_now
from diagnosis.services import consent, ledger

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
if not CHROMIUM and not os.environ.get("CI"):
    pytest.skip("Chromium is not installed", allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SIZES = [pytest.param(1280, "light", marks=pytest.mark.slow), (390, "dark")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # playwright's own loop, not a server's
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(chromium: Any, live_server: Any) -> Iterator[Any]:
    """open_page(address, width, scheme) → a page; errors in its console fail the test."""
    contexts, faults = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            faults.append(message.text)

    def make(address: str, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-US"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(live_server.url + address)
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def check(page: Any) -> None:
    """axe finds nothing, and nothing sticks out sideways."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [(entry["id"], entry["nodes"][0]["html"][:150]) for entry in found] == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url


def birth(page: Any, born: Any) -> None:
    for part in ("day", "month", "year"):
        page.fill(f"#id_{part}", str(getattr(born, part)))


@pytest.fixture
def link(register: Any, clerk: Any) -> tuple[Any, str]:
    patient = register()
    return patient, consent.link_create(user=clerk, patient=patient, language="en")


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_form_with_a_drawn_signature(
    width: int, scheme: str, open_page: Any, link: tuple[Any, str], adult_born: Any
) -> None:
    patient, address = link
    page = open_page(address, width, scheme)
    check(page)
    birth(page, adult_born)
    page.click(".go")
    while not page.url.endswith("/sign/"):
        check(page)
        if page.locator("input[type=radio]").count():
            page.click("label.answer >> nth=0")
        page.click(".go")
    check(page)
    page.fill("#id_name", "Ayşe Ünal")
    page.check("#id_agreed")
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    for step in range(12):
        page.mouse.move(box["x"] + 20 + 15 * step, box["y"] + 20 + 30 * (step % 2))
    page.mouse.up()
    page.click("button.go")
    check(page)
    row = consent_now(patient)
    assert (
        consent.signature_of(row)["method"] == "drawn" and len(consent.signature_of(row)["signature"]) > 400
    )
    with page.expect_download() as download:
        page.click("a.go >> nth=0")
    assert download.value.suggested_filename.endswith(".pdf")
    page.click("form.ask .go")
    check(page)


def test_the_form_by_keyboard_alone(open_page: Any, link: tuple[Any, str], adult_born: Any) -> None:
    patient, address = link
    page = open_page(address)
    page.focus("#id_day")
    for part in (adult_born.day, adult_born.month, adult_born.year):
        page.keyboard.type(str(part))
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/intake/who/")
    for _page in range(12):
        if page.url.endswith("/sign/"):
            break
        if page.locator("input[type=radio]").count():
            page.focus("input[type=radio]")
            page.keyboard.press("Space")
        where = page.url
        page.focus(".go")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url, where=where: url != where)
    page.focus("#id_agreed")
    page.keyboard.press("Space")
    page.focus("#id_name")
    page.keyboard.type("Ayşe Ünal")
    page.focus("#id_typed")
    page.keyboard.press("Space")
    page.focus("button.go")
    page.keyboard.press("Enter")
    page.wait_for_url("**/intake/done/")
    assert consent.signature_of(consent_now(patient))["method"] == "typed"


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_ledger_from_its_qr_code(
    width: int, scheme: str, open_page: Any, register: Any, agree: Any, full_case: Any, adult_born: Any
) -> None:
    patient = register()
    agree(patient, {"analysis", "gallery", "training"})
    full_case(patient)
    code = ledger.code_of(patient)
    page = open_page(f"{reverse('clinic:ledger_enter')}#{code}", width, scheme)
    assert page.input_value("#id_code") == code and "#" not in page.url
    check(page)
    birth(page, adult_born)
    page.click(".go")
    check(page)
    page.click("a:has-text('Stop this') >> nth=2")
    check(page)
    page.click("button.go")
    assert not consent_now(patient).training
    page.click("text=Withdraw everything")
    check(page)
    page.click("button.go")
    check(page)
    page.click("button.go")
    page.wait_for_url("**/ledger/photo/")
    check(page)
    patient.refresh_from_db()
    assert patient.state == "withdrawn"
