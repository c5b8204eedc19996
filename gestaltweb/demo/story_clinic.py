"""The clinic's story over HTTP, as staff and a family would live it: intake → upload → ranking → verdict →
withdrawal. Every step notes whether what should hold did hold."""

from __future__ import annotations

import csv
import io
import time

from gestaltweb.demo.browser import StoryFailed, Visitor
from gestaltweb.demo.homes import DemoSite
from gestaltweb.demo.outcome import Outcome, found, sign_in

RANK_SECONDS = 60
MINIMUM_ROWS = 30


def play(site: DemoSite, outcome: Outcome) -> None:
    """All of it at one hospital; StoryFailed when it cannot go on."""
    staff = {name: sign_in(site, name) for name in ("intake", "geneticist")}
    patient, code = _intake(site, staff["intake"], outcome)
    case = _upload(site, staff["geneticist"], patient, outcome)
    _ranking(staff["geneticist"], case, outcome)
    _verdict(staff["geneticist"], case, outcome)
    _withdrawal(site, staff["geneticist"], case, code, outcome)
    for visitor in staff.values():
        visitor.close()


def _intake(site: DemoSite, clerk: Visitor, outcome: Outcome) -> tuple[str, str]:
    """Register, send the link, sign as the parent; returns (patient's number, ledger code)."""
    clerk.open("/patients/new/").submit(
        "", given_name="Synthetic", family_name="Storyperson", date_of_birth="2021-03-04", sex="female"
    )
    patient = found(r"/patients/(\d+)/", clerk.path)
    clerk.submit("/link/", language="en")
    link = found(r"(/i/[\w-]+/)", clerk.text)
    parent = Visitor(site.address).open(link).submit("", day=4, month=3, year=2021)
    while not parent.path.endswith("/review/"):
        answer = {"who": "parent"}.get(parent.path.split("/")[-2], "yes")
        parent.submit("", answer=answer)
    parent.open("/intake/sign/")
    parent.submit("", name="Synthetic Parent", agreed="on", typed="on")
    outcome.steps["intake: the parent signed by the one-time link"] = "/done" in parent.path
    outcome.steps["intake: the link works once"] = Visitor(site.address).status(link) == 410
    outcome.steps["intake: the signed form is a PDF"] = parent.read("/intake/done/form.pdf").startswith(
        "%PDF"
    )
    code = found(r'class="big-code">\s*([^<]+?)\s*<', parent.text)
    parent.close()
    return patient, code


def _upload(site: DemoSite, clinician: Visitor, patient: str, outcome: Outcome) -> str:
    clinician.open("/cases/new/").submit("", patient=patient)
    case = found(r"/cases/(\d+)/", clinician.path)
    photos = sorted((site.home / "photos-to-try").glob("*.jpg"))
    files = {"photos": (photos[0].name, photos[0].read_bytes(), "image/jpeg")}
    began = time.monotonic()
    clinician.submit("/photos/", files=files, age_years=4, age_months=0)
    while time.monotonic() - began < RANK_SECONDS:
        if clinician.status(f"/cases/{case}/ranking.csv") == 200:
            break
        time.sleep(0.1)
    else:
        raise StoryFailed(f"There was no list {RANK_SECONDS} s after the upload.")
    outcome.facts["seconds_from_upload_to_list"] = round(time.monotonic() - began, 2)
    return case


def _ranking(clinician: Visitor, case: str, outcome: Outcome) -> None:
    rows = _csv_rows(clinician.read(f"/cases/{case}/ranking.csv"))
    clinician.open(f"/cases/{case}/")
    outcome.steps[f"ranking: at least {MINIMUM_ROWS} syndromes"] = len(rows) >= MINIMUM_ROWS
    distances = [float(row["distance"]) for row in rows]
    outcome.steps["ranking: nearest first"] = distances == sorted(distances)
    outcome.steps["ranking: the fixed text stands above the list"] = "not probability" in clinician.text
    outcome.facts["ranking"] = {"rows": len(rows), "top": rows[0]["name"] if rows else None}


def _csv_rows(text: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(text)) if row["list"] == "syndromes"]


def _verdict(clinician: Visitor, case: str, outcome: Outcome) -> None:
    clinician.open(f"/cases/{case}/").submit("/verdicts/", answer="agree")
    first = _csv_rows(clinician.read(f"/cases/{case}/ranking.csv"))[0]
    outcome.steps["verdict: recorded for the first row"] = first["verdict"] == "agree"


def _withdrawal(site: DemoSite, clinician: Visitor, case: str, code: str, outcome: Outcome) -> None:
    picture = found(r"(/photos/\d+/crop/)", clinician.open(f"/cases/{case}/").text)
    outcome.steps["withdrawal: before it the picture is shown"] = clinician.status(picture) == 200
    parent = Visitor(site.address).open("/ledger/").submit("", code=code, day=4, month=3, year=2021)
    outcome.steps["withdrawal: the ledger opens with code and date of birth"] = (
        parent.path == "/ledger/photo/"
    )
    parent.open("/ledger/withdraw/").submit("")
    parent.submit("", step="confirm")
    outcome.steps["withdrawal: the picture is gone"] = clinician.status(picture) in (404, 410)
    outcome.steps["withdrawal: the list is gone"] = clinician.status(f"/cases/{case}/ranking.csv") >= 400
    parent.close()
