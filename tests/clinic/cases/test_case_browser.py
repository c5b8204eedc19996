"""What the scripts of the case page do, in Chromium: landmarks, verdicts, the comparison, uploads, axe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
if not CHROMIUM and not os.environ.get("CI"):
    pytest.skip("Chromium is not installed", allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SERIOUS = {"serious", "critical"}


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
def ranked(
    make_patient: Any,
    make_case: Any,
    make_photo: Any,
    make_gallery_patient: Any,
    make_ranking: Any,
    catalogue: Any,
) -> Any:
    from diagnosis.models import Photo

    people = [make_gallery_patient(catalogue[0]) for _ in range(5)] + [make_gallery_patient(catalogue[1])]
    photos = Photo.objects.filter(patient__in=people)
    near = {
        key.identifier: [p for p in photos if p.patient.diagnoses.get().syndrome == key]
        for key in catalogue[:2]
    }
    case = make_case(make_patient(tiers={"analysis", "gallery"}))
    make_photo(case, seed=3)
    make_ranking(case, photos_of=near)
    return case


@pytest.fixture
def open_page(chromium: Any, live_server: Any, make_user: Any, team: Any) -> Iterator[Any]:
    """open_page(address, width=1280, **context) → a signed-in page; what it complains of must be nothing."""
    client = Client()
    client.force_login(make_user(roles={"geneticist"}, team=team))
    name = settings.SESSION_COOKIE_NAME
    contexts, faults = [], []

    def note(message: Any) -> None:
        expected = (
            "/ws/" in message.text or "status of 4" in message.text
        )  # no sockets here; refusals are tested
        if message.type == "error" and not expected:
            faults.append(message.text)

    def make(address: str, *, width: int = 1280, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
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


def test_a_landmark_is_dragged_moved_by_key_and_put_back(open_page: Any, ranked: Any) -> None:
    from diagnosis.models import Photo

    page = open_page(f"/cases/{ranked.pk}/")
    before = ranked.photos.get().landmarks
    nose, field = page.locator('.landmark[data-place="2"]'), page.locator('input[name="x2"]')
    moved = page.locator("[data-moved]")
    assert not moved.is_visible()
    box = nose.locator(".dot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=4)
    page.mouse.up()
    scale = ranked.photos.get().width / page.locator("svg.landmarks image").bounding_box()["width"]
    assert moved.is_visible()
    assert abs(float(field.input_value()) - before[2][0] - 20 * scale) < 1.5 * scale
    dragged = float(field.input_value())
    nose.press("ArrowLeft")
    nose.press("Shift+ArrowLeft")
    assert float(field.input_value()) == pytest.approx(dragged - 11, abs=0.11)
    page.get_by_role("button", name="Put them back").click()
    moved.wait_for(state="hidden")
    assert float(field.input_value()) == pytest.approx(before[2][0], abs=0.06)
    nose.press("ArrowDown")
    page.get_by_role("button", name="Run again with the moved points").click()
    page.wait_for_load_state()
    stored = Photo.objects.get(case=ranked)
    assert stored.state == "received" and stored.landmarks_by is not None
    assert stored.landmarks[2][1] == pytest.approx(before[2][1] + 1, abs=0.06)


def test_a_verdict_changes_its_cell_and_nothing_jumps(open_page: Any, ranked: Any) -> None:
    from diagnosis.models import Verdict

    page = open_page(f"/cases/{ranked.pk}/")
    row = page.locator('[id="row-SYN:0005"]')
    row.scroll_into_view_if_needed()
    before = row.bounding_box()
    row.get_by_role("button", name="disagree with").click()
    page.wait_for_selector('[id="row-SYN:0005"] button[value="disagree"][aria-pressed="true"]')
    assert row.bounding_box() == before
    assert Verdict.objects.get().answer == "disagree"
    assert page.evaluate("document.activeElement.value") == "disagree"  # the keyboard stays where it was


def test_a_row_opens_its_comparison_beside_the_list(open_page: Any, ranked: Any) -> None:
    page = open_page(f"/cases/{ranked.pk}/")
    assert "Compare with Synthetic syndrome 01" in " ".join(page.locator("#compare").inner_text().split())
    page.get_by_role("link", name="Synthetic syndrome 02").click()
    page.locator("#compare-title", has_text="02").wait_for()
    assert "A composite is shown from 5" in page.locator("#compare").inner_text()
    own = page.locator("#compare img").first
    own.evaluate("image => image.decode()")
    assert own.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [112, 112]


def test_several_files_get_an_age_each(open_page: Any, make_case: Any, make_patient: Any) -> None:
    import io

    from PIL import Image

    case = make_case(make_patient())
    page = open_page(f"/cases/{case.pk}/")
    files = []
    for shade in (80, 160):
        stream = io.BytesIO()
        Image.new("RGB", (320, 320), (shade, 90, 90)).save(stream, "PNG")
        files.append({"name": f"{shade}.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    page.set_input_files("#photo-files", files)
    rows = page.locator("[data-age]")
    assert rows.count() == 2 and "160.png" in rows.nth(1).inner_text()
    for place, years in enumerate(("2", "7")):
        rows.nth(place).locator('[name="age_years"]').fill(years)
    page.get_by_role("button", name="Upload and analyse").click()
    page.wait_for_selector("#progress[data-working]")
    assert list(case.photos.order_by("id").values_list("age_months", flat=True)) == [24, 84]


def test_photos_are_dropped_on_the_form(open_page: Any, make_case: Any, make_patient: Any) -> None:
    page = open_page(f"/cases/{make_case(make_patient()).pk}/")
    drop = """(form) => {
        const carried = new DataTransfer();
        carried.items.add(new File(["x"], "one.heic"));
        carried.items.add(new File(["y"], "two.jpg", {type: "image/jpeg"}));
        carried.items.add(new File(["z"], "letter.txt", {type: "text/plain"}));
        for (const kind of ["dragover", "drop"]) {
            form.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
        }
    }"""
    page.locator("form[data-upload]").evaluate(drop)
    names = page.locator("#photo-files").evaluate("field => [...field.files].map(file => file.name)")
    assert names == ["one.heic", "two.jpg"]  # a letter is no photo
    assert page.locator("[data-age]").count() == 2 and page.locator(".drop-over").count() == 0


def test_on_a_phone_the_camera_adds_to_what_was_chosen(
    open_page: Any, make_case: Any, make_patient: Any
) -> None:
    address = f"/cases/{make_case(make_patient()).pk}/"
    assert not open_page(address).locator("[data-camera]").is_visible()
    phone = open_page(address, width=390, has_touch=True, is_mobile=True)
    assert phone.locator("[data-camera]").is_visible()
    photo = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"x"}
    phone.set_input_files("#photo-files", [photo])
    phone.set_input_files("[data-camera] input", [photo | {"name": "camera.jpg"}])
    names = phone.locator("#photo-files").evaluate("field => [...field.files].map(file => file.name)")
    assert names == ["a.jpg", "camera.jpg"]


def test_a_list_appears_without_a_reload_and_the_page_stops_asking(
    open_page: Any, make_case: Any, make_patient: Any, make_photo: Any, make_ranking: Any
) -> None:
    case = make_case(make_patient())
    photo = make_photo(case, state="analysing")
    page = open_page(f"/cases/{case.pk}/")
    assert "The list comes here by itself" in page.locator("#ranking").inner_text()
    type(photo).objects.filter(pk=photo.pk).update(state="refused")
    make_photo(case, seed=9)
    make_ranking(case)
    page.evaluate("htmx.trigger(document.body, 'case-changed')")  # what live.js does on a hint
    page.wait_for_selector("#ranking .rank-table")
    assert page.locator(".rank-table tbody tr").count() == 30
    assert page.locator("#progress[data-working]").count() == 0
    assert "List of" in page.locator("#progress").inner_text()


def test_rows_stay_where_they_are_while_a_photo_is_analysed_again(
    open_page: Any, ranked: Any, make_ranking: Any
) -> None:
    from diagnosis.models import Photo

    address = f"/cases/{ranked.pk}/"
    page = open_page(address)
    where = page.locator('[id="row-SYN:0003"]').bounding_box()
    Photo.objects.filter(case=ranked).update(state="analysing")
    page.goto(page.url)
    assert page.locator("#progress[data-working]").count() == 1
    assert page.locator('[id="row-SYN:0003"]').bounding_box() == where
    Photo.objects.filter(case=ranked).update(state="ready")
    make_ranking(ranked)
    page.evaluate("htmx.trigger(document.body, 'case-changed')")
    page.get_by_text("A newer list is ready.").wait_for()
    assert page.locator('[id="row-SYN:0003"]').bounding_box() == where


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Any, ranked: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    addresses = ("/cases/", "/cases/new/", f"/cases/{ranked.pk}/", f"/cases/{ranked.pk}/diagnosis/",
                 f"/cases/{ranked.pk}/print/", "/account/2fa/")  # fmt: skip
    page = open_page(
        "/cases/", color_scheme=scheme, bypass_csp=True
    )  # axe is injected, which the policy forbids
    for address in addresses:
        page.goto(page.url.split("/cases/")[0].split("/account/")[0] + address)
        found = Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found if v["impact"] in SERIOUS] == [], (
            address
        )


@pytest.mark.parametrize("width", [390, 640, 1280, 1920])
def test_no_page_is_wider_than_its_screen(open_page: Any, ranked: Any, width: int) -> None:
    """640 px is 1,280 px at 200 % zoom."""
    page = open_page("/cases/", width=width)
    for address in ("/cases/", f"/cases/{ranked.pk}/", f"/cases/{ranked.pk}/print/", "/cases/new/"):
        page.goto(page.url.split("/cases/")[0] + address)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, (address, over)
