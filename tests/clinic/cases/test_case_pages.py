"""The case pages over HTTP: fixed texts, states, refusals, pictures, and the way through without a script."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from diagnosis.models import AuditEvent, Case, Diagnosis, Job, Photo, Team, Verdict
from diagnosis.registries import RankingSource, ranking_sources

BANNER = (
    "Research use. Decision support for qualified clinicians. Not a diagnosis and not a substitute for "
    "genetic testing."
)
ABOVE = (
    "Syndromes whose known patients look most alike. Similarity is not probability. The correct disorder may "
    "be absent or lower in the list."
)
NO_MATCH = (
    "Unaffected faces also receive suggestions; the absence of a match does not exclude a genetic disorder."
)
SYNTHETIC = "Trained on synthetic faces, for demonstration, not for patients."


@pytest.fixture
def clinician(make_user: Any, team: Any) -> Any:
    return make_user(roles={"geneticist"}, team=team)


@pytest.fixture
def browser(client: Client, clinician: Any) -> Client:
    client.force_login(clinician)
    return client


@pytest.fixture
def gallery(make_gallery_patient: Any, catalogue: Any) -> dict[str, list[Any]]:
    """Five patients with the first disorder, two with the second."""
    patients = {catalogue[0]: 5, catalogue[1]: 2}
    made = {key: [make_gallery_patient(key) for _ in range(count)] for key, count in patients.items()}
    return {
        syndrome.identifier: list(Photo.objects.filter(patient__in=people))
        for syndrome, people in made.items()
    }


@pytest.fixture
def ranked(make_patient: Any, make_case: Any, make_photo: Any, make_ranking: Any, gallery: Any) -> Any:
    case = make_case(make_patient(tiers={"analysis", "gallery"}))
    make_photo(case, seed=77, age_months=50)
    make_ranking(case, photos_of=gallery)
    return case


def page(client: Client, name: str, *args: Any, **query: str) -> str:
    answer = client.get(reverse(f"clinic:{name}", args=args), query)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    """The page's text with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


# --- what stands on every page ---------------------------------------------------------------------


