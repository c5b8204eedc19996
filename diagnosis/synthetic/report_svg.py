"""Line charts as inline SVG text: a page with curves needs no plotting library and no picture files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 28, 40
COLOURS = ("#1f5a99", "#b5421c", "#2f7d4f", "#7b4b94", "#8a6d1f", "#4d4d4d")


def line_chart(
    title: str, x_label: str, x_values: Sequence[float], lines: Mapping[str, Sequence[float]]
) -> str:
    """One chart: x_values (n,), each line (n,) → an <svg> element with axes, ticks and a legend."""
    values = [value for line in lines.values() for value in line]
    low, high = min(0.0, *values), max(values) or 1.0
    x_low, x_high = min(x_values), max(x_values)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - low) / ((high - low) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
    ]
    for step in range(5):
        level = low + (high - low) * step / 4
        _, y = place(x_low, level)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level:.3g}</text>')
    for x in _ticks(x_values):
        across, y = place(x, low)
        parts.append(f'<text x="{across:.1f}" y="{y + 16:.1f}" text-anchor="middle">{x:g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(x_values, line, strict=True))
        colour, y = COLOURS[number % len(COLOURS)], TOP + 14 + 18 * number
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _ticks(values: Sequence[float]) -> list[float]:
    """At most about eight of the values, the last among them."""
    step = max(1, -(-len(values) // 8))
    return sorted({*values[::step], values[-1]})
