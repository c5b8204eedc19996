"""The syndrome catalogue: rows with stable public identifiers are added and completed, never renamed away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from diagnosis.models import Gene, Syndrome
from diagnosis.services.audit import audit


@dataclass(frozen=True)
class CatalogueEntry:
    """One disorder: identifier (OMIM:, ORPHA: or SYN:), name, gene symbols, typical facial HPO terms."""

    identifier: str
    name: str
    genes: tuple[str, ...] = ()
    hpo_terms: list[dict[str, Any]] = field(default_factory=list)
    synthetic: bool = False


def catalogue_load(*, entries: Iterable[CatalogueEntry] | None = None) -> int:
    """Add or complete the entries (by default those of the shipped cohort); returns how many are new.

    Run again it changes nothing. A name that changed upstream is taken over; identifiers never change.
    """
    chosen = list(shipped_entries() if entries is None else entries)
    with transaction.atomic():
        before = Syndrome.objects.count()
        for entry in chosen:
            _entry_load(entry)
        added = Syndrome.objects.count() - before
        if added:
            audit(actor=None, action="catalogue.loaded", subject="catalogue", added=added)
    return added


def _entry_load(entry: CatalogueEntry) -> None:
    values = {"name": entry.name, "synthetic": entry.synthetic, "hpo_terms": entry.hpo_terms}
    syndrome, _ = Syndrome.objects.update_or_create(identifier=entry.identifier, defaults=values)
    genes = [
        Gene.objects.get_or_create(symbol=symbol, defaults={"synthetic": entry.synthetic})[0]
        for symbol in entry.genes
    ]
    syndrome.genes.set(genes)


def shipped_entries() -> list[CatalogueEntry]:
    """The invented syndromes of the cohort that comes with the project; none where it was left out."""
    from diagnosis.synthetic.manifest import MANIFEST_NAME, SHIPPED_FOLDER, load_shipped

    if not (SHIPPED_FOLDER / MANIFEST_NAME).exists():
        return []
    return [
        CatalogueEntry(
            identifier=row.identifier,
            name=row.name,
            genes=(row.gene,),
            synthetic=row.synthetic,
            hpo_terms=[{"id": f.term, "name": f.name, "frequency": f.frequency} for f in row.features],
        )  # fmt: skip
        for row in load_shipped().syndromes
    ]
