"""The clinic's story in Chromium, on a served demo site: intake → upload → ranking → verdict, and every page
of staff at desk and phone width: nothing serious for axe, nothing wider than its screen."""

from __future__ import annotations

import re
from typing import Any

import pytest
import skimage.data
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

pytestmark = pytest.mark.browser
SERIOUS = {"serious", "critical"}


def axe_faults(page: Any) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:160]) for v in found if v["impact"] in SERIOUS]


def register(page: Any, site: Any) -> str:
    """A new patient; returns the one-time link's path."""
    page.goto(f"{site.address}/patients/new/")
    for name, value in {
        "given_name": "Synthetic",
        "family_name": "Browser",
        "date_of_birth": "1990-02-03",
    }.items():
        page.fill(f"[name={name}]", value)
    page.click("main form button.button-primary")
    page.click("button[formaction$='/link/']")
    return str(re.search(r"/i/[\w-]+/", page.content()).group(0))


def sign(page: Any, site: Any, link: str) -> None:
    """The patient reads and answers one question a page, and signs."""
    page.goto(site.address + link)
    for name, value in {"day": "3", "month": "2", "year": "1990"}.items():
        page.fill(f"[name={name}]", value)
    page.click("main form button")
    for _ in range(20):
        if page.url.endswith("/review/"):
            break
        if page.url.endswith("/who/"):
            page.check("[name=answer][value=self]")
        elif page.locator("[name=answer][value=yes]").count():
            page.check("[name=answer][value=yes]")
        page.click("main form button.go")
    page.click("a.go")
    page.fill("[name=name]", "Synthetic Browser")
    page.check("[name=typed]")
    page.check("[name=agreed]")
    page.click("main form button.go")


STAFF_PAGES = [
    ("geneticist", "cases", "/cases/"), ("geneticist", "case", None), ("geneticist", "case-new", "/cases/new/"),
    ("intake", "patients", "/patients/"), ("intake", "patient-new", "/patients/new/"),
    ("intake", "patient", "/patients/1/"), ("admin", "users", "/users/"), ("admin", "user", "/users/1/"),
    ("admin", "model", "/model/"), ("auditor", "audit", "/audit/"), (None, "sign-in", "/account/login/"),
]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
def test_every_staff_page_at_this_width(visit: Any, demo_site: Any, pictures: Any, width: int) -> None:
    pages: dict[str | None, Any] = {}
    for user, name, path in STAFF_PAGES:
        page = pages[user] = pages.get(user) or visit(user, width=width, bypass_csp=True)
        page.goto(demo_site.address + (path or case_with_list(page, demo_site)))
        page.wait_for_load_state("networkidle")
        pictures(page, f"{name}-{width}")
        assert axe_faults(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            f"{name} is wider than {width} px"
        )


def case_with_list(page: Any, site: Any) -> str:
    """The address of a case that has a list."""
    page.goto(f"{site.address}/cases/?state=solved")
    links = [link.get_attribute("href") for link in page.locator("main a").all()]
    return next(link for link in links if re.fullmatch(r"/cases/\d+/", link or ""))


def test_intake_upload_ranking_verdict(visit: Any, demo_site: Any, tmp_path: Any) -> None:
    link = register(visit("intake"), demo_site)
    patient = visit(None, width=390)
    sign(patient, demo_site, link)
    assert patient.url.endswith("/intake/done/") and patient.locator(".big-code").count() == 1
    photo = tmp_path / "astronaut.png"
    Image.fromarray(skimage.data.astronaut()).save(photo)
    page = visit("geneticist")
    page.goto(f"{demo_site.address}/patients/")
    page.locator("main table a").first.click()
    page.click("text=Open a case")
    page.click("main form button.button-primary")
    page.set_input_files("#photo-files", str(photo))
    page.locator("[name=age_years]").first.fill("30")
    page.click("text=Upload and analyse")
    rows = page.locator("#ranking tbody tr, #ranking [role=row]")
    page.locator("#ranking .cell-verdict").nth(29).wait_for(timeout=60_000)
    assert rows.count() >= 30
    assert page.locator("[data-landmark], .landmark").count() >= 5
    assert "Similarity is not probability" in page.inner_text("#ranking")
    page.locator("#ranking .verdict button[value=agree]").first.click()
    page.wait_for_selector("#ranking .verdict button[value=agree][aria-pressed=true]")
    page.reload()
    assert page.locator("#ranking .verdict button[value=agree][aria-pressed=true]").count() == 1
