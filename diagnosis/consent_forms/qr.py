"""QR codes as plain geometry, drawn by whoever needs them (PDF or inline SVG)."""

from __future__ import annotations

import qrcode
from qrcode.constants import ERROR_CORRECT_M

QUIET = 4  # modules of white around the code, as ISO/IEC 18004 asks


def qr_matrix(text: str) -> list[list[bool]]:
    """(n, n) modules, True where black, without the quiet zone."""
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=0)
    code.add_data(text)
    code.make(fit=True)
    return [[bool(module) for module in row] for row in code.get_matrix()]


def qr_runs(text: str) -> tuple[int, list[tuple[int, int, int]]]:
    """(modules per side with quiet zone, [(x, y, width)] of black runs, y down)."""
    matrix, runs = qr_matrix(text), []
    for y, row in enumerate(matrix):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end]:
                end += 1
            if end > x:
                runs.append((x + QUIET, y + QUIET, end - x))
            x = max(end, x + 1)
    return len(matrix) + 2 * QUIET, runs


def qr_svg_path(text: str) -> tuple[int, str]:
    """(side of the view box, path data) for one <path> of black modules."""
    side, runs = qr_runs(text)
    return side, "".join(f"M{x} {y}h{width}v1h-{width}z" for x, y, width in runs)
