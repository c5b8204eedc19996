"""The patient's pages are complete in German: every sentence in their sources has a translation."""

from __future__ import annotations

import gettext
import io
import re
import tokenize
from pathlib import Path

from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[3]
LOCALE = ROOT / "diagnosis/locale/de/LC_MESSAGES"
SOURCES = [
    "diagnosis/forms/intake.py", "diagnosis/views/intake.py", "diagnosis/views/ledger.py",
    "diagnosis/views/errors.py",
    "diagnosis/services/ledger.py", "diagnosis/services/consent.py", "diagnosis/services/intake_links.py",
    "diagnosis/services/consent_document.py", "diagnosis/models/consent.py",
    "diagnosis/consent_forms/signature.py",
]  # fmt: skip
STRING = r"""[uU]?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
CALL = re.compile(rf"\b(?:_|gettext|gettext_lazy|gettext_noop|ngettext|pgettext)\(\s*((?:{STRING}\s*)+)")


def joined(literals: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(literals.replace("\n", " ")).readline)
    return "".join(eval(token.string) for token in tokens if token.type == tokenize.STRING)


def messages() -> dict[str, str]:
    """message → file, from Python and template sources."""
    found = {}
    for name in SOURCES:
        for literals in CALL.findall((ROOT / name).read_text("utf-8")):
            found[joined(literals)] = name
    for path in [
        *sorted((ROOT / "templates/intake").rglob("*.html")),
        ROOT / "templates/errors/patient.html",
    ]:
        for literals in CALL.findall(templatize(path.read_text("utf-8"), origin=str(path))):
            found[joined(literals)] = path.name
    return found


def test_every_sentence_has_a_german_one() -> None:
    with (LOCALE / "django.mo").open("rb") as stream:
        german = gettext.GNUTranslations(stream)
    sentences = messages()
    assert len(sentences) > 140 and "What was the photo used for?" in sentences
    missing = {text: file for text, file in sentences.items() if german.gettext(text) == text
               and german.ngettext(text, text, 1) == text and text != "For example 17 5 2019"}  # fmt: skip
    assert missing == {}


def test_the_compiled_file_is_the_source_compiled(tmp_path: Path) -> None:
    with (LOCALE / "django.mo").open("rb") as stream:
        compiled = gettext.GNUTranslations(stream)._catalog
    source = (LOCALE / "django.po").read_text("utf-8")
    literal = r'((?:"(?:[^"\\]|\\.)*"\n?)+)'
    single = re.findall(rf"^msgid {literal}msgstr {literal}", source, re.M)
    plural = re.findall(
        rf"^msgid {literal}msgid_plural {literal}msgstr\[0\] {literal}msgstr\[1\] {literal}", source, re.M
    )
    expected: dict[object, str] = {joined(text): joined(german) for text, german in single}
    for text, _plural, one, many in plural:
        expected |= {(joined(text), 0): joined(one), (joined(text), 1): joined(many)}
    expected.pop("")
    assert {key: german for key, german in compiled.items() if key} == expected
    assert len(expected) > 150 and "#, fuzzy" not in source


def test_placeholders_survive_translation() -> None:
    with (LOCALE / "django.mo").open("rb") as stream:
        catalog = gettext.GNUTranslations(stream)._catalog
    for key, german in catalog.items():
        text = key[0] if isinstance(key, tuple) else key
        if text:
            assert sorted(re.findall(r"%\(\w+\)[sd]", text)) == sorted(re.findall(r"%\(\w+\)[sd]", german)), (
                text
            )


def test_no_plain_words_in_the_templates() -> None:
    """Text outside translate tags would stay English; only values may stand free."""
    for path in sorted((ROOT / "templates/intake").rglob("*.html")):
        text = path.read_text("utf-8")
        text = re.sub(r"{% comment %}.*?{% endcomment %}", "", text, flags=re.S)
        text = re.sub(r"{% blocktranslate.*?{% endblocktranslate %}", "", text, flags=re.S)
        text = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", " ", text, flags=re.S)
        assert not re.findall(r"[A-Za-z]{3,}", text), path.name
