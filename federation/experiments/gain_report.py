"""The gain experiment as a page: every number comes from the stored result, none is typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from diagnosis.synthetic.report_svg import line_chart
from federation.experiments.gain_svg import interval_chart

Json = Mapping[str, Any]
Row = Sequence[str]

GALLERY_NAMES = {
    "own": "the site's own training patients",
    "joint": "the training patients of all sites together, as joint ranking answers",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.25rem .6rem;"
    "text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)


def render_markdown(result: Json) -> str:
    """The short page beside the JSON."""
    blocks = []
    for kind, content in _blocks(result):
        if kind == "table":
            header, *rows = content
            blocks.append("\n".join([_line(header), _line(["---"] * len(header)), *map(_line, rows)]))
        elif kind != "svg":
            blocks.append({"h1": "# ", "h2": "## ", "p": ""}[kind] + content)
    return "\n\n".join([blocks[0], "*Generated from `gain.json`; do not edit.*", *blocks[1:]]) + "\n"


def render_html(result: Json) -> str:
    """The same page with charts, in one file without anything to load."""
    parts = []
    for kind, content in _blocks(result):
        if kind == "table":
            parts.append(_html_table(content))
        else:
            parts.append(content if kind == "svg" else f"<{kind}>{escape(content)}</{kind}>")
    title = escape(TITLE)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


TITLE = "What a federated model gives over a model trained alone"


def _blocks(result: Json) -> Iterator[tuple[str, Any]]:
    """(kind, content): h1, h2, p with text; table with rows of texts, header first; svg with markup."""
    yield "h1", TITLE
    yield "p", _setting(result)
    for gallery, name in GALLERY_NAMES.items():
        yield "h2", f"Gallery: {name}"
        yield "p", _verdict(result, gallery)
        yield "table", accuracy_table(result, gallery)
        yield "svg", _chart(result, gallery)
        yield "p", "The same gains with other intervals (top-1, points):"
        yield "table", interval_table(result, gallery)
        if result["options"]["rivals"]:
            yield "p", _rival_verdict(result, gallery)
            yield "table", rival_table(result, gallery)
    yield "h2", "Round by round"
    yield "svg", _curve_chart(result)
    yield "table", curve_table(result)
    yield "h2", "Second moments"
    yield "p", _gate(result)
    yield "h2", "Silos"
    yield "table", silo_table(result)
    if result.get("notes"):
        yield "h2", "What was tried"
        for note in result["notes"]:
            yield "p", note
    yield "p", _provenance(result)


def _setting(result: Json) -> str:
    options = result["options"]
    sites, spread = len(options["sites"]), options["spread"]
    alpha = f" {spread['alpha']:g}" if spread["alpha"] else ""
    return (
        f"{len(options['cohorts'])} seeds, each with a cohort of its own: synthetic patients whose people "
        f"and syndromes neither the extractor nor any recipe knows, spread over {sites} sites "
        f"({spread['kind']}{alpha}, by patient), k = {options['strategies'][0]['k']}. Every sum was opened "
        "by secure aggregation. Each site's held-out patients are ranked against one gallery by the nearest "
        "photo, under the base model, the model that the site trained alone (same code, epochs, rates and "
        "base, all its own classes), the federated model, and one trained on all photos in one place. "
        "Figures are macro top-k in per cent, the mean over sites and seeds; gains are in points with a "
        f"{100 * result['level']:.0f} % bootstrap interval over seeds and patients."
    )


def figures_of(result: Json, gallery: str, k: int) -> list[Json]:
    """The figures of one gallery and k, strategy after strategy."""
    return [figure for figure in result["figures"] if (figure["gallery"], figure["k"]) == (gallery, k)]


def _verdict(result: Json, gallery: str) -> str:
    figures = figures_of(result, gallery, 1)
    above = [figure["strategy"] for figure in figures if figure["gain"]["alone"]["low"] > 0]
    rest = [figure["strategy"] for figure in figures if figure["strategy"] not in above]
    said = f"Gain in top-1 above zero with its whole interval: {', '.join(above) or 'no strategy'}."
    return said + (f" Not so: {', '.join(rest)}." if rest else "")


def _rival_verdict(result: Json, gallery: str) -> str:
    """The twin may be a weak opponent: what remains against the strongest model of a site alone."""
    figures = figures_of(result, gallery, 1)
    names = [name for name, _ in result["options"]["rivals"]]
    accuracy = figures[0]["accuracy"]
    best = max([*names, "base"], key=lambda name: float(accuracy[name]))
    above = [figure["strategy"] for figure in figures if figure["gain"][best]["low"] > 0]
    return (
        "The same global models against other ways to train alone, each with the options that served it best "
        "on the tuning cohorts (gain in macro top-1, points). Against the strongest of them and the base, "
        f"“{best}” with {percent(accuracy[best])}, the gain is above zero with its whole interval for: "
        f"{', '.join(above) or 'no strategy'}."
    )


def accuracy_table(result: Json, gallery: str) -> list[Row]:
    """Top-1 of all models, then gains over the twin, top-1 and top-5, and over the base."""
    header = ["strategy", "base", "alone", "federated", "pooled", "gain over alone, top-1"]
    rows: list[Row] = [[*header, "gain over alone, top-5", "gain over base, top-1", "seeds above zero"]]
    for first, fifth in zip(figures_of(result, gallery, 1), figures_of(result, gallery, 5), strict=True):
        accuracy, gain, seeds = first["accuracy"], first["gain"], first["gain_by_seed"]
        models = (accuracy["base"], accuracy["alone"], first["global"], accuracy["pooled"])
        gains = (gain["alone"], fifth["gain"]["alone"], gain["base"])
        above = f"{sum(value > 0 for value in seeds)} of {len(seeds)}"
        rows.append([first["strategy"], *map(percent, models), *map(points, gains), above])
    return rows


def interval_table(result: Json, gallery: str) -> list[Row]:
    """The gain over the twin with each of its three intervals."""
    rows: list[Row] = [
        ["strategy", "seeds, then patients by syndrome", "Student's, over seeds", "seeds, then any patients"]
    ]
    for figure in figures_of(result, gallery, 1):
        found = (figure["gain"]["alone"], figure["gain_student"], figure["gain_any_syndrome"])
        rows.append([figure["strategy"], *map(points, found)])
    return rows


def rival_table(result: Json, gallery: str) -> list[Row]:
    """Rows of rivals with their own top-1, columns of strategies with the global model's gain over them."""
    figures = figures_of(result, gallery, 1)
    rows: list[Row] = [["trained alone", "its top-1", *(figure["strategy"] for figure in figures)]]
    for name, _ in result["options"]["rivals"]:
        rows.append(
            [
                name,
                percent(figures[0]["accuracy"][name]),
                *(points(figure["gain"][name]) for figure in figures),
            ]
        )
    return rows


