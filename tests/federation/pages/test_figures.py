"""Geometry of the training curves: values become places, whatever their scale."""

from __future__ import annotations

import pytest

from federation.selectors import CurveLine
from federation.views.curve_figures import BOTTOM, LEFT, RIGHT, TOP, curve_figures


def places(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 7.5, 2e5])
def test_places_are_proportional_to_loss_and_stay_inside(scale: float) -> None:
    losses = [scale, 0.5 * scale, 0.25 * scale]
    line = CurveLine("a", 1, tuple((epoch, loss, None) for epoch, loss in enumerate(losses, 1)))
    (figure,) = curve_figures([line])
    drawn = places(figure.strokes[0].points)
    assert [x for x, _ in drawn] == [LEFT, (LEFT + RIGHT) / 2, RIGHT]
    heights = [BOTTOM - y for _, y in drawn]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2) and heights[1] == pytest.approx(
        2 * heights[2], abs=0.2
    )
    assert all(TOP <= y <= BOTTOM for _, y in drawn)
    top = float(figure.y_ticks[-1].label)
    assert max(losses) <= top <= 1.4 * max(losses)


def test_networks_are_apart_and_the_newest_attempt_counts() -> None:
    lines = [
        CurveLine("a", 1, ((1, 2.0, 0.1),)), CurveLine("a", 2, ((1, 1.0, 0.2), (2, 0.5, 0.3))),
        CurveLine("b", 1, ((1, 4.0, None),)), CurveLine("c", 1, ()),
    ]  # fmt: skip
    first, second = curve_figures(lines)
    assert (first.member, first.attempts, second.member) == ("a", 2, "b")
    assert [stroke.newest for stroke in first.strokes] == [False, True]
    assert first.rows == ((1, 1.0, 20.0), (2, 0.5, 30.0)) and first.last_loss == 0.5
    assert second.rows == ((1, 4.0, None),)
    assert places(second.strokes[0].points)[0][0] == (LEFT + RIGHT) / 2


def test_a_loss_of_nothing_lies_on_the_ground() -> None:
    (figure,) = curve_figures([CurveLine("a", 1, ((1, 0.0, None), (2, 0.0, None)))])
    assert {y for _, y in places(figure.strokes[0].points)} == {BOTTOM}
