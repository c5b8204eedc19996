"""The doors: tablet, link, ledger and staff pages, walked with Django's client as a browser would."""

from __future__ import annotations

import base64
import datetime as dt
import io
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageDraw

from diagnosis.models import Consent, Patient, Photo
from diagnosis.selectors import consent_now
from diagnosis.services import consent, ledger

PASSWORD = "correct horse battery"


def data_url() -> str:
    image = Image.new("RGBA", (600, 200))
    ImageDraw.Draw(image).line([(20, 20), (300, 150), (500, 40)], fill=(0, 0, 40, 255), width=5)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def page(name: str) -> str:
    return reverse("clinic:intake_page", args=[name])


def on_tablet(clerk: Any, patient: Any, language: str = "en") -> Client:
    client = Client()
    client.force_login(clerk)
    answer = client.post(reverse("clinic:patient_tablet", args=[patient.pk]), {"language": language})
    assert answer["Location"] == reverse("clinic:intake_now")
    return client


def answer_all(client: Client, **answers: str) -> None:
    given = {"who": "self", "analysis": "yes", "gallery": "yes", "methods": "yes", "training": "no",
             "comparison": "no", "matching": "yes"} | answers  # fmt: skip
    for _turn in range(15):
        where = client.get(reverse("clinic:intake_now"))["Location"]
        name = where.rstrip("/").rpartition("/")[2]
        if name in ("review", "declined"):
            return
        assert client.post(where, {"answer": given[name]} if name in given else {}).status_code == 302, name
    raise AssertionError("the form has no end")


def sign_form(client: Client, **changes: str) -> Any:
    digest = re.search(
        r'name="form_sha256" value="([0-9a-f]{64})"', client.get(page("sign")).content.decode()
    )
    assert digest
    data = {
        "name": "Canarigivena Canarifamilia",
        "agreed": "on",
        "drawing": data_url(),
        "form_sha256": digest.group(1),
    }
    return client.post(page("sign"), data | changes)


# --- tablet -----------------------------------------------------------------------------------


def test_the_whole_form_on_a_tablet(clerk: Any, register: Any) -> None:
    patient = register()
    client = on_tablet(clerk, patient, "de")
    answer_all(client)
    assert sign_form(client)["Location"] == reverse("clinic:intake_done")
    row = consent_now(patient)
    assert consent.tiers_of(row) == {"analysis", "gallery", "matching"}
    assert (row.recorded_by, row.language, row.form.language, row.signer) == (clerk, "de", "de", "self")
    assert consent.signature_of(row)["method"] == "drawn"
    done = client.get(reverse("clinic:intake_done")).content.decode()
    assert ledger.code_of(Patient.objects.get(pk=patient.pk)) in done and "unterschrieben" in done
    pdf = client.get(reverse("clinic:intake_pdf"))
    assert pdf["Content-Type"] == "application/pdf" and b"".join(pdf).startswith(b"%PDF")
    assert patient.code in pdf["Content-Disposition"] and "no-store" in pdf["Cache-Control"]
    assert client.post(reverse("clinic:intake_finish"))["Location"] == reverse("clinic:intake_end")
    assert client.get(reverse("clinic:intake_done"))["Location"] == reverse("clinic:intake_end")


def addresses(patterns: Any, prefix: str = "/") -> dict[str, str]:
    """An address for each URL name of the clinic, its parameters filled in."""
    found: dict[str, str] = {}
    for entry in patterns:
        route = prefix + re.sub(
            r"<int:\w+>", "1", re.sub(r"<(?:str|slug|path):\w+>", "analysis", str(entry.pattern))
        )
        if hasattr(entry, "url_patterns"):
            found |= addresses(entry.url_patterns, route)
        elif "<" not in route and "^" not in route:
            found[entry.name] = route
    return found