def curve_table(result: Json) -> list[Row]:
    """Macro top-1 against the own gallery after the first, the middle and the last round."""
    curves = result["curves"]
    rounds = max((len(curve) for curve in curves.values()), default=0)
    chosen = sorted({1, (rounds + 1) // 2, rounds} - {0})
    rows: list[Row] = [["own gallery, top-1", *(f"round {number}" for number in chosen)]]
    for name, curve in curves.items():
        rows.append([name, *(percent(curve[number - 1]) for number in chosen)])
    return rows


def silo_table(result: Json) -> list[Row]:
    """Sizes of every silo of every seed."""
    rows: list[Row] = [
        ["cohort", "site", "training patients", "photos", "syndromes", "held out, own gallery",
         "held out, joint gallery"]
    ]  # fmt: skip
    for cohort in result["cohorts"]:
        for name, site in cohort["sites"].items():
            rows.append([
                str(cohort["cohort"]), name, str(site["training_patients"]), str(site["training_photos"]),
                str(site["training_syndromes"]), str(site["held_out_patients_own"]),
                str(site["held_out_patients_joint"]),
            ])  # fmt: skip
    return rows


def _gate(result: Json) -> str:
    gate = result["gate"][0]
    left = [entry["patients_left"] for entry in result["gate"]]
    return (
        "The analytic rounds above would be refused at this size: a plan with the shipped minima wants "
        f"{gate['minimum_patients']:,} patients to remain without any colluding hospital, and at most "
        f"{max(0, *left):,} are certain to remain here. Its answer: “{gate['answer']}” They were measured "
        "with the minima lowered in the experiment's own options, to show what the strategy is worth, not to "
        "allow it."
    )


def _provenance(result: Json) -> str:
    made = ", ".join(f"{name} {version}" for name, version in result["made_with"].items())
    sums = sum(cohort["secure_sums"] for cohort in result["cohorts"])
    seconds = sum(cohort["seconds"] for cohort in result["cohorts"])
    return (
        f"Base weights sha256 {result['base_sha256']}; {sums:,} secure sums; {seconds / 60:,.0f} minutes of "
        f"training and ranking, rendering not counted; {made}."
    )


def percent(share: float) -> str:
    """0.6123 → 61.2."""
    return f"{100 * share:.1f}"


def points(estimate: Json) -> str:
    """+1.2 [+0.3, +2.1]."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _chart(result: Json, gallery: str) -> str:
    rows = {
        f"{figure['strategy']}, top-{k}": (
            figure["gain"]["alone"]["value"], figure["gain"]["alone"]["low"], figure["gain"]["alone"]["high"],
            figure["gain_by_seed"],
        )
        for k in (1, 5)
        for figure in figures_of(result, gallery, k)
    }  # fmt: skip
    return interval_chart(f"Gain over alone, points: {GALLERY_NAMES[gallery]}", rows)


def _curve_chart(result: Json) -> str:
    """What each model has over the base; twins that are one are drawn once."""
    base = figures_of(result, "own", 1)[0]["accuracy"]["base"]
    shown: dict[str, list[float]] = {}
    for name, curve in result["curves"].items():
        above = [100 * (value - base) for value in curve]
        if above not in shown.values():
            shown[name] = above
    rounds = list(range(1, max((len(curve) for curve in shown.values()), default=1) + 1))
    return line_chart("Macro top-1 above the base by round, own gallery, points", "round", rounds, shown)


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def _html_table(rows: Sequence[Row]) -> str:
    header, *body = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
