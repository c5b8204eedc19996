"""The signed form as a PDF: full text, answers, who signed when, version and hash.

The signer's own copy ends with a page to tear off: the ledger's code and QR, without name or birth date, for
code and birth date together open the ledger and withdraw. Copies of the staff have no code.
It is drawn anew from the evidence each time and stored nowhere: the same rows (consent, form, the patient's
identity and code) give the same bytes. After a withdrawal it cannot be drawn any more: name and signature are
sealed under a key that is gone.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from django.conf import settings
from django.utils import timezone, translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

from diagnosis import consent_forms
from diagnosis.consent_forms.qr import qr_runs
from diagnosis.models import Consent, Signer, User
from diagnosis.permissions import require
from diagnosis.services import ledger
from diagnosis.services.audit import audit
from diagnosis.services.consent import signature_of
from diagnosis.services.people import identity_read

FONTS: Final = Path(consent_forms.__file__).parent / "fonts"
REGULAR, BOLD = "GestaltSans", "GestaltSans-Bold"
QR_SIDE: Final = 38 * mm
TEXT = ParagraphStyle("text", fontName=REGULAR, fontSize=10, leading=14.5, spaceAfter=4)
SMALL = ParagraphStyle("small", parent=TEXT, fontSize=8, leading=11, wordWrap="CJK")
POINT = ParagraphStyle("point", parent=TEXT, leftIndent=12, bulletIndent=2)
HEAD = ParagraphStyle("head", parent=TEXT, fontName=BOLD, fontSize=12, leading=16, spaceBefore=9)
TITLE = ParagraphStyle("title", parent=HEAD, fontSize=17, leading=22, spaceBefore=0, spaceAfter=6)
ANSWER = ParagraphStyle("answer", parent=TEXT, fontName=BOLD, spaceBefore=2)


def consent_pdf(*, user: User | None, consent: Consent, ledger_url: str) -> bytes:
    """The PDF of one signature. `ledger_url` is the absolute address of the ledger's entrance.

    `user` is None when the signer downloads it right after signing or from the ledger: then, and only then,
    the page with the code is part of it. Raises NotAllowed, or Unreadable once the patient has withdrawn.
    """
    if user is not None:
        require(user, "consent.view", consent.patient)
    fonts_register()
    stream = io.BytesIO()
    with translation.override(consent.language):
        document = SimpleDocTemplate(
            stream, pagesize=A4, invariant=1, title=str(consent.form.text["title"]),
            author=settings.SITE_NAME, leftMargin=22 * mm, rightMargin=22 * mm, topMargin=20 * mm,
            bottomMargin=20 * mm,
        )  # fmt: skip
        story = _story(consent)
        if user is None:
            story += [PageBreak(), _ledger_box(consent, ledger_url)]
        document.build(story, onFirstPage=footer, onLaterPages=footer)
    audit(actor=user, action="consent.document", subject=f"patient:{consent.patient_id}", consent=consent.pk)
    return stream.getvalue()


def fonts_register() -> None:
    """DejaVu Sans: umlauts, and the Latin, Greek and Cyrillic letters of most names."""
    if REGULAR not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(REGULAR, str(FONTS / "DejaVuSans.ttf")))
        pdfmetrics.registerFont(TTFont(BOLD, str(FONTS / "DejaVuSans-Bold.ttf")))


def footer(canvas: Any, document: Any) -> None:
    """Site, version and page number at the foot of a page."""
    canvas.setFont(REGULAR, 8)
    canvas.setFillColor(colors.HexColor("#4d5b6b"))
    canvas.drawString(22 * mm, 11 * mm, f"{settings.SITE_NAME} · GestaltWeb {settings.VERSION}")
    canvas.drawRightString(A4[0] - 22 * mm, 11 * mm, str(document.page))


def _story(consent: Consent) -> list[Any]:
    text, signed = consent.form.text, signature_of(consent)
    story: list[Any] = [_p(text["title"], TITLE), _facts(consent, signed)]
    for page in text["pages"]:
        if page["id"] != "sign":
            story += _page(page, consent)
    story.append(_signature(text, consent, signed))
    story.append(_evidence(consent))
    return story


def _p(text: str, style: ParagraphStyle = TEXT, **more: Any) -> Paragraph:
    return Paragraph(escape(text), style, **more)


def _when(moment: dt.datetime) -> str:
    local = timezone.localtime(moment)
    return f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M %Z}"


def _facts(consent: Consent, signed: dict[str, str]) -> Table:
    identity = identity_read(consent.patient)
    born = dt.date.fromisoformat(identity["date_of_birth"])
    rows = [
        (_("Patient"), f"{identity['given_name']} {identity['family_name']} ({consent.patient.code})"),
        (_("Date of birth"), date_format(born, "DATE_FORMAT")),
        (_("Signed by"), f"{signed['name']} – {Signer(consent.signer).label}"),
        (_("Signed on"), _when(consent.signed_at)),
    ]
    return _table(rows)


def _table(rows: list[tuple[str, str]]) -> Table:
    cells = [[_p(name, TEXT), _p(value, ANSWER)] for name, value in rows]
    line = colors.HexColor("#dbe1e7")
    return Table(cells, colWidths=[40 * mm, 121 * mm], hAlign="LEFT", style=[
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, line), ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 2),
    ])  # fmt: skip


def _page(page: dict[str, Any], consent: Consent) -> list[Any]:
    """One page of the form as it was shown, and the answer that was given."""
    parts: list[Any] = [_p(page["title"], HEAD)]
    parts += [_p(page["question"], ANSWER)] if "question" in page else []
    parts += [
        _p(step["text"], POINT, bulletText=f"{number}.")
        for number, step in enumerate(page.get("steps", ()), 1)
    ]
    parts += [_p(point, POINT, bulletText="•") for point in page.get("points", ())]
    parts += [_p(paragraph) for paragraph in page.get("paragraphs", ())]
    if "question" in page:
        parts += [_p(_("If you say no:") + " " + page["if_no"]), _p(f"→ {_answer(page, consent)}", ANSWER)]
    return [KeepTogether(parts)]


def _answer(page: dict[str, Any], consent: Consent) -> str:
    if page["id"] == "methods":
        return str(page["no" if consent.no_methods_research else "yes"])
    return str(page["yes" if getattr(consent, page["tier"]) else "no"])


def _signature(text: dict[str, Any], consent: Consent, signed: dict[str, str]) -> KeepTogether:
    page = consent_forms.form_page(text, "sign")
    parts: list[Any] = [_p(page["title"], HEAD), _p(page["statement"])]
    if signed["signature"]:
        drawn = Image(io.BytesIO(base64.b64decode(signed["signature"])))
        drawn._restrictSize(80 * mm, 28 * mm)
        drawn.hAlign = "LEFT"
        parts.append(drawn)
    elif signed["method"] == "ledger":
        parts.append(_p(_("A choice was taken back on the ledger page, with code and date of birth.")))
    else:
        parts.append(_p(_("Signed by typing the name.")))
    parts.append(_p(f"{signed['name']}, {_when(consent.signed_at)}", ANSWER))
    return KeepTogether(parts)


def _ledger_box(consent: Consent, ledger_url: str) -> KeepTogether:
    code = ledger.code_of(consent.patient)
    words = [
        _p(_("Your code"), HEAD),
        _p(code, TITLE),
        _p(
            _("With this code and the date of birth you can see what the photo was used for, change your "
              "choices, and withdraw.")
        ),
        _p(_("Tear this page off and keep it apart from the form: on the form there is the date of birth.")),
        _p(ledger_url, SMALL),
    ]  # fmt: skip
    box = Table([[_qr(f"{ledger_url}#{code}"), words]], colWidths=[QR_SIDE + 6 * mm, 117 * mm], hAlign="LEFT")
    return KeepTogether([Spacer(1, 4 * mm), box])


def _qr(text: str) -> Drawing:
    side, runs = qr_runs(text)
    unit = QR_SIDE / side
    drawing = Drawing(QR_SIDE, QR_SIDE)
    for x, y, width in runs:
        place = (x * unit, QR_SIDE - (y + 1) * unit, width * unit, unit)
        drawing.add(Rect(*place, strokeWidth=0, strokeColor=None, fillColor=colors.black))
    return drawing


def _evidence(consent: Consent) -> KeepTogether:
    """What a machine or a lawyer would check."""
    form = consent.form
    duo = ", ".join(f"{code} ({consent_forms.DUO_LABELS[code]})" for code in consent.duo)
    lines = [
        _("Form") + f" {form.version}, {form.language}, sha256 {form.sha256}",
        _("Signature number") + f" {consent.pk}, {timezone.localtime(consent.signed_at).isoformat()}",
        f"GA4GH DUO: {duo}",
    ]
    return KeepTogether([Spacer(1, 4 * mm), *[_p(line, SMALL) for line in lines]])