def test_a_locked_tablet_shows_the_intake_and_nothing_else(clerk: Any, register: Any) -> None:
    from diagnosis.urls import urlpatterns

    client = on_tablet(clerk, register())
    assert "_auth_user_id" not in client.session, "the staff member is signed out"
    known = {name: address for name, address in addresses(urlpatterns).items()
             if name != "language" and not name.startswith("intake_")}  # fmt: skip
    assert {"patient_list", "patient_page", "ledger_enter", "audit_list"} <= set(known) and len(known) > 20
    for address in [*known.values(), "/account/password/reset/", "/account/2fa/"]:
        for method in (client.get, client.post):
            assert method(address).get("Location") == reverse("clinic:intake_now"), address
    client.post(reverse("clinic:intake_finish"))
    assert client.get(reverse("clinic:patient_list"))["Location"] == reverse("clinic:intake_now"), (
        "still locked"
    )


def test_signing_in_lifts_the_lock(clerk: Any, register: Any) -> None:
    client = on_tablet(clerk, register())
    assert client.get(reverse("account_login")).status_code == 200
    wrong = client.post(reverse("account_login"), {"login": clerk.username, "password": "wrong"})
    assert wrong.status_code == 200 and client.session["intake_locked"]
    client.post(reverse("account_login"), {"login": clerk.username, "password": PASSWORD})
    assert "intake_locked" not in client.session and "intake" not in client.session
    assert client.get(reverse("clinic:patient_list")).status_code == 200


def test_staff_with_a_second_factor_need_it_to_unlock(make_user: Any, team: Any, register: Any) -> None:
    user = make_user(roles={"intake"}, team=team, second_factor=True)
    client = on_tablet(user, register())
    client.post(reverse("account_login"), {"login": user.username, "password": PASSWORD})
    assert client.session["intake_locked"], "a password alone does not unlock"
    assert client.get(reverse("mfa_authenticate")).status_code == 200
    assert client.get(reverse("clinic:patient_list"))["Location"] == reverse("clinic:intake_now")


# --- the form's pages --------------------------------------------------------------------------------------


def test_nothing_is_ticked_and_pages_do_not_run_ahead(clerk: Any, register: Any) -> None:
    client = on_tablet(clerk, register())
    for name in ("sign", "review", "matching", "nonsense"):
        assert client.get(page(name))["Location"] == reverse("clinic:intake_now")
    for _turn in range(11):
        where = client.get(reverse("clinic:intake_now"))["Location"]
        shown = client.get(where).content.decode()
        assert " checked" not in shown, where
        name = where.rstrip("/").rpartition("/")[2]
        if name == "review":
            break
        if 'type="radio"' in shown:
            empty = client.post(where, {})
            assert empty.status_code == 400 and "Please choose" in empty.content.decode()
        client.post(where, {"answer": "self" if name == "who" else "yes"})
    assert " checked" not in client.get(page("sign")).content.decode()
    back = client.get(page("gallery")).content.decode()
    assert back.count(" checked") == 1, "the own answer of this visit is shown when going back"


def test_no_methods_research_leaves_training_out(clerk: Any, register: Any) -> None:
    patient = register()
    client = on_tablet(clerk, patient)
    answer_all(client, methods="no", training="yes")
    assert client.get(page("training")).status_code == 302
    sign_form(client)
    row = consent_now(patient)
    assert row.no_methods_research and not row.training


@pytest.mark.parametrize("change", [
    {"name": ""}, {"agreed": ""}, {"drawing": ""}, {"drawing": "data:image/png;base64,xx!"},
    {"drawing": "data:image/svg+xml;base64,PHN2Zz4="}, {"form_sha256": "0" * 64}, {"drawing": "x" * 500_000},
], ids=["no name", "not agreed", "no signature", "bad base64", "svg", "other text", "too large"])  # fmt: skip
def test_an_incomplete_signature_signs_nothing(clerk: Any, register: Any, change: dict[str, str]) -> None:
    client = on_tablet(clerk, register())
    answer_all(client)
    answer = sign_form(client, **change)
    assert answer.status_code == 400 and 'role="alert"' in answer.content.decode()
    assert not Consent.objects.exists()


