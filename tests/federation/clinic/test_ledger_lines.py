"""What patients read about rounds, in both languages, and that each is told once."""

from __future__ import annotations

import re

import pytest
from django.utils import translation

MIX = {"SYN:0001": 7, "SYN:0002": 7, "SYN:0003": 2}
KINDS = {"federation.counted", "federation.trained", "federation.centroid"}


def test_each_patient_is_told_once_per_round_and_kind(hospital, story) -> None:
    from diagnosis.models import LedgerEntry
    from federation.models import Contribution
    from federation.services.candidates import candidate_make

    hospital.admit_all(MIX)
    round_ = story.begin()
    others = dict.fromkeys(MIX, 10)
    story.count(round_, others)
    story.contribute(story.sum(round_, "counts", 3, attempt=2))
    found = story.train(round_)
    story.contribute(story.update_sum(round_, attempt=2))
    story.vote(round_, candidate_make(round_))
    total = story.sum(round_, "centroids", 3 * (1 + 4 * 512))
    first = story.contribute(total)
    assert story.contribute(total).patients == first.patients  # recorded already: nothing is written again
    assert Contribution.objects.filter(sum=total.name).count() == 1
    for kind, people in (
        ("federation.counted", Contribution.objects.filter(purpose="counts").first().patients),
        ("federation.trained", found.patients),
        ("federation.centroid", first.patients),
    ):
        wanted = sorted(pk for some in people.values() for pk in some)
        entries = LedgerEntry.objects.filter(kind=kind)
        assert sorted(entries.values_list("patient_id", flat=True)) == wanted
        assert {entry.detail["round"] for entry in entries} == {1}
        assert all(set(entry.detail) == {"round", "plan"} for entry in entries)
    assert LedgerEntry.objects.exclude(kind__in=KINDS).count() == 0


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("en", "cannot forget them, even if you withdraw"), ("de", "kann sie nicht vergessen")],
)
def test_a_patient_reads_it_in_plain_words(make_patient, language, sentence) -> None:
    from diagnosis.services.ledger import ledger_note, ledger_read

    patient = make_patient()
    for kind in sorted(KINDS):
        ledger_note(patient=patient, kind=kind, round=12, plan="0" * 64)
    with translation.override(language):
        texts = [line.text for line in ledger_read(patient)]
    assert len(texts) == 3 and all("12" in text for text in texts)
    assert any(sentence in text for text in texts)
    assert not any(re.search(r"%\(|abnormal", text) for text in texts)


def test_every_sentence_has_a_german_one() -> None:
    from diagnosis.registries import ledger_lines
    from federation.ledger import LINES

    assert set(LINES) == KINDS and dict(ledger_lines.items()).keys() >= KINDS
    spoken = set()
    for language in ("en", "de"):
        with translation.override(language):
            spoken |= {line({"round": 1}) for line in LINES.values()}
    assert len(spoken) == 6
