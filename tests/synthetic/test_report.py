"""The evaluation page is what the JSON files beside the weights give, and its curves are well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from diagnosis.phenotype.embed.default import shipped_extractor
from diagnosis.synthetic.report import render_report
from diagnosis.synthetic.report_svg import line_chart

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_page_is_generated_from_the_shipped_files() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_report(shipped_extractor())


def test_chart_puts_values_where_they_belong() -> None:
    chart = line_chart("a < b", "epoch", [1, 2, 3], {"rising": [0, 50, 100], "flat": [50, 50, 50]})
    lines = ElementTree.fromstring(chart).findall("{http://www.w3.org/2000/svg}polyline")
    rising, flat = ([point.split(",") for point in line.attrib["points"].split()] for line in lines)
    assert [x for x, _ in rising] == [x for x, _ in flat]
    heights = [float(y) for _, y in rising]
    assert heights[0] > heights[1] > heights[2]
    assert {y for _, y in flat} == {rising[1][1]}


def test_chart_of_one_epoch_does_not_divide_by_zero() -> None:
    assert "<polyline" in line_chart("t", "epoch", [1], {"loss": [0.0]})