def test_the_typed_name_signs_without_a_pointer(clerk: Any, register: Any) -> None:
    patient = register()
    client = on_tablet(clerk, patient)
    answer_all(client)
    assert sign_form(client, drawing="", typed="on").status_code == 302
    assert consent.signature_of(consent_now(patient))["method"] == "typed"


def test_a_no_to_the_first_question_ends_without_a_signature(clerk: Any, register: Any) -> None:
    patient = register()
    client = on_tablet(clerk, patient)
    answer_all(client, analysis="no")
    assert client.get(page("declined")).status_code == 200
    assert client.post(page("declined"))["Location"] == reverse("clinic:intake_end")
    assert (
        not Consent.objects.exists()
        and "Nothing is done" in client.get(reverse("clinic:intake_end")).content.decode()
    )
    assert client.get(page("analysis"))["Location"] == reverse("clinic:intake_now")


def test_a_no_after_an_earlier_yes_withdraws(clerk: Any, register: Any, agree: Any, full_case: Any) -> None:
    patient = register()
    agree(patient)
    full_case(patient)
    client = on_tablet(clerk, patient)
    answer_all(client, analysis="no")
    assert "everything is withdrawn" in client.get(page("declined")).content.decode()
    client.post(page("declined"))
    patient.refresh_from_db()
    assert patient.state == "withdrawn" and not Photo.objects.exists()


def test_language_changes_in_the_middle_and_keeps_answers(clerk: Any, register: Any) -> None:
    client = on_tablet(clerk, register())
    client.post(page("who"), {"answer": "self"})
    answer = client.post(reverse("clinic:language"), {"language": "de", "next": page("about")})
    assert answer["Location"] == page("about")
    shown = client.get(page("about")).content.decode()
    assert "Worum es geht" in shown and '<html lang="de">' in shown
    evil = client.post(reverse("clinic:language"), {"language": "de", "next": "https://evil.example/"})
    assert evil["Location"] == "/"


# --- link and ledger --------------------------------------------------------------------------


def test_the_whole_form_by_link(register: Any, clerk: Any, adult_born: dt.date) -> None:
    patient = register()
    address = consent.link_create(user=clerk, patient=patient, language="de")
    client = Client()
    client.post(address, {"day": adult_born.day, "month": adult_born.month, "year": adult_born.year})
    answer_all(client)
    assert sign_form(client).status_code == 302
    row = consent_now(patient)
    assert row.recorded_by is None and row.language == "de"
    assert Client().get(address).status_code == 410
    assert client.get(reverse("clinic:patient_list"))["Location"].startswith(reverse("account_login"))
    client.post(reverse("clinic:intake_finish"))
    assert client.get(reverse("clinic:intake_pdf"))["Location"] == reverse("clinic:intake_end")


@pytest.fixture
def in_ledger(register: Any, agree: Any, full_case: Any, adult_born: dt.date) -> tuple[Client, Any]:
    patient = register()
    agree(patient, {"analysis", "gallery", "training"})
    full_case(patient)
    client = Client()
    data = {
        "code": ledger.code_of(patient),
        "day": adult_born.day,
        "month": adult_born.month,
        "year": adult_born.year,
    }
    assert client.post(reverse("clinic:ledger_enter"), data)["Location"] == reverse("clinic:ledger_page")
    return client, patient


def test_one_click_takes_one_choice_back(in_ledger: tuple[Client, Any]) -> None:
    client, patient = in_ledger
    stop = reverse("clinic:ledger_stop", args=["training"])
    assert client.get(stop).status_code == 200 and consent_now(patient).training, "reading changes nothing"
    client.post(stop)
    assert consent.tiers_of(consent_now(patient)) == {"analysis", "gallery"}
    assert (
        reverse("clinic:ledger_stop", args=["training"])
        not in client.get(reverse("clinic:ledger_page")).content.decode()
    )
    assert client.post(reverse("clinic:ledger_stop", args=["analysis"]))["Location"] == reverse(
        "clinic:ledger_withdraw"
    )


