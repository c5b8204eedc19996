"""Intervals as inline SVG text: a mean with its interval, and a dot for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LEFT, RIGHT, TOP, STEP = 640, 170, 20, 30, 26
Interval = tuple[float, float, float, Sequence[float]]  # value, low, high, one value per seed


def interval_chart(title: str, rows: Mapping[str, Interval]) -> str:
    """Shares (0.01 is one point), one row per name → an <svg> element with a line at zero."""
    values = [
        100 * number for value, low, high, seeds in rows.values() for number in (value, low, high, *seeds)
    ]
    least, most = min(0.0, *values) - 0.5, max(0.0, *values) + 0.5
    height = TOP + STEP * len(rows) + 26

    def across(number: float) -> float:
        return LEFT + (number - least) / (most - least) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<text x="8" y="16" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{across(0):.1f} {TOP}V{height - 22}" stroke="#888"/>',
    ]
    # An end so near to zero that its label would cover zero's has none.
    for tick in [0.0, *(end for end in (least, most) if abs(across(end) - across(0.0)) > 30)]:
        parts.append(f'<text x="{across(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick:+.1f}</text>')
    for number, (name, (value, low, high, seeds)) in enumerate(rows.items()):
        y = TOP + STEP * number + STEP / 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        line = f"M{across(100 * low):.1f} {y:.1f}H{across(100 * high):.1f}"
        parts.append(f'<path d="{line}" stroke="#1f5a99" stroke-width="3"/>')
        dots = [(100 * seed, 2.5, "#b5421c") for seed in seeds] + [(100 * value, 5.0, "#1f5a99")]
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'
            for x, radius, colour in dots
        ]
    return "\n".join([*parts, "</svg>"])
