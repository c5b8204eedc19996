"""The form's texts and the order of its pages."""

from __future__ import annotations

import copy
import itertools
import json
import re

import pytest

from diagnosis import consent_forms
from diagnosis.consent_forms import flow

SIGNERS = ("self", "parent", "guardian", "representative")
TEXTS = [(language, signer) for language in consent_forms.LANGUAGES for signer in SIGNERS]


def words_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [word for part in parts for word in words_of(part)]


@pytest.mark.parametrize(("language", "signer"), TEXTS)
def test_text_is_complete_for_every_signer(language: str, signer: str) -> None:
    text = consent_forms.form_text(language, signer)
    assert [page["id"] for page in text["pages"]] == [
        "about", "photo", *flow.QUESTIONS, "rights", "sign",
    ]  # fmt: skip
    for page in text["pages"]:
        if page["id"] in flow.QUESTIONS:
            assert {"question", "points", "yes", "no", "if_no"} <= set(page)
    assert not [word for word in words_of(text) if not word.strip() or "{" in word]


def test_the_three_variants_and_two_languages_are_different_texts() -> None:
    digests = {consent_forms.text_sha256(consent_forms.form_text(*pair)) for pair in TEXTS}
    assert len(digests) == 6  # parent and guardian read the same text


@pytest.mark.parametrize(("language", "signer"), TEXTS)
def test_comparison_says_that_copy_and_diagnosis_can_be_read(language: str, signer: str) -> None:
    """True to the letter: coordinator and any one hospital together read both."""
    page = consent_forms.form_page(consent_forms.form_text(language, signer), "comparison")
    (warning,) = [point for point in page["points"] if ("Schloss" if language == "de" else "lock") in point]
    expected = {
        "en": ("The disguise and the code", "any one of the hospitals", "read both: the numbers and the condition",
               "looks like the face"),
        "de": ("Schleier und Code", "irgendeinem der Krankenhäuser", "beides lesen: die Zahlen und die Erkrankung",
               "dem Gesicht ähnlich"),
    }  # fmt: skip
    assert all(part in warning for part in expected[language])


def test_plain_language_and_no_abnormal() -> None:
    for language, signer in TEXTS:
        text = json.dumps(consent_forms.form_text(language, signer), ensure_ascii=False).lower()
        assert "abnorm" not in text
        for paragraph in words_of(consent_forms.form_text(language, signer)):
            for sentence in re.split(r"[.?!:]\s", paragraph):
                assert len(sentence.split()) <= 32, sentence


@pytest.mark.parametrize(("language", "signer"), TEXTS)
def test_hash_changes_with_any_word(language: str, signer: str) -> None:
    text = consent_forms.form_text(language, signer)
    before = consent_forms.text_sha256(text)
    assert before == consent_forms.text_sha256(json.loads(json.dumps(text)))
    for number, page in enumerate(text["pages"]):
        for name, value in page.items():
            if isinstance(value, str):
                changed = copy.deepcopy(text)
                changed["pages"][number][name] = value + "."
                assert consent_forms.text_sha256(changed) != before


@pytest.mark.parametrize("answers", list(itertools.product(("yes", "no"), repeat=6)))
def test_choices_follow_from_answers_like_the_slow_twin(answers: tuple[str, ...]) -> None:
    given = dict(zip(flow.QUESTIONS, answers, strict=True))
    slow = set()
    if given["analysis"] == "yes":
        for tier in ("analysis", "gallery", "comparison", "matching"):
            slow |= {tier} if given[tier] == "yes" else set()
        if given["methods"] == "yes" and given["training"] == "yes":
            slow.add("training")
    assert flow.tiers_chosen(given) == slow


def test_nobody_reaches_the_signature_around_a_question() -> None:
    full = {"who": "self", "about": "read", "photo": "read", "rights": "read"} | dict.fromkeys(
        flow.QUESTIONS, "yes"
    )
    assert flow.may_show("sign", full)
    for page in full:
        missing = {name: answer for name, answer in full.items() if name != page}
        assert not flow.may_show("sign", missing), page
        assert not flow.may_show("review", missing), page
        assert flow.first_open_page(missing) == page
    assert not flow.may_show("sign", full | {"analysis": "no"})
    assert flow.may_show(
        "sign", {name: a for name, a in full.items() if name != "training"} | {"methods": "no"}
    )


def test_there_is_always_a_way_back() -> None:
    answers = dict.fromkeys(flow.QUESTIONS, "yes")
    for page in flow.intake_pages(answers)[1:]:
        assert flow.page_after(flow.page_before(page, answers), answers) == page
    assert flow.page_before("who", answers) is None


def test_duo_codes() -> None:
    codes = consent_forms.duo_codes
    assert codes((), no_methods_research=True) == []
    assert codes({"analysis"}, no_methods_research=False) == ["DUO:0000028", "DUO:0000043"]
    assert "DUO:0000015" in codes({"analysis", "gallery"}, no_methods_research=True)
    leaving = codes({"analysis", "training"}, no_methods_research=False)
    assert "DUO:0000028" not in leaving and {"DUO:0000006", "DUO:0000027"} <= set(leaving)
    used = set().union(*consent_forms.DUO_OF_TIER.values()) | {"DUO:0000015", "DUO:0000028"}
    assert used == set(consent_forms.DUO_LABELS)