def test_withdrawing_takes_two_clear_steps(in_ledger: tuple[Client, Any]) -> None:
    client, patient = in_ledger
    address = reverse("clinic:ledger_withdraw")
    first = client.get(address).content.decode()
    assert "What cannot be undone" in first and "keeps what it has learned" in first
    second = client.post(address)
    assert "2 photos will be erased" in second.content.decode()
    patient.refresh_from_db()
    assert patient.state == "given"
    client.post(address, {"step": "confirm"})
    patient.refresh_from_db()
    assert patient.state == "withdrawn" and not Photo.objects.exists()
    assert "Everything was withdrawn" in client.get(reverse("clinic:ledger_page")).content.decode()
    assert client.get(reverse("clinic:ledger_pdf")).status_code == 404


def test_changing_by_ledger_shows_what_holds_and_ticks_nothing(in_ledger: tuple[Client, Any]) -> None:
    client, patient = in_ledger
    client.post(reverse("clinic:ledger_change"))
    for name in ("who", "about", "photo"):
        client.post(page(name), {"answer": "self"})
    shown = client.get(page("analysis")).content.decode()
    assert "So far you said: yes." in shown and " checked" not in shown
    answer_all(client, gallery="no", comparison="yes")
    sign_form(client)
    row = consent_now(patient)
    assert row.kind == "changed" and consent.tiers_of(row) == {"analysis", "comparison", "matching"}
    assert client.post(reverse("clinic:intake_finish"))["Location"] == reverse("clinic:ledger_page")


def test_the_ledger_closes(in_ledger: tuple[Client, Any]) -> None:
    import time_machine
    from django.utils import timezone

    client, _patient = in_ledger
    assert client.get(reverse("clinic:ledger_page")).status_code == 200
    assert b"".join(client.get(reverse("clinic:ledger_pdf"))).startswith(b"%PDF")
    with time_machine.travel(timezone.now() + dt.timedelta(minutes=21)):
        assert client.get(reverse("clinic:ledger_page"))["Location"] == reverse("clinic:ledger_enter")
    assert client.get(reverse("clinic:ledger_withdraw"))["Location"] == reverse("clinic:ledger_enter")


# --- staff ------------------------------------------------------------------------------------


def test_staff_register_find_and_read(client: Any, clerk: Any, team: Any, marks: Any) -> None:
    client.force_login(clerk)
    data = {"given_name": marks.given, "family_name": marks.family, "date_of_birth": "1990-02-03",
            "sex": "male", "affected": "yes", "team": team.pk, "ancestry": ""}  # fmt: skip
    answer = client.post(reverse("clinic:patient_new"), data)
    patient = Patient.objects.get()
    assert answer["Location"] == reverse("clinic:patient_page", args=[patient.pk])
    shown = client.get(answer["Location"]).content.decode()
    assert marks.given in shown and "Not signed yet" in shown
    listing = client.get(reverse("clinic:patient_list"), {"search": patient.code.lower()}).content.decode()
    assert patient.code in listing and marks.given not in listing
    assert "No such code" in client.get(reverse("clinic:patient_list"), {"search": "zzz"}).content.decode()
    assert (
        client.post(reverse("clinic:patient_new"), data | {"date_of_birth": "2999-01-01"}).status_code == 400
    )


def test_the_link_is_shown_once(client: Any, clerk: Any, register: Any) -> None:
    patient = register()
    client.force_login(clerk)
    shown = client.post(
        reverse("clinic:patient_link", args=[patient.pk]), {"language": "de"}
    ).content.decode()
    link = re.search(r"http://testserver(/i/[\w-]+/)", shown)
    assert link and Client().get(link.group(1)).status_code == 200
    assert link.group(1) not in client.get(reverse("clinic:patient_page", args=[patient.pk])).content.decode()


