"""The receipt of an answer as a PDF: what was asked, who answered and when, and what left afterwards.

Drawn anew from the evidence each time and stored nowhere: the same rows give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from django.conf import settings
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

from diagnosis.models import User
from diagnosis.services import consent_document as style
from diagnosis.services.audit import audit
from federation.models import Approval, Outgoing, OwnSum, Peer, Round
from federation.permissions import require
from federation.plans import parse_plan
from federation.round_selectors import PURPOSE_WORDS, STATE_WORDS, SUM_WORDS, validation
from federation.services import approval_words as words
from federation.services.approval_facts import taken_back
from federation.states import ENDED

_SENT: Final = ("masked", "signed", "answered")
_LINE: Final = colors.HexColor("#dbe1e7")


def receipt_pdf(*, user: User | None, approval: Approval) -> bytes:
    """The receipt of this hospital's answer to one round. user None: the site's own set-up."""
    if user is not None:
        require(user, "federation.view")
    style.fonts_register()
    stream = io.BytesIO()
    document = SimpleDocTemplate(
        stream, pagesize=A4, invariant=1, title=f"Answer to round {approval.round.number}",
        author=settings.SITE_NAME, leftMargin=22 * mm, rightMargin=22 * mm, topMargin=20 * mm,
        bottomMargin=20 * mm,
    )  # fmt: skip
    document.build(_story(approval), onFirstPage=style.footer, onLaterPages=style.footer)
    audit(actor=user, action="round.receipt", subject=f"round:{approval.round_id}", approval=approval.pk)
    return stream.getvalue()


def _story(approval: Approval) -> list[Any]:
    round_ = approval.round
    plan = parse_plan(round_.plan)
    story: list[Any] = [_p(f"Answer to round {round_.number}", style.TITLE), _table(_answer(approval))]
    story += _section("What was asked", words.asked(plan, round_.proposer.title))
    story.append(_table(words.settings_of(plan)))
    titles = dict(Peer.objects.values_list("name", "title"))
    story += _section("Who was invited", [titles.get(site, site) for site in plan.keys])
    story += _shown(approval.shown)
    story += _afterwards(approval, titles)
    return story


def _answer(approval: Approval) -> list[tuple[str, str]]:
    rows = [
        ("Hospital", settings.SITE_NAME),
        ("Answer", "Yes" if approval.answer == "approve" else "No"),
        ("Answered by", _who(approval)),
        ("Answered on", words.when(approval.at)),
        ("Plan (sha256)", approval.plan_sha256),
    ]
    if approval.answer == "approve":
        rows.append(("Training photos, rounded up", f"{approval.samples:,}"))
    if approval.reason:
        rows.append(("Reason", approval.reason))
    return rows


def _who(approval: Approval) -> str:
    if approval.user is not None:
        return str(approval.user.get_username())
    rule = approval.rule
    if rule is None:
        return "the site's set-up"
    made = f" of {rule.created_by.get_username()}" if rule.created_by else ""
    return f"standing rule {rule.pk}{made}, made on {words.when(rule.created_at)}"


def _shown(shown: dict[str, Any]) -> list[Any]:
    """What the approval page said, as it was kept with the answer."""
    parts = (
        ("Leaves this hospital", "leaves"),
        ("Never leaves", "never_leaves"),
        ("Who could still learn what", "could_learn"),
        ("Without an answer", "without_answer"),
    )
    story: list[Any] = []
    for title, name in parts:
        story += _section(title, shown.get(name, ())) if shown.get(name) else []
    return story


def _afterwards(approval: Approval, titles: dict[str, str]) -> list[Any]:
    """What left, once the round is over; until then that it is not."""
    round_ = approval.round
    if round_.state not in ENDED:
        return _section(
            "What left afterwards", [f"The round is not over: {STATE_WORDS[round_.state].lower()}."]
        )
    ended = STATE_WORDS[round_.state] + (f": {round_.reason}" if round_.reason else "")
    said = [ended + "."]
    if approval.answer == "approve" and taken_back(round_):
        said.append("This hospital took no further part before the end.")
    sent = list(
        OwnSum.objects.filter(sum__round=round_, state__in=_SENT).select_related("sum").order_by("pk")
    )
    said.append("" if sent else "No masked input of this hospital left.")
    story = _section("What left afterwards", [sentence for sentence in said if sentence])
    for own in sent:
        story += [Spacer(1, 2 * mm), _table(_sum_rows(own, titles))]
    return story + _published(round_) + _effect(round_)


def _sum_rows(own: OwnSum, titles: dict[str, str]) -> list[tuple[str, str]]:
    total = own.sum
    rows = [
        (PURPOSE_WORDS[total.purpose].format(member=total.member), SUM_WORDS[total.state]),
        (
            "Sent, masked" if _was_sent(total.name) else "Masked, not sent",
            f"{total.words * total.bits // 8:,} bytes, sha256 {own.masked}",
        ),
    ]
    if total.state == "opened":
        rows += [
            ("Sum over", ", ".join(titles.get(site, site) for site in total.survivors)),
            ("Result (sha256)", total.result),
        ]
    if own.checked in ("agrees", "differs"):
        rows.append(("Added up here", f"{own.checked} with the published result"))
    return rows


def _was_sent(name: str) -> bool:
    """Whether the coordinator has, or may have, the bytes: they go before the entry that names them."""
    return Outgoing.objects.filter(key=f"masked/{name}", sent=True).exists()


def _published(round_: Round) -> list[Any]:
    model = getattr(round_, "published_model", None)
    if model is None:
        return []
    rows = [(f"Network {made['name']} (sha256)", str(made["weights"])) for made in model.members]
    return [_p(f"Published: the federation's model {model.number}", style.HEAD), _table(rows)]


def _effect(round_: Round) -> list[Any]:
    """Local gain or loss: what this hospital measured on its own held-out patients and sent nobody."""
    figures = validation(round_)
    if figures is None or figures.before is None or figures.after is None:
        return []
    rows = [
        ("Own held-out patients", str(figures.patients)),
        ("Top-1 per syndrome, before", f"{figures.before:.1%}"),
        ("Top-1 per syndrome, after", f"{figures.after:.1%}"),
    ]
    if figures.alone is not None:
        rows.append(("Top-1, trained here alone", f"{figures.alone:.1%}"))
    if figures.change is not None:
        low, value, high = figures.change
        rows.append(("Change", f"{value:+.1%} (95 % interval {low:+.1%} to {high:+.1%})"))
    rows.append(("Vote", f"{figures.ballot}. {figures.reason}"))
    return [_p("What it did here (never sent)", style.HEAD), _table(rows)]


# --- drawing ---


def _section(title: str, sentences: Iterable[str]) -> list[Any]:
    return [_p(title, style.HEAD), *[_p(text, style.POINT, bulletText="•") for text in sentences]]


def _p(text: str, how: Any = style.TEXT, **more: Any) -> Paragraph:
    return Paragraph(escape(text), how, **more)


def _table(rows: Sequence[tuple[str, str]]) -> Table:
    cells = [[_p(name, style.SMALL), _p(value, style.SMALL)] for name, value in rows]
    return Table(cells, colWidths=[52 * mm, 114 * mm], hAlign="LEFT", style=[
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _LINE), ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 2),
    ])  # fmt: skip
