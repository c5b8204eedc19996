"""Training curves as points of an SVG of 360 × 156 units, with the table that stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from federation.selectors import CurveLine

STEPS: Final = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
LEFT, RIGHT, TOP, BOTTOM = 44.0, 350.0, 10.0, 122.0


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in units of the SVG."""

    at: float
    label: str


@dataclass(frozen=True)
class Stroke:
    """One attempt. points: as `<polyline>` wants them; end: its last point; newest: it counts."""

    attempt: int
    points: str
    end: tuple[float, float]
    newest: bool


@dataclass(frozen=True)
class CurveFigure:
    """One network's mean loss over its epochs. rows: (epoch, loss, share ranked first in per cent or None) of
    the newest attempt."""

    member: str
    attempts: int
    strokes: tuple[Stroke, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rows: tuple[tuple[int, float, float | None], ...]

    @property
    def last_loss(self) -> float:
        """Mean loss of the last epoch."""
        return self.rows[-1][1]


def curve_figures(lines: Sequence[CurveLine]) -> list[CurveFigure]:
    """One figure per network, in the order they come; networks without an epoch yet are left out."""
    drawn = [line for line in lines if line.points]
    return [_figure(member, list(part)) for member, part in groupby(drawn, key=lambda line: line.member)]


def _figure(member: str, lines: Sequence[CurveLine]) -> CurveFigure:
    last_epoch = max(epoch for line in lines for epoch, _loss, _share in line.points)
    highest = max(loss for line in lines for _epoch, loss, _share in line.points)
    top = _round_up(highest)
    newest = max(line.attempt for line in lines)
    strokes = tuple(_stroke(line, last_epoch, top, line.attempt == newest) for line in lines)
    rows = next(line for line in lines if line.attempt == newest).points
    return CurveFigure(
        member=member, attempts=len(lines), strokes=strokes, x_ticks=_x_ticks(last_epoch),
        y_ticks=tuple(Tick(_y(top * part / 2, top), f"{top * part / 2:.3g}") for part in range(3)),
        rows=tuple((epoch, loss, None if share is None else 100 * share) for epoch, loss, share in rows),
    )  # fmt: skip


def _stroke(line: CurveLine, last_epoch: int, top: float, newest: bool) -> Stroke:
    places = [(_x(epoch, last_epoch), _y(loss, top)) for epoch, loss, _share in line.points]
    return Stroke(line.attempt, " ".join(f"{x},{y}" for x, y in places), places[-1], newest)


def _x(epoch: int, last: int) -> float:
    """Epochs are counted from 1; a single one stands in the middle."""
    return round((LEFT + RIGHT) / 2 if last == 1 else LEFT + (RIGHT - LEFT) * (epoch - 1) / (last - 1), 1)


def _y(loss: float, top: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * min(max(loss / top, 0.0), 1.0), 1)


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 2.4, … (of any power of ten): the axis has round numbers, halves too."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in STEPS if power * step >= value)


def _x_ticks(last: int) -> tuple[Tick, ...]:
    """The first, the last and, from five epochs on, the middle one."""
    shown = {1, last} | ({(last + 1) // 2} if last >= 5 else set())
    return tuple(Tick(_x(epoch, last), str(epoch)) for epoch in sorted(shown))
