"""Draws the samples of a soak as an SVG: one panel for each quantity, with the spans that are compared."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple
from xml.sax.saxutils import escape

__all__ = ["Panel", "draw"]

WIDTH, PANEL_HEIGHT, MARGIN, HEAD = 860, 110, 60, 40
# So many points are drawn of each line, each the median of what it stands for.
POINTS = 400


class Panel(NamedTuple):
    """One quantity over time."""

    title: str
    values: Sequence[float]


def draw(title: str, panels: Sequence[Panel], spans: Sequence[tuple[float, float]], minutes: float) -> str:
    """Returns the picture.

    Args:
        title: The heading.
        panels: What is drawn, from the top down. Each begins at zero.
        spans: The parts of the time, from 0 to 1, that are shaded.
        minutes: How long it was.
    """
    height = HEAD + len(panels) * PANEL_HEIGHT + 30
    plot = WIDTH - MARGIN - 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        top = HEAD + number * PANEL_HEIGHT
        room = PANEL_HEIGHT - 30
        most = max([*panel.values, 1])
        parts += [
            f'<rect x="{MARGIN + begin * plot:.1f}" y="{top}" width="{(end - begin) * plot:.1f}" height="{room}" '
            'fill="#e8eef6"/>'
            for begin, end in spans
        ]
        line = " ".join(
            f"{MARGIN + at * plot:.1f},{top + room * (1 - value / most):.1f}" for at, value in _thin(panel.values)
        )
        parts += [
            f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.2"/>',
            f'<line x1="{MARGIN}" y1="{top + room}" x2="{MARGIN + plot}" y2="{top + room}" stroke="#999"/>',
            f'<text x="{MARGIN}" y="{top + room + 14}">{escape(panel.title)}</text>',
            f'<text x="{MARGIN - 6}" y="{top + 9}" text-anchor="end">{most:,.0f}</text>',
            f'<text x="{MARGIN - 6}" y="{top + room}" text-anchor="end">0</text>',
        ]
    parts += [
        f'<text x="{MARGIN + plot}" y="{height - 10}" text-anchor="end">{minutes:g} minutes</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _thin(values: Sequence[float]) -> list[tuple[float, float]]:
    """The points of a line: where each stands, from 0 to 1, and its value."""
    step = max(1, -(-len(values) // POINTS))
    groups = [values[at : at + step] for at in range(0, len(values), step)]
    return [(number / max(1, len(groups) - 1), median(group)) for number, group in enumerate(groups)]
