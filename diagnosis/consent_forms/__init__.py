"""The intake form's texts, one folder per version, one file per language, and what follows from answers.

A file holds the text once; `form_text` writes it out for who signs (the adult patient, a parent or
guardian, or a representative). The hash is over that written-out text: exactly what was on the pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

CURRENT_VERSION: Final = "2026-1"
LANGUAGES: Final = ("en", "de")
VARIANT_OF_SIGNER: Final = {
    "self": "self", "parent": "parent", "guardian": "parent", "representative": "representative",
}  # fmt: skip
TIERS: Final = ("analysis", "gallery", "training", "comparison", "matching")

# GA4GH Data Use Ontology (Lawson et al., Cell Genomics 2021): permissions and modifiers used here.
DUO_LABELS: Final = {
    "DUO:0000006": "HMB, health or medical or biomedical research",
    "DUO:0000015": "NMDS, no general methods research",
    "DUO:0000027": "PS, project specific restriction",
    "DUO:0000028": "IS, institution specific restriction",
    "DUO:0000043": "CC, clinical care use",
}
DUO_OF_TIER: Final[dict[str, frozenset[str]]] = {
    "analysis": frozenset({"DUO:0000043"}),
    "gallery": frozenset({"DUO:0000043", "DUO:0000006"}),
    "training": frozenset({"DUO:0000006", "DUO:0000027"}),
    "comparison": frozenset({"DUO:0000043", "DUO:0000006", "DUO:0000027"}),
    "matching": frozenset({"DUO:0000043", "DUO:0000006", "DUO:0000027"}),
}
LEAVES_HOUSE: Final = frozenset({"training", "comparison", "matching"})


def duo_codes(tiers: Iterable[str], *, no_methods_research: bool) -> list[str]:
    """Sorted DUO identifiers that follow from the choices; none when nothing is allowed.

    As long as no choice lets anything leave, the use is restricted to this institution (IS).
    """
    chosen = set(tiers)
    if not chosen:
        return []
    codes: set[str] = set().union(*(DUO_OF_TIER[tier] for tier in chosen))
    if not chosen & LEAVES_HOUSE:
        codes.add("DUO:0000028")
    if no_methods_research:
        codes.add("DUO:0000015")
    return sorted(codes)


@cache
def _source(version: str, language: str) -> dict[str, Any]:
    file = Path(__file__).parent / version / f"{language}.json"
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return document


def _written_out(value: Any, variant: str, words: dict[str, str]) -> Any:
    """`value` with the words of `variant` filled in; None where a part is for other signers only."""
    if isinstance(value, str):
        return value.format(**words)
    if isinstance(value, list):
        parts = [_written_out(part, variant, words) for part in value]
        return [part for part in parts if part is not None]
    if set(value) <= set(VARIANT_OF_SIGNER.values()):
        return _written_out(value[variant], variant, words) if variant in value else None
    return {name: _written_out(part, variant, words) for name, part in value.items()}


def form_text(language: str, signer: str, version: str = CURRENT_VERSION) -> dict[str, Any]:
    """The form as it is shown: {version, language, variant, title, pages: [{id, title, …}]}.

    An unknown language falls back to English. `signer` is a value of models.Signer.
    """
    language = language if language in LANGUAGES else "en"
    source, variant = _source(version, language), VARIANT_OF_SIGNER[signer]
    words = source["words"][variant]
    return {
        "version": version, "language": language, "variant": variant, "title": source["title"],
        "pages": [_written_out(page, variant, words) for page in source["pages"]],
    }  # fmt: skip


def text_sha256(text: dict[str, Any]) -> str:
    """Hex sha256 of the form's canonical JSON (sorted keys, UTF-8, no spaces)."""
    canonical = json.dumps(text, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def form_page(text: dict[str, Any], page: str) -> dict[str, Any]:
    """One page of a form's text. KeyError when the form has no such page."""
    for candidate in text["pages"]:
        if candidate["id"] == page:
            return dict(candidate)
    raise KeyError(page)