def test_intake_staff_see_no_face_and_no_ranking(
    client: Any, clerk: Any, register: Any, agree: Any, full_case: Any
) -> None:
    patient = register()
    agree(patient)
    case = full_case(patient)
    client.force_login(clerk)
    shown = client.get(reverse("clinic:patient_page", args=[patient.pk])).content.decode()
    assert (
        "<img" not in shown
        and "SYN:1" not in shown
        and f"cases/{case.pk}" not in shown
        and "a note about" not in shown
    )


def test_geneticists_go_on_to_the_case(
    client: Any, make_user: Any, register: Any, agree: Any, full_case: Any
) -> None:
    patient = register()
    agree(patient)
    case = full_case(patient)
    client.force_login(make_user(roles={"geneticist"}, team=patient.team))
    shown = client.get(reverse("clinic:patient_page", args=[patient.pk])).content.decode()
    assert reverse("clinic:case_page", args=[case.pk]) in shown
    assert f"{reverse('clinic:case_new')}?patient={patient.pk}" in shown and "<img" not in shown


def test_a_child_who_came_of_age_is_asked_to_sign(
    client: Any, clerk: Any, register: Any, agree: Any, adult_born: dt.date
) -> None:
    import time_machine
    from django.utils import timezone

    today = timezone.localdate()
    child = register(date_of_birth=dt.date(today.year - 17, 1, 1))
    agree(child, signer="parent", form=consent.form_current("en", "parent"))
    address = reverse("clinic:patient_page", args=[child.pk])
    client.force_login(clerk)
    assert "of age now" not in client.get(address).content.decode()
    with time_machine.travel(dt.datetime(today.year + 1, 2, 1, tzinfo=dt.UTC)):
        client.force_login(clerk)
        assert "of age now" in client.get(address).content.decode()


def test_staff_withdraw_in_two_steps(
    client: Any, clerk: Any, register: Any, agree: Any, full_case: Any
) -> None:
    patient = register()
    agree(patient)
    full_case(patient)
    client.force_login(clerk)
    address = reverse("clinic:patient_withdraw", args=[patient.pk])
    client.post(address)
    patient.refresh_from_db()
    assert patient.state == "given"
    client.post(address, {"step": "confirm"})
    patient.refresh_from_db()
    assert patient.state == "withdrawn" and consent_now(patient).recorded_by == clerk
    assert (
        "identity was erased"
        in client.get(reverse("clinic:patient_page", args=[patient.pk])).content.decode()
    )


def test_reissued_code_and_document_by_staff(client: Any, clerk: Any, register: Any, agree: Any) -> None:
    patient = register()
    row = agree(patient)
    client.force_login(clerk)
    shown = client.post(reverse("clinic:patient_code", args=[patient.pk])).content.decode()
    assert ledger.code_of(Patient.objects.get(pk=patient.pk)) in shown
    assert b"".join(client.get(reverse("clinic:consent_document", args=[patient.pk, row.pk]))).startswith(
        b"%PDF"
    )
    other = register()
    assert client.get(reverse("clinic:consent_document", args=[other.pk, row.pk])).status_code == 404


def test_staff_pages_stay_in_one_language(client: Any, clerk: Any) -> None:
    client.force_login(clerk)
    shown = client.get(reverse("clinic:patient_list"), headers={"accept-language": "de"}).content.decode()
    assert '<html lang="en">' in shown and "Patients" in shown


@pytest.mark.parametrize("name", ["ledger_enter", "intake_end"])
def test_headers_of_patient_pages(client: Any, name: str, db: None) -> None:
    answer = client.get(reverse(f"clinic:{name}"), headers={"accept-language": "de"})
    policy = answer["Content-Security-Policy"]
    assert "unsafe" not in policy and "no-store" in answer["Cache-Control"]
    body = answer.content.decode()
    assert " style=" not in body and " onclick" not in body and not re.search(r"<script(?![^>]*src=)", body)
    assert '<html lang="de">' in body
