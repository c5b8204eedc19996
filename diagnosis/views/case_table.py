"""A ranking as a table for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diagnosis.models import Case, RankingRecord, Syndrome
from diagnosis.selectors import verdicts_standing
from diagnosis.words import LIST_NOTICE, NO_MATCH, RESEARCH_USE, SYNTHETIC

EXPORT_COLUMNS = (
    "list", "rank", "id", "name", "genes", "band", "distance", "patients", "verdict", "case", "patient",
    "photos", "match", "model", "model_sha256", "model_synthetic", "gallery", "gallery_sha256", "ranked_at",
    "user", "notice",
)  # fmt: skip


def export_rows(case: Case, record: RankingRecord, user: Any) -> Iterator[list[Any]]:
    """The syndrome and gene lists, a line each, every cell safe in a spreadsheet.

    The list of gallery patients stays here: it would name patients who are not this case's.
    """
    fixed = _provenance(case, record, user)
    catalogue = Syndrome.objects.in_bulk(
        [row["id"] for row in record.result.get("syndromes", [])], field_name="identifier"
    )
    answers = verdicts_standing(case, user)
    for row in record.result.get("syndromes", []):
        syndrome = catalogue.get(row["id"])
        name = syndrome.name if syndrome else row.get("name", "")
        answer = answers.get(syndrome.pk, "") if syndrome else ""
        yield [safe_cell(value) for value in _line("syndromes", row, name, answer) + fixed]
    for row in record.result.get("genes", []):
        yield [safe_cell(value) for value in _line("genes", row, str(row["id"]), "") + fixed]


def _line(kind: str, row: dict[str, Any], name: str, answer: str) -> list[Any]:
    genes = " ".join(row.get("genes", []))
    band, distance = row.get("band") or "", f"{float(row['distance']):.6f}"
    return [kind, row["rank"], row["id"], name, genes, band, distance, row.get("patients", ""), answer]


def _provenance(case: Case, record: RankingRecord, user: Any) -> list[Any]:
    extractor, gallery = record.extractor, record.gallery
    return [
        case.pk, case.patient.code, " ".join(str(photo) for photo in record.photos), record.match,
        extractor.name, extractor.sha256, extractor.synthetic, gallery.number, gallery.sha256,
        record.created_at.isoformat(), user.get_username(), _notice(record),
    ]  # fmt: skip


def _notice(record: RankingRecord) -> str:
    """Everything that the page says beside this list."""
    parts = [RESEARCH_USE, LIST_NOTICE]
    parts += [NO_MATCH] if record.match == "none" else []
    parts += [SYNTHETIC] if record.extractor.synthetic else []
    return " ".join(parts)


def safe_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is led by an apostrophe (OWASP, CSV injection)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
