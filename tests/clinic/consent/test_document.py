"""The signed PDF: all of the text, the answers, the signer, the hash and the code; nothing left on disk."""

from __future__ import annotations

import datetime as dt
import re
import zlib
from typing import Any

import pytest
import qrcode
from django.utils import translation
from django.utils.formats import date_format

from diagnosis.consent_forms import qr
from diagnosis.errors import NotAllowed, Unreadable
from diagnosis.services import consent, ledger
from diagnosis.services.consent_document import consent_pdf

ADDRESS = "https://hospital.example/ledger/"


def streams_of(pdf: bytes) -> list[bytes]:
    """Every stream of a PDF by reportlab, decoded from ASCII85 and Flate."""
    import base64

    found = []
    for head, body in re.findall(rb"<<([^>]*(?:>[^>])*?)>>\s*stream\r?\n(.*?)endstream", pdf, re.S):
        body = body.strip()
        if b"ASCII85Decode" in head:
            body = (
                base64.a85decode(body, adobe=False)
                if not body.endswith(b"~>")
                else base64.a85decode(b"<~" + body, adobe=True)
            )
        if b"FlateDecode" in head:
            body = zlib.decompress(body)
        found.append(body)
    return found


def text_of(pdf: bytes) -> str:
    """The words of a PDF."""
    return " ".join(pages_of(pdf))


def pages_of(pdf: bytes) -> list[str]:
    """The words of each page: strings of the page streams through the fonts' ToUnicode tables.

    reportlab cuts a font into subsets of 256 glyphs. ToUnicode streams appear in the order of the font
    objects' names F1+0, F2+0, …; a page names the subset before each string.
    """
    streams = streams_of(pdf)
    tables = {}
    for name, number in re.findall(rb"/(F\d+\+\d+) (\d+) 0 R", pdf):
        font = re.search(rb"(?m)^" + number + rb" 0 obj(.*?)endobj", pdf, re.S)
        assert font
        unicode_number = re.search(rb"/ToUnicode (\d+) 0 R", font.group(1))
        assert unicode_number
        table = re.search(rb"(?m)^" + unicode_number.group(1) + rb" 0 obj(.*?)endobj", pdf, re.S)
        assert table
        tables[name] = character_map(streams_of(table.group(1))[0])
    pages = [stream for stream in streams if b" Tf" in stream and b"BT" in stream]
    return [" ".join(page_words(page, tables)) for page in pages]


def character_map(table: bytes) -> dict[int, str]:
    """code → character, from the bfchar pairs of a ToUnicode table."""
    pairs = re.findall(rb"(?m)^<([0-9A-F]{2})> <([0-9A-F]{4,})>", table)
    return {int(code, 16): bytes.fromhex(value.decode()).decode("utf-16-be") for code, value in pairs}


def page_words(page: bytes, tables: dict[bytes, dict[int, str]]) -> list[str]:
    table: dict[int, str] = {}
    words = []
    for font, literal in re.findall(rb"/(F\d+\+\d+) [\d.]+ Tf|\(((?:[^()\\]|\\.)*)\)\s*Tj", page, re.S):
        if font:
            table = tables[font]
            continue
        raw = re.sub(rb"\\(\d{3}|.)", unescaped, literal, flags=re.S)
        words.append("".join(table[code] for code in raw))
    return words