class Inline(HTMLParser):
    """Notes whatever the content security policy would block, and pictures without words or size."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "style" or "style" in named:
            self.faults.append(f"<{tag}> with style")
        if tag == "script" and not named.get("src"):
            self.faults.append("inline script")
        self.faults += [f"{name} on <{tag}>" for name in named if name.startswith(("on", "hx-on", "hx-vals"))]
        if tag == "img":
            self.images.append(named)
            if "alt" not in named:
                self.faults.append("picture without words")


def all_pages(case: Any) -> list[str]:
    return [
        reverse("clinic:case_list"), reverse("clinic:case_new"),
        reverse("clinic:case_page", args=[case.pk]),
        reverse("clinic:case_page", args=[case.pk]) + "?list=genes",
        reverse("clinic:case_page", args=[case.pk]) + "?list=patients",
        reverse("clinic:diagnosis_new", args=[case.pk]),
        reverse("clinic:diagnosis_new", args=[case.pk]) + "?syndrome=SYN:0003",
        reverse("clinic:differential", args=[case.pk]), reverse("clinic:case_print", args=[case.pk]),
        reverse("mfa_index"), reverse("account_change_password"),
    ]  # fmt: skip


def test_every_page_says_what_it_is_and_runs_nothing_inline(
    browser: Client, ranked: Any, clinician: Any
) -> None:
    for address in all_pages(ranked):
        answer = browser.get(address)
        html, text = answer.content.decode(), words(answer.content.decode())
        assert answer.status_code == 200, address
        for fixed in (
            BANNER,
            SYNTHETIC,
            "gw-test 1",
            "sha256 abababab…",
            f"user {clinician.username}",
            "GestaltWeb 0.1.0",
        ):
            assert fixed in text, (address, fixed)
        assert re.search(r"gallery \d+, sha256", text) and "<time datetime=" in html, address
        checked = Inline()
        checked.feed(html)
        assert checked.faults == [], address
        assert answer["Cache-Control"] == "no-store, private"
        assert "unsafe" not in answer["Content-Security-Policy"]


def test_the_synthetic_warning_goes_with_a_real_model(browser: Client, extractor: Any) -> None:
    assert SYNTHETIC in page(browser, "case_list")
    type(extractor).objects.update(synthetic=False)
    assert "synthetic faces" not in page(browser, "case_list")


def test_sign_in_pages_are_ours_and_nobody_signs_up(client: Client, db: None) -> None:
    for name in ("account_login", "account_reset_password", "account_signup"):
        html = client.get(reverse(name)).content.decode()
        checked = Inline()
        checked.feed(html)
        assert BANNER in html and "css/base.css" in html and checked.faults == [], name
    assert "Nobody signs up here" in client.get(reverse("account_signup")).content.decode()


def test_error_pages_say_what_to_do_and_no_details(browser: Client, settings: Any) -> None:
    lost = browser.get("/cases/999999/")
    assert lost.status_code == 404 and "There is no such page" in lost.content.decode()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(browser.get("/cases/").wsgi_request.user)
    forged = strict.post(reverse("clinic:case_new"), {})
    assert forged.status_code == 403 and "Nothing was changed" in forged.content.decode()
    from django.views.defaults import server_error

    broken = server_error(lost.wsgi_request)
    assert broken.status_code == 500 and "went wrong on our side" in broken.content.decode()


def test_the_navigation_shows_what_a_role_may_open(client: Client, make_user: Any, team: Any) -> None:
    expected = {
        "geneticist": ["Cases", "Patients", "Model"], "intake": ["Patients"],
        "site_admin": ["Model", "Users", "Audit", "Federation"], "auditor": ["Model", "Audit", "Federation"],
    }  # fmt: skip
    for role, labels in expected.items():
        client.force_login(make_user(roles={role}, team=team))
        html = client.get(reverse("mfa_index")).content.decode()
        shown = re.findall(r"<li><a href=\"([^\"]+)\"[^>]*>([^<]+)</a></li>", html.split("</nav>")[0])
        assert [label for _address, label in shown] == labels, role


def test_the_vendored_script_is_the_one_that_was_published() -> None:
    import hashlib
    from pathlib import Path

    folder = Path("static/vendor")
    named = dict(
        reversed(line.split("  "))
        for line in (folder / "htmx.VERSION.txt").read_text().splitlines()[1:]
        if line
    )
    assert set(named) == {"htmx.min.js"} and (folder / "htmx.LICENSE.txt").exists()
    for name, sha256 in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


STRANGE = ("\x00", "9" * 40, "-1", "٣", "<script>", "%", "a" * 5000)


@pytest.mark.parametrize("value", STRANGE)
def test_strange_values_in_addresses_are_no_errors_of_ours(browser: Client, ranked: Any, value: str) -> None:
    composite = reverse("clinic:composite_picture", args=[ranked.diagnoses.model.objects.first().syndrome_id])
    for address, names in (
        (reverse("clinic:case_list"), ("search", "state", "page")),
        (reverse("clinic:case_new"), ("search", "patient", "page")),
        (reverse("clinic:case_page", args=[ranked.pk]),
         ("photo", "list", "source", "rows", "syndrome", "age", "sex", "ancestry")),
        (reverse("clinic:case_progress", args=[ranked.pk]), ("photos", "ranking")),
        (reverse("clinic:diagnosis_new", args=[ranked.pk]), ("search", "syndrome")),
        (composite, ("case", "sex", "age")),
    ):  # fmt: skip
        for name in names:
            answer = browser.get(address, {name: value})
            assert answer.status_code in (200, 400, 404), (address, name, answer.status_code)
            assert b"<script>" not in answer.content
    for name, data in (
        ("verdict_new", {"syndrome": value, "answer": value}),
        ("diagnosis_new", {"syndrome": value, "gene": value}),
        ("case_note", {"note": value}), ("differential", {"first": value, "text": value}),
        ("photo_new", {"age_years": value}),
    ):  # fmt: skip
        answer = browser.post(reverse(f"clinic:{name}", args=[ranked.pk]), data)
        assert answer.status_code in (200, 302, 400, 404), (name, answer.status_code)
    assert not Verdict.objects.exists() and not Diagnosis.objects.filter(case=ranked).exists()


# --- the list --------------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do(browser: Client) -> None:
    text = words(page(browser, "case_list"))
    assert "No cases yet" in text and "Open the first case" in text
    assert "No patient has agreed to the analysis yet" in words(page(browser, "case_new"))


def test_the_list_filters_searches_and_turns_pages(
    browser: Client, ranked: Any, make_patient: Any, make_case: Any
) -> None:
    other = make_case(make_patient(), state="unsolved")
    assert ranked.patient.code in page(browser, "case_list", state="ranked")
    assert other.patient.code not in page(browser, "case_list", state="ranked")
    assert other.patient.code in page(browser, "case_list", search=other.patient.code.lower())
    assert "No case fits this filter" in page(browser, "case_list", search="nothing like it")
    for _ in range(30):
        make_case(make_patient())
    text = words(page(browser, "case_list", page="2"))
    assert "26–39 of 39" in text and "Previous" in text


def test_the_list_says_what_each_case_waits_for(
    browser: Client, ranked: Any, make_patient: Any, make_case: Any, make_photo: Any, make_ranking: Any
) -> None:
    make_case(make_patient())
    make_photo(make_case(make_patient()), state="analysing")
    make_photo(make_case(make_patient()), state="refused")
    make_ranking(make_case(make_patient()), match="none")
    make_ranking(make_case(make_patient(), differential_first=True))
    text = words(page(browser, "case_list"))
    for expected in (
        "waiting for a photo", "being analysed", "photo needs your attention", "No confident match",
        "hidden until your differential", "High Synthetic syndrome 01",
    ):  # fmt: skip
        assert expected in text, expected


def test_another_teams_cases_do_not_exist(
    browser: Client, make_patient: Any, make_case: Any, make_photo: Any
) -> None:
    case = make_case(make_patient(team=Team.objects.create(name="Elsewhere")))
    photo = make_photo(case)
    assert case.patient.code not in page(browser, "case_list") + page(browser, "case_new")
    for name in ("case_page", "case_progress", "diagnosis_new", "differential", "ranking_csv", "case_print"):
        assert browser.get(reverse(f"clinic:{name}", args=[case.pk])).status_code == 404, name
    for name in ("photo_new", "verdict_new", "case_note", "case_unsolved", "case_reopen", "diagnosis_new"):
        assert browser.post(reverse(f"clinic:{name}", args=[case.pk]), {"note": "x"}).status_code == 404, name
    for name in ("photo_correct", "photo_remove"):
        assert browser.post(reverse(f"clinic:{name}", args=[photo.pk])).status_code == 404, name
    assert browser.get(reverse("clinic:photo_picture", args=[photo.pk, "original"])).status_code == 404
    case.refresh_from_db()
    assert case.state == "open" and Photo.objects.filter(pk=photo.pk).exists()


# --- the case --------------------------------------------------------------------------------------


def test_the_list_has_thirty_rows_with_bands_and_their_measure(browser: Client, ranked: Any) -> None:
    html = page(browser, "case_page", ranked.pk)
    text = words(html)
    assert ABOVE in text and len(re.findall(r'id="row-SYN:', html)) == 30
    assert (
        "30 of 34 shown" in text
        and len(re.findall(r'id="row-', page(browser, "case_page", ranked.pk, rows="all"))) == 34
    )
    for band in ("High", "Medium", "Low"):
        assert band in text
    assert "93 % of rows right, 52 % of patients found" in text and "(44–60 %)" in text and "≤ 0.310" in text
    assert "Synthetic syndrome 01" in text and "SYN:0001" in text and "SYN1A" in text and "0.232" in text


def test_no_confident_match_and_no_calibration_are_said(
    browser: Client, make_case: Any, make_patient: Any, make_ranking: Any, extractor: Any
) -> None:
    none = make_case(make_patient())
    make_ranking(none, match="none")
    text = words(page(browser, "case_page", none.pk))
    assert "No confident match." in text and NO_MATCH in text and ABOVE in text
    assert NO_MATCH in words(page(browser, "case_print", none.pk))
    type(extractor).objects.update(facts={})
    raw = make_case(make_patient())
    make_ranking(raw, match="uncalibrated")
    text = words(page(browser, "case_page", raw.pk))
    assert "This model is not calibrated" in text and "Bands, as measured" not in text


def test_look_alikes_are_whole_faces_and_leave_with_consent(
    browser: Client, ranked: Any, gallery: Any, sign: Any
) -> None:
    first = gallery["SYN:0001"][0]
    address = reverse("clinic:gallery_picture", args=[first.pk])
    html = page(browser, "case_page", ranked.pk)
    seen = Inline()
    seen.feed(html)
    faces = [image for image in seen.images if "/gallery/" in (image["src"] or "")]
    assert faces and all(image["width"] == image["height"] for image in faces)
    with Image.open(io.BytesIO(browser.get(address).content)) as picture:
        assert picture.width == picture.height  # shown square and made square: nothing is cut or stretched
    assert address in html
    sign(first.patient, {"analysis"})
    assert address not in page(browser, "case_page", ranked.pk)
    assert browser.get(address).status_code == 410
    patients = words(page(browser, "case_page", ranked.pk, list="patients"))
    assert first.patient.code not in patients and "no longer in the gallery" in patients


def test_every_patient_comes_before_anybodys_second_photo(
    browser: Client,
    make_case: Any,
    make_patient: Any,
    make_ranking: Any,
    make_gallery_patient: Any,
    catalogue: Any,
) -> None:
    twice = make_gallery_patient(catalogue[0], photos=2)
    once = make_gallery_patient(catalogue[0])
    first, second = twice.photos.order_by("id")
    case = make_case(make_patient())
    make_ranking(case, photos_of={"SYN:0001": [first, second, once.photos.get()]})
    html = page(browser, "case_page", case.pk)
    row = html.split('id="row-SYN:0001"')[1].split("</tr>")[0]
    assert re.findall(r"/gallery/(\d+)/", row) == [
        str(pk) for pk in (first.pk, once.photos.get().pk, second.pk)
    ]
    compare = html.split('id="compare"')[1].split("</section>")[0]
    assert re.findall(r"/gallery/(\d+)/", compare) == [str(first.pk), str(once.photos.get().pk)]


def test_no_style_cuts_a_face() -> None:
    from pathlib import Path

    styles = "".join(path.read_text() for path in Path("static/css").glob("*.css"))
    assert "object-fit: cover" not in styles and "object-fit: contain" in styles


def test_the_whole_photo_keeps_its_shape(browser: Client, ranked: Any) -> None:
    photo = ranked.photos.get()
    html = page(browser, "case_page", ranked.pk)
    assert f'viewBox="0 0 {photo.width} {photo.height}"' in html
    for kind in ("original", "thumb"):
        data = browser.get(reverse("clinic:photo_picture", args=[photo.pk, kind])).content
        with Image.open(io.BytesIO(data)) as picture:
            assert abs(picture.width / picture.height - photo.width / photo.height) < 0.02


def test_pictures_are_not_kept_and_need_consent_at_that_moment(
    browser: Client, ranked: Any, sign: Any, client: Client
) -> None:
    photo = ranked.photos.get()
    for kind, media in (("original", "image/jpeg"), ("crop", "image/png"), ("thumb", "image/jpeg")):
        answer = browser.get(reverse("clinic:photo_picture", args=[photo.pk, kind]))
        assert (answer.status_code, answer["Content-Type"], answer["Cache-Control"]) == (
            200,
            media,
            "no-store, private",
        )
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert browser.get(reverse("clinic:photo_picture", args=[photo.pk, "embedding"])).status_code == 400
    sign(ranked.patient, set())
    for kind in ("original", "crop", "thumb"):
        assert browser.get(reverse("clinic:photo_picture", args=[photo.pk, kind])).status_code == 403
    html = page(browser, "case_page", ranked.pk)
    assert f"/photos/{photo.pk}/" not in html and "data-upload" not in html


def test_the_composite_is_shown_from_five_patients_on(browser: Client, ranked: Any, catalogue: Any) -> None:
    five, two = (reverse("clinic:composite_picture", args=[catalogue[i].pk]) for i in (0, 1))
    html = page(browser, "case_page", ranked.pk)
    assert five in html and "composite of 5 consented patients here" in words(html)
    answer = browser.get(five)
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store, private"
    html = page(browser, "case_page", ranked.pk, syndrome="SYN:0002")
    assert two not in html and "A composite is shown from 5 consented patients" in words(html)
    assert browser.get(two).status_code == 400
    assert browser.get(five, {"case": str(ranked.pk), "sex": "female"}).status_code == 400


def test_the_filter_names_what_it_leaves_out(browser: Client, ranked: Any, gallery: Any) -> None:
    first = gallery["SYN:0001"][0]
    type(first.patient).objects.filter(pk=first.patient_id).update(sex="female", ancestry="North")
    text = words(page(browser, "case_page", ranked.pk, sex="female"))
    assert "4 look-alikes are left out by the filter" in text and first.patient.code in text
    assert "left out" not in words(page(browser, "case_page", ranked.pk, sex="neither", age="7"))


def test_own_differential_first_hides_the_list_everywhere(
    browser: Client, make_case: Any, make_patient: Any, make_ranking: Any
) -> None:
    case = make_case(make_patient(), differential_first=True)
    make_ranking(case)
    hidden = [
        page(browser, "case_page", case.pk), page(browser, "case_page", case.pk, list="genes", rows="all"),
        page(browser, "case_progress", case.pk), page(browser, "case_list"),
        page(browser, "diagnosis_new", case.pk),
    ]  # fmt: skip
    assert not any("Synthetic syndrome 01" in html for html in hidden)
    assert browser.get(reverse("clinic:ranking_csv", args=[case.pk])).status_code == 409
    wrong = browser.post(reverse("clinic:differential", args=[case.pk]), {"first": "No such disorder"})
    assert "The catalogue has no disorder of this name" in wrong.content.decode()
    entry = {"first": "Synthetic syndrome 09 (SYN:0009)", "second": "syn:0004", "text": "broad forehead"}
    browser.post(reverse("clinic:differential", args=[case.pk]), entry)
    assert case.differentials.get().syndromes == ["SYN:0009", "SYN:0004"]
    assert "Synthetic syndrome 01" in page(browser, "case_page", case.pk)


def test_a_list_of_another_model_says_so(browser: Client, ranked: Any, extractor: Any) -> None:
    from diagnosis.models import Extractor

    assert "The model in use now" not in page(browser, "case_page", ranked.pk)
    type(extractor).objects.update(state="retired")
    Extractor.objects.create(
        name="gw-test 2", sha256="cd" * 32, state="adopted", origin="tests", licence="none"
    )
    text = words(page(browser, "case_page", ranked.pk))
    assert "This list was made with gw-test 1. The model in use now is gw-test 2" in text


def test_another_rooms_list_stands_beside_ours(browser: Client, ranked: Any, monkeypatch: Any) -> None:
    html = page(browser, "case_page", ranked.pk)
    assert "This hospital" not in html  # one source needs no switch
    row = {"rank": 1, "id": "SYN:0030", "name": "Synthetic syndrome 30", "band": "High", "distance": None}
    found = {"rows": [row], "behind": "3 hospitals, 120 patients.", "withheld": "No pictures and no numbers."}
    source = RankingSource("Federation", "Masked faces of member hospitals.", lambda case, user: found)
    monkeypatch.setattr(ranking_sources, "_entries", {"federation": source})
    assert "This hospital" in page(browser, "case_page", ranked.pk)
    text = words(page(browser, "case_page", ranked.pk, source="federation"))
    for expected in (
        "Synthetic syndrome 30",
        "3 hospitals, 120 patients.",
        "No pictures and no numbers.",
        ABOVE,
    ):
        assert expected in text, expected
    assert "0.232" not in text


# --- progress --------------------------------------------------------------------------------------


def test_progress_names_the_step_and_the_next(
    browser: Client, make_case: Any, make_patient: Any, make_photo: Any
) -> None:
    case = make_case(make_patient())
    photo = make_photo(case, state="analysing")
    Job.objects.create(
        kind="analyse_photo", subject=photo.pk, key="k", state="running", step="finding the face", progress=15
    )
    html = page(browser, "case_page", case.pk)
    text = words(html)
    assert "Photo 1: finding and aligning the face" in text and "next: measuring the face" in text
    assert f"/cases/{case.pk}/progress/?photos={photo.pk}:analysing&amp;ranking=0" in html
    assert "every 5s, case-changed from:body" in html
    assert f'data-socket="/ws/cases/{case.pk}/"' in html


def test_a_failed_ranking_is_told_until_a_later_one_ends_well(browser: Client, ranked: Any) -> None:
    failed = Job.objects.create(
        kind="rank_case", subject=ranked.pk, key="old", state="failed", error="The disk is full."
    )
    assert "The disk is full." in page(browser, "case_page", ranked.pk)
    later = Job.objects.create(kind="rank_case", subject=ranked.pk, key="later", state="running")
    assert "The disk is full." not in page(browser, "case_page", ranked.pk)
    Job.objects.filter(pk=later.pk).update(state="done")
    assert "The disk is full." not in page(browser, "case_page", ranked.pk)
    Job.objects.filter(pk=failed.pk).update(changed_at=timezone.now() + dt.timedelta(seconds=1))
    assert "The disk is full." in page(browser, "case_page", ranked.pk), "it was asked for again and failed"


def test_a_newer_list_is_announced_even_if_a_later_ranking_failed(
    browser: Client, ranked: Any, make_ranking: Any, gallery: Any
) -> None:
    seen = ranked.rankings.get().pk
    make_ranking(ranked, photos_of=gallery)
    Job.objects.create(
        kind="rank_case", subject=ranked.pk, key="k", state="failed", error="The disk is full."
    )
    html = page(browser, "case_progress", ranked.pk, photos="", ranking=str(seen))
    assert "A newer list is ready." in html


@pytest.mark.parametrize("seconds, said", [(5, False), (45, True)])
def test_a_worker_that_is_away_is_told_after_half_a_minute(
    browser: Client, make_case: Any, make_patient: Any, make_photo: Any, seconds: int, said: bool
) -> None:
    case = make_case(make_patient())
    photos = [make_photo(case, state=state) for state in ("analysing", "received")]
    for photo in photos:
        Job.objects.create(kind="analyse_photo", subject=photo.pk, key=f"k{photo.pk}")
    since = timezone.now() - dt.timedelta(seconds=seconds)
    Photo.objects.update(uploaded_at=timezone.now() - dt.timedelta(hours=1))
    Job.objects.filter(subject=photos[0].pk).update(changed_at=since)
    Job.objects.filter(subject=photos[1].pk).update(changed_at=timezone.now() - dt.timedelta(hours=1))
    text = words(page(browser, "case_progress", case.pk))
    assert ("This takes longer than usual. Nothing is lost" in text) == said


def test_asking_how_far_it_is_reads_no_list_and_no_faces(
    browser: Client, ranked: Any, make_photo: Any
) -> None:
    """It is asked every five seconds by every open page."""
    make_photo(ranked, state="analysing")
    seen = ranked.rankings.get().pk
    with CaptureQueriesContext(connection) as asked:
        html = page(browser, "case_progress", ranked.pk, photos=",".join(
            f"{photo.pk}:{photo.state}" for photo in ranked.photos.order_by("pk")
        ), ranking=str(seen))  # fmt: skip
    assert "data-working" in html and "hx-swap-oob" not in html
    statements = " ".join(query["sql"] for query in asked.captured_queries)
    assert '"result"' not in statements and "diagnosis_syndrome" not in statements
    assert len(asked) <= 12, [query["sql"][:120] for query in asked.captured_queries]


def test_every_step_of_the_analysis_has_a_name_on_the_page() -> None:
    from diagnosis.services.analysis import STEPS as WORK
    from diagnosis.views.case_page import STEPS

    assert set(WORK) <= {name for name, _label in STEPS}


def test_a_list_comes_into_an_empty_place_but_never_over_one_that_is_read(
    browser: Client, ranked: Any, make_ranking: Any, gallery: Any
) -> None:
    photo = ranked.photos.get()
    first = page(browser, "case_progress", ranked.pk, photos=f"{photo.pk}:analysing", ranking="0")
    for part in ("photos", "ranking", "compare", "decide"):
        assert re.search(f'id="{part}" hx-swap-oob="true"', first), part
    assert "hx-get" not in first.split("</section>")[0]  # the work is done: it stops asking
    seen = ranked.rankings.get().pk
    make_ranking(ranked, photos_of=gallery)
    second = page(browser, "case_progress", ranked.pk, photos=f"{photo.pk}:ready", ranking=str(seen))
    assert "A newer list is ready." in second and "hx-swap-oob" not in second


# --- without a script: forms and links alone -------------------------------------------------------


def test_from_patient_to_diagnosis_without_a_script(
    browser: Client, make_patient: Any, make_ranking: Any, make_photo: Any, catalogue: Any
) -> None:
    patient = make_patient(tiers={"analysis", "gallery"})
    assert patient.code in page(browser, "case_new", search=patient.code)
    opened = browser.post(reverse("clinic:case_new"), {"patient": patient.pk, "note": "n"})
    case = Case.objects.get(patient=patient)
    assert opened["Location"] == reverse("clinic:case_page", args=[case.pk])
    assert 'enctype="multipart/form-data"' in page(browser, "case_page", case.pk)
    picture = io.BytesIO()
    Image.new("RGB", (300, 360), (180, 150, 140)).save(picture, "JPEG")
    uploaded = browser.post(
        reverse("clinic:photo_new", args=[case.pk]),
        {"photos": SimpleUploadedFile("x.jpg", picture.getvalue()), "age_years": "4", "age_months": "2"},
    )
    photo = Photo.objects.get(case=case)
    assert uploaded["Location"].endswith(f"?photo={photo.pk}") and photo.age_months == 50
    assert Job.objects.filter(kind="analyse_photo", subject=photo.pk).exists()
    assert "Reload to see how far it is" in page(browser, "case_page", case.pk)
    Photo.objects.filter(pk=photo.pk).update(state="refused")
    make_photo(case, seed=5)
    make_ranking(case)
    judged = browser.post(
        reverse("clinic:verdict_new", args=[case.pk]), {"syndrome": "SYN:0002", "answer": "agree"}
    )
    assert judged["Location"].endswith("#row-SYN:0002") and Verdict.objects.get().answer == "agree"
    assert re.search(
        r'id="row-SYN:0002".*?aria-pressed="true" aria-label="agree',
        page(browser, "case_page", case.pk),
        re.S,
    )
    confirm = reverse("clinic:diagnosis_new", args=[case.pk])
    assert "Synthetic syndrome 12" in page(browser, "diagnosis_new", case.pk, search="12a")
    done = browser.post(confirm, {"syndrome": "SYN:0012", "gene": "SYN12A"}, follow=True)
    assert "1 photo of this patient now stands in this hospital" in done.content.decode()
    assert Diagnosis.objects.get().gene.symbol == "SYN12A"
    browser.post(reverse("clinic:case_reopen", args=[case.pk]))
    browser.post(reverse("clinic:case_unsolved", args=[case.pk]))
    case.refresh_from_db()
    assert case.state == "unsolved" and Diagnosis.objects.get().retracted_at is not None


def test_verdicts_with_htmx_return_their_own_cell(browser: Client, ranked: Any) -> None:
    address = reverse("clinic:verdict_new", args=[ranked.pk])
    answer = browser.post(
        address, {"syndrome": "SYN:0003", "answer": "unsure"}, headers={"HX-Request": "true"}
    )
    html = answer.content.decode()
    assert html.startswith('<form class="verdict"') and 'value="unsure" aria-pressed="true"' in html
    refused = browser.post(
        address, {"syndrome": "SYN:0003", "answer": "maybe"}, headers={"HX-Request": "true"}
    )
    assert refused.status_code == 400 and 'class="error-sentence"' in refused.content.decode()


def test_landmarks_as_numbers_and_the_choice_of_a_face(browser: Client, ranked: Any) -> None:
    photo = ranked.photos.get()
    address = reverse("clinic:photo_correct", args=[photo.pk])
    html = page(browser, "case_page", ranked.pk)
    assert len(re.findall(r'class="landmark"', html)) == 5 and 'role="slider"' in html
    points = {
        f"{axis}{place}": str(value + 3)
        for place, pair in enumerate(photo.landmarks)
        for axis, value in zip("xy", pair, strict=True)
    }
    assert all(f'name="{name}"' in html for name in points)
    browser.post(address, points)
    moved = Photo.objects.get(pk=photo.pk)
    assert moved.state == "received" and moved.landmarks == [[x + 3, y + 3] for x, y in photo.landmarks]
    Photo.objects.filter(pk=photo.pk).update(state="refused", faces=[*photo.faces, *photo.faces])
    assert "Whose face?" in page(browser, "case_page", ranked.pk)
    browser.post(address, {"face_choice": "1"})
    assert Photo.objects.get(pk=photo.pk).face_choice == 1


@pytest.mark.parametrize(
    "points",
    [{"x0": "1"}, *({f"{axis}{i}": text for axis in "xy" for i in range(5)} for text in ("5", "nan", "1e9"))],
)
def test_points_that_form_no_face_change_nothing(
    browser: Client, ranked: Any, points: dict[str, str]
) -> None:
    photo = ranked.photos.get()
    answer = browser.post(reverse("clinic:photo_correct", args=[photo.pk]), points, follow=True)
    assert "notice-error" in answer.content.decode()
    assert Photo.objects.get(pk=photo.pk).state == "ready"


def test_uploads_that_cannot_be_used_are_named_one_by_one(
    browser: Client, make_case: Any, make_patient: Any
) -> None:
    case = make_case(make_patient())
    good = io.BytesIO()
    Image.new("RGB", (320, 320), (90, 80, 70)).save(good, "PNG")
    files = [SimpleUploadedFile("a.png", good.getvalue()), SimpleUploadedFile("b.jpg", b"not a picture")]
    ages = {"age_years": ["3", "4"], "age_months": ["", "6"]}
    answer = browser.post(reverse("clinic:photo_new", args=[case.pk]), {"photos": files, **ages}, follow=True)
    text = words(answer.content.decode())
    assert "Photo 2 of 2:" in text and "1 photo added" in text and "b.jpg" not in text
    assert list(case.photos.values_list("age_months", flat=True)) == [36]
    for data in ({}, {"photos": files[:1], "age_years": "minus", "age_months": "1"}):
        browser.post(reverse("clinic:photo_new", args=[case.pk]), data)
    assert case.photos.count() == 1


def test_erasing_a_photo(browser: Client, ranked: Any) -> None:
    photo = ranked.photos.get()
    browser.post(reverse("clinic:photo_remove", args=[photo.pk]))
    assert not Photo.objects.filter(pk=photo.pk).exists()


# --- taking the list out ---------------------------------------------------------------------------


def test_the_csv_names_everything_and_runs_nothing(
    browser: Client, ranked: Any, catalogue: Any, clinician: Any
) -> None:
    type(catalogue[0]).objects.filter(pk=catalogue[0].pk).update(name="=HYPERLINK(1)")
    Verdict.objects.create(
        case=ranked, ranking=ranked.rankings.get(), syndrome=catalogue[1], answer="agree", user=clinician
    )
    answer = browser.get(reverse("clinic:ranking_csv", args=[ranked.pk]))
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    lists = [row["list"] for row in rows]
    assert (lists.count("syndromes"), lists.count("genes")) == (34, 34)
    assert rows[0]["name"] == "'=HYPERLINK(1)" and rows[1]["verdict"] == "agree"
    for row in rows:
        assert row["model_sha256"] == "ab" * 32 and row["model_synthetic"] == "True" and row["gallery"]
        assert "Not a diagnosis" in row["notice"] and "Trained on synthetic faces" in row["notice"]
        assert row["patient"] == ranked.patient.code and row["user"] == clinician.username
    codes = set(Photo.objects.exclude(case=ranked).values_list("patient__code", flat=True))
    assert not any(code in answer.content.decode() for code in codes)  # no other patient leaves with it
    event = AuditEvent.objects.get(action="ranking.csv")
    assert event.actor == clinician and event.detail["ranking"] == ranked.rankings.get().pk


def test_the_sheet_for_paper_is_audited(browser: Client, ranked: Any) -> None:
    text = words(page(browser, "case_print", ranked.pk))
    assert (
        ABOVE in text and BANNER in text and ranked.patient.code in text and "Synthetic syndrome 30" in text
    )
    assert AuditEvent.objects.filter(action="ranking.print", subject=f"case:{ranked.pk}").count() == 1


def test_where_each_role_begins(client: Client, make_user: Any, team: Any, sign_in: Any) -> None:
    for role, place in (
        ("geneticist", "clinic:case_list"), ("intake", "clinic:patient_list"),
        ("site_admin", "mfa_index"),
        ("auditor", "clinic:audit_list"), ("api", "mfa_index"),
    ):  # fmt: skip
        client.force_login(make_user(roles={role}, team=team))
        assert client.get("/")["Location"] == reverse(place)
    admin = make_user(roles={"site_admin"}, team=team, second_factor=True)
    client.force_login(admin)  # by password alone: the account says what is missing
    assert client.get("/")["Location"] == reverse("mfa_index")
    assert "Sign out and in again with it" in client.get(reverse("mfa_index")).content.decode()
    assert sign_in(client, admin).get("/")["Location"] == reverse("clinic:user_list")
    assert "Sign out and in again with it" not in client.get(reverse("mfa_index")).content.decode()
    client.logout()
    assert client.get("/")["Location"].startswith(reverse("account_login"))


# --- words in two places ---------------------------------------------------------------------------


def test_page_api_and_table_say_the_same(browser: Client, ranked: Any) -> None:
    from diagnosis import words as fixed

    assert (fixed.RESEARCH_USE, fixed.LIST_NOTICE, fixed.SYNTHETIC) == (BANNER, ABOVE, SYNTHETIC)
    assert f"No confident match. {NO_MATCH}" == fixed.NO_MATCH
    text = words(page(browser, "case_page", ranked.pk))
    assert fixed.RESEARCH_USE in text and fixed.LIST_NOTICE in text
    table = browser.get(reverse("clinic:ranking_csv", args=[ranked.pk])).content.decode()
    for row in csv.DictReader(io.StringIO(table)):
        assert fixed.RESEARCH_USE in row["notice"] and fixed.LIST_NOTICE in row["notice"]
        assert (fixed.NO_MATCH in row["notice"]) == (row["match"] == "none")
