"""Runs the gain experiment in a folder: features, parts, gain.json, gain.html. Goes on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.default import shipped_extractor
from diagnosis.phenotype.embed.weights import load_weights
from federation.experiments.cohort_features import cohort_features, write_whole
from federation.experiments.gain import Say, measure_gain
from federation.experiments.gain_figures import summarise
from federation.experiments.gain_options import SEEDS, TRIED, cohort_of, gain_options, quick_options
from federation.experiments.gain_report import render_html, render_markdown
from federation.learning.features import FeatureSet
from federation.learning.threads import one_thread


def run_gain(out: Path, *, quick: bool = False, seeds: int = SEEDS, say: Say = print) -> dict[str, Any]:
    """The result, which also lies in out/gain.json, with the page beside it in out/gain.html.

    One core; what lies in out/features and out/parts already is used. quick: a minute, for nothing but to
    see that every step runs. ValueError for fewer than two seeds or more than there are cohorts for.
    """
    options = quick_options(seeds) if quick else gain_options(seeds)
    base = default_base()

    def source(number: int) -> FeatureSet:
        def progress(done: int, total: int) -> None:
            say(f"cohort {number}: {done:,} of {total:,} patients")

        return cohort_features(cohort_of(number, quick=quick), base, out / "features", progress)

    with one_thread():
        parts = measure_gain(options, base, source, out / "parts", say)
        result = summarise(options, base, parts) | {"quick": quick, "notes": list(TRIED)}
    write_result(out, result)
    return result


def default_base() -> Backbone:
    """The shipped extractor's network."""
    shipped = shipped_extractor()
    return load_weights(
        shipped.weights, sha256=shipped.card["sha256"], architecture=shipped.card["architecture"]
    )


def write_result(out: Path, result: dict[str, Any]) -> None:
    """gain.json and gain.html."""
    write_whole(out / "gain.json", to_json(result))
    write_whole(out / "gain.html", render_html(result).encode())


def publish(result: dict[str, Any], folder: Path) -> None:
    """gain.json and gain.md, as docs/experiments holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "gain.json", to_json(result))
    write_whole(folder / "gain.md", render_markdown(result).encode())


def to_json(result: dict[str, Any]) -> bytes:
    """Readable and the same bytes for the same result."""
    return (json.dumps(result, indent=1) + "\n").encode()