def unescaped(match: re.Match[bytes]) -> bytes:
    mark = match.group(1)
    return (
        bytes([int(mark, 8)]) if len(mark) == 3 else {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(mark, mark)
    )


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.fixture
def signed(register: Any, agree: Any) -> Any:
    patient = register(given_name="Jürgen", family_name="Weiß-Łukasz")
    form = consent.form_current("de", "self")
    return agree(
        patient, {"analysis", "gallery"}, form=form, language="de", signer_name="Jürgen Weiß-Łukasz",
        no_methods_research=True,
    )  # fmt: skip


def test_everything_is_in_it(signed: Any) -> None:
    pdf = consent_pdf(user=None, consent=signed, ledger_url=ADDRESS)
    text = squeezed(text_of(pdf))
    assert pdf.startswith(b"%PDF-")
    expected = [
        "Jürgen Weiß-Łukasz", signed.patient.code, signed.form.sha256, f"Formular {signed.form.version}",
        "Unterschrieben von", "DUO:0000015", ADDRESS, ledger.code_of(signed.patient),
        f"{signed.signed_at:%Y}", "Unterschrieben durch Tippen",
    ]  # fmt: skip
    for part in expected:
        assert squeezed(part) in text, part
    for page in signed.form.text["pages"]:
        parts = [page["title"], page.get("question", ""), page.get("statement", ""), *page.get("points", ()),
                 *page.get("paragraphs", ()), *(step["text"] for step in page.get("steps", ()))]  # fmt: skip
        assert all(squeezed(part) in text for part in parts), page["id"]


def test_code_and_birth_date_are_on_different_pages(signed: Any, clerk: Any) -> None:
    """Both together open the ledger and withdraw: whoever finds the form must not hold both."""
    pages = [squeezed(page) for page in pages_of(consent_pdf(user=None, consent=signed, ledger_url=ADDRESS))]
    code = ledger.code_of(signed.patient)
    assert [code in page for page in pages] == [False] * (len(pages) - 1) + [True]
    with translation.override("de"):
        written = squeezed(date_format(signed_birth(signed), "DATE_FORMAT"))
    assert written in pages[0]
    for secret in (written, str(signed_birth(signed).year), "Weiß", "Jürgen"):
        assert secret not in pages[-1]
    for_staff = squeezed(text_of(consent_pdf(user=clerk, consent=signed, ledger_url=ADDRESS)))
    assert written in for_staff and code not in for_staff and ADDRESS not in for_staff


def signed_birth(consent_row: Any) -> dt.date:
    from diagnosis.services.people import identity_read

    return dt.date.fromisoformat(identity_read(consent_row.patient)["date_of_birth"])


def test_each_answer_is_the_one_given(signed: Any) -> None:
    text = squeezed(text_of(consent_pdf(user=None, consent=signed, ledger_url=ADDRESS)))
    pages = {page["id"]: page for page in signed.form.text["pages"]}
    given = {
        "analysis": "yes",
        "gallery": "yes",
        "methods": "no",
        "training": "no",
        "comparison": "no",
        "matching": "no",
    }
    for name, answer in given.items():
        other = "no" if answer == "yes" else "yes"
        assert squeezed("→ " + pages[name][answer]) in text, name
        assert squeezed("→ " + pages[name][other]) not in text, name


def test_the_same_row_gives_the_same_bytes(signed: Any) -> None:
    assert consent_pdf(user=None, consent=signed, ledger_url=ADDRESS) == consent_pdf(
        user=None, consent=signed, ledger_url=ADDRESS
    )


def test_markup_in_a_name_is_text(register: Any, agree: Any) -> None:
    row = agree(register(given_name="<b>", family_name="&amp;"), signer_name="<img src='x'/> & Söhne")
    assert squeezed("<img src='x'/> & Söhne") in squeezed(
        text_of(consent_pdf(user=None, consent=row, ledger_url=ADDRESS))
    )


def test_not_after_withdrawal_and_not_for_strangers(signed: Any, make_user: Any, clerk: Any) -> None:
    with pytest.raises(NotAllowed):
        consent_pdf(user=make_user(roles={"intake"}), consent=signed, ledger_url=ADDRESS)
    assert consent_pdf(user=clerk, consent=signed, ledger_url=ADDRESS)
    from diagnosis import vault

    vault.destroy_key(signed.patient.key)
    with pytest.raises(Unreadable):
        consent_pdf(user=clerk, consent=signed, ledger_url=ADDRESS)


def test_qr_runs_draw_the_library_s_matrix() -> None:
    text = f"{ADDRESS}#7K2M-9QXT-04HV-3DZW"
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_M, border=qr.QUIET)
    code.add_data(text)
    code.make(fit=True)
    side, runs = qr.qr_runs(text)
    drawn = [[False] * side for _row in range(side)]
    for x, y, width in runs:
        for place in range(x, x + width):
            drawn[y][place] = True
    assert drawn == code.get_matrix()
    assert qr.qr_svg_path(text)[1].count("M") == len(runs)
