"""The page about the default extractor, made from the JSON files beside its weights; nothing is typed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diagnosis.phenotype.embed.default import ShippedExtractor, shipped_extractor
from diagnosis.synthetic.report_svg import line_chart

TOP = ("top1", "top5", "top10", "top30")
Json = Mapping[str, Any]


def write_report(path: Path, extractor: ShippedExtractor | None = None) -> None:
    """docs/evaluation.md (Markdown with inline SVG) of the shipped extractor, or of another one."""
    path.write_text(render_report(extractor or shipped_extractor()), encoding="utf-8")


def render_report(extractor: ShippedExtractor) -> str:
    """The whole page as Markdown."""
    card, evaluation = extractor.card, extractor.evaluation()
    calibration = extractor.calibration()
    facts = calibration.to_arrays()[1]
    parts = [
        "# The default extractor: how it was trained and what was measured",
        f"*Generated from `{extractor.weights.stem}.json` and its companions; do not edit.*",
        f"**{card['notice']}** {card['origin']} Licence: {card['licence']}",
        *_training(card),
        *_accuracy(evaluation),
        *_targets(evaluation),
        *_unaffected(evaluation, facts),
        *_bands(facts),
        *_provenance(card, evaluation, extractor.spec.sha256),
    ]
    return "\n\n".join(parts) + "\n"


def _training(card: Json) -> list[str]:
    curves, seconds = card["curves"], card["seconds"]
    faces = sum(row["faces"] for row in curves)
    epochs = [row["epoch"] for row in curves]
    losses = {name: [row[f"loss_{name}"] for row in curves] for name in ("regression", "affected")}
    found = {
        "nearest, top-1": [row["nearest_top1"] for row in curves],
        "nearest, top-5": [row["nearest_top5"] for row in curves],
        "whitened centroids, top-1": [row["whitened_centroids_top1"] for row in curves],
        "whitened centroids, top-5": [row["whitened_centroids_top5"] for row in curves],
    }
    machine, config = card["machine"], card["config"]
    courses = "; ".join(_course(one) for one in config["courses"])
    text = (
        f"{len(curves)} epochs over up to {max(row['faces'] for row in curves):,.0f} rendered people with "
        f"{config['training']['syndromes']} training syndromes or none, {faces:,.0f} faces seen in all. "
        f"Courses, each from where the one before ended: {courses}. Training took "
        f"{seconds['cpu_s']:,.0f} CPU seconds on one core of {machine['cores']} ({machine['processor']}; "
        f"torch {machine['torch']}, Python {machine['python']}), rendering not counted."
    )
    folded = (
        "Validation is on syndromes that are neither trained on nor evaluated: half of each syndrome's "
        "patients are looked for in the other half, one view each. Nearest image after the last epoch "
        f"{_row(curves[-1], 'nearest')}; after the discriminant of the training syndromes (shrinkage "
        f"{config['whitening_shrinkage']:g}, exponent {config['discriminant_exponent']:g}) and a constant "
        f"coordinate (share {config['constant_share']:g}) were folded into the neck "
        f"{_row(card['whitened'], 'nearest')}."
    )
    return [
        "## Training",
        text,
        line_chart("Loss on training faces", "epoch", epochs, losses),
        line_chart("Macro top-k on validation syndromes, %", "epoch", epochs, found),
        folded,
    ]


def _course(course: Json) -> str:
    epochs = course["stop_after_epoch"] or len(course["faces_per_epoch"])
    return (
        f"{epochs} of {len(course['faces_per_epoch'])} epochs, batches of {course['batch_faces']}, "
        f"learning rate {course['peak_learning_rate']:g} falling to {course['final_learning_rate']:g}, "
        f"seed {course['seed']}"
    )


def _row(report: Json, prefix: str) -> str:
    return " / ".join(f"{report[f'{prefix}_{key}']:.1f}" for key in TOP) + " % at k = 1 / 5 / 10 / 30"


def _accuracy(evaluation: Json) -> list[str]:
    cohort = evaluation["cohort"]
    refused = ", ".join(f"{code} {count}" for code, count in cohort["refusals"].items()) or "none"
    parts = [
        "## Accuracy on held-out patients",
        f"Recipe `{cohort['name']}` (seed {cohort['seed']}), committed before training. "
        f"{cohort['aligned']} of {cohort['photos']} photos were detected, aligned and accepted by the "
        f"pipeline (refused: {refused}). Macro accuracy in per cent; F: frequent syndromes, R: rare ones, "
        "ten splits averaged.",
    ]
    for setting, sizes in evaluation["splits"].items():
        parts.append(
            f"### {setting}\n\n{sizes['test_photos']} photos of {sizes['tested_syndromes']} syndromes "
            f"against {sizes['gallery_photos']} photos of {sizes['syndromes']}."
        )
        parts.append(_accuracy_table(evaluation["accuracy"], setting))
    for setting in next(iter(evaluation["intervals"].values())):
        parts.append(f"### 95 % intervals for {setting} (first split), by bootstrap over patients")
        parts.append(_interval_table(evaluation["intervals"], setting))
    return parts


def _accuracy_table(tables: Json, setting: str) -> str:
    rows = [
        [extractor, method, *(f"{figures[key]:.1f}" for key in TOP)]
        for extractor, table in tables.items()
        for method, figures in table[setting].items()
    ]
    return _table(["extractor", "method", "top-1", "top-5", "top-10", "top-30"], rows)


def _interval_table(intervals: Json, setting: str) -> str:
    rows = [
        [extractor, method, *(_share(figures[key]) for key in TOP)]
        for extractor, table in intervals.items()
        for method, figures in table[setting].items()
    ]
    return _table(["extractor", "method", "top-1", "top-5", "top-10", "top-30"], rows)


def _targets(evaluation: Json) -> list[str]:
    if "targets" not in evaluation:
        return []
    parts = ["## Targets set before training"]
    for setting, targets in evaluation["targets"].items():
        rows = [
            [one["target"], one["wanted"], f"{one['measured']:.2f}", "met" if one["met"] else "**missed**"]
            for one in targets
        ]
        parts += [f"### {setting}", _table(["target", "wanted", "measured", ""], rows)]
    return parts


def _unaffected(evaluation: Json, facts: Json) -> list[str]:
    found = evaluation["unaffected"]
    return [
        "## Unaffected against affected",
        f"{found['affected']} affected and {found['unaffected']} unaffected people of the evaluation cohort, "
        f"one photo each. AUROC of the calibrated score {_value(found['auroc'])}; of the nearest distance "
        f"alone {_value(found['auroc_of_nearest_distance_alone'])}. Goal: 0.90.",
        f'At the threshold for "confident match" (set on the calibration cohort for 90 % specificity): '
        f"sensitivity {_share(found['sensitivity'])} %, specificity {_share(found['specificity'])} %. On the "
        f"calibration cohort itself, cross-fitted: AUROC {_value(facts['area'])}.",
    ]


def _bands(facts: Json) -> list[str]:
    rows = [
        [
            one["band"],
            "not awarded" if one["cutoff"] < 0 else f"{one['cutoff']:.4f}",
            _share(one["sensitivity"]),
            _share(one["precision"]),
            _share(one["within"]),
        ]
        for one in facts["bands"]
    ]
    header = ["band", "distance up to", "sensitivity %", "precision up to here %", "correct in the band %"]
    text = "Measured on held-out patients of the calibration cohort."
    return ["## Similarity bands", text, _table(header, rows)]


def _provenance(card: Json, evaluation: Json, ensemble: str) -> list[str]:
    made = ", ".join(f"{name} {version}" for name, version in evaluation["cohort"]["made_with"].items())
    notes = [card["reproducibility"]] if "reproducibility" in card else []
    return [
        "## Provenance",
        *notes,
        _table(
            ["what", "value"],
            [
                ["weights", f"`{card['file']}`, {card['bytes']:,} bytes"],
                ["weights sha256", f"`{card['sha256']}`"],
                ["ensemble sha256", f"`{ensemble}`"],
                ["command", f"`{card['command']}`"],
                ["cohort made with", made],
                ["evaluation", f"{evaluation['machine']['cpu_s']:,.0f} CPU seconds"],
            ],
        ),
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def _share(estimate: Json) -> str:
    """A share as per cent with its interval; a dash where nothing was there to measure."""
    if estimate["value"] is None or math.isnan(estimate["value"]):
        return "–"
    return f"{100 * estimate['value']:.1f} ({100 * estimate['low']:.1f}–{100 * estimate['high']:.1f})"


def _value(estimate: Json) -> str:
    return f"{estimate['value']:.3f} (95 % interval {estimate['low']:.3f}–{estimate['high']:.3f})"
