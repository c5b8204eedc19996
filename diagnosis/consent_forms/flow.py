"""Which page of the intake comes when, from the answers so far. Plain functions, no request, no rows.

Answers are {page id: value}: `who` is a signer, every question is "yes" or "no".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from diagnosis.consent_forms import TIERS, VARIANT_OF_SIGNER

QUESTIONS: Final = ("analysis", "gallery", "methods", "training", "comparison", "matching")
READ: Final = ("about", "photo", "rights")  # pages to read; going on is the answer
ALL_PAGES: Final = ("who", "about", "photo", *QUESTIONS, "rights", "review", "sign")


def intake_pages(answers: Mapping[str, str]) -> list[str]:
    """The pages of this intake in order, given what was answered so far."""
    if answers.get("analysis") == "no":
        return ["who", "about", "photo", "analysis", "declined"]
    skipped = {"training"} if answers.get("methods") == "no" else set()
    return [page for page in ALL_PAGES if page not in skipped]


def _answered(page: str, answers: Mapping[str, str]) -> bool:
    if page == "who":
        return answers.get("who") in VARIANT_OF_SIGNER
    if page in QUESTIONS:
        return answers.get(page) in ("yes", "no")
    return answers.get(page) == "read" if page in READ else False


def first_open_page(answers: Mapping[str, str]) -> str:
    """The first page that still needs an answer; nobody reaches the signature around a question."""
    pages = intake_pages(answers)
    return next((page for page in pages if not _answered(page, answers)), pages[-1])


def may_show(page: str, answers: Mapping[str, str]) -> bool:
    """Whether `page` may be opened now: all pages before it are answered."""
    pages = intake_pages(answers)
    if page not in pages:
        return False
    open_page = first_open_page(answers)
    limit = pages.index(open_page)
    if open_page == "review":  # everything is answered: review and signature are both open
        limit = len(pages) - 1
    return pages.index(page) <= limit


def page_before(page: str, answers: Mapping[str, str]) -> str | None:
    """The page to go back to, or None on the first."""
    pages = intake_pages(answers)
    place = pages.index(page)
    return pages[place - 1] if place else None


def page_after(page: str, answers: Mapping[str, str]) -> str:
    """The page that follows `page`."""
    pages = intake_pages(answers)
    return pages[min(pages.index(page) + 1, len(pages) - 1)]


def tiers_chosen(answers: Mapping[str, str]) -> set[str]:
    """The tiers with a yes; nothing without analysis, no training without methods research."""
    if answers.get("analysis") != "yes":
        return set()
    asked = intake_pages(answers)
    return {tier for tier in TIERS if tier in asked and answers.get(tier) == "yes"}
