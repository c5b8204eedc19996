"""The page in docs/experiments says what the JSON beside it says, and the JSON is that of these options."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from diagnosis.phenotype.embed.default import shipped_extractor
from federation.experiments.gain import seeds_of
from federation.experiments.gain_options import TRIED, TUNING_COHORTS, gain_options
from federation.experiments.gain_report import render_markdown

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "experiments"


def published() -> dict:
    return json.loads((FOLDER / "gain.json").read_text(encoding="utf-8"))


def test_the_page_is_generated_from_the_json() -> None:
    assert (FOLDER / "gain.md").read_text(encoding="utf-8") == render_markdown(published())


def test_the_json_belongs_to_the_committed_options_and_the_shipped_extractor() -> None:
    result = published()
    options = gain_options(len(result["seeds"]))
    assert result["options"] == json.loads(json.dumps(asdict(options)))
    assert result["seeds"] == list(seeds_of(options))
    assert result["base_sha256"] == shipped_extractor().card["sha256"]
    assert result["notes"] == list(TRIED)
    assert result["quick"] is False


def test_what_is_reported_is_large_enough_and_was_not_tuned_on() -> None:
    result = published()
    assert len(result["seeds"]) >= 5
    assert not {cohort["cohort"] for cohort in result["cohorts"]} & set(TUNING_COHORTS)
    held_out = [
        site["held_out_patients_own"] for cohort in result["cohorts"] for site in cohort["sites"].values()
    ]
    assert min(held_out) >= 100


def test_a_number_of_seeds_that_touches_the_tuning_cohorts_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="tuning"):
        gain_options(min(TUNING_COHORTS) + 1)
    with pytest.raises(CommandError, match="seeds"):
        call_command("experiment", "gain", out=tmp_path, seeds=1)
    with pytest.raises(CommandError):
        call_command("experiment", "no-such-thing", out=tmp_path)
