"""Pictures for docs/benchmarks.md: how rate and cost grow with pairs and sizes, drawn as SVG from what `--json` wrote."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

Line = Sequence[tuple[float, float]]
_WHAT = re.compile(r"flood (\d+) B, (\d+) pairs?: (.+)")
_SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0a7ea4")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _LEGEND = 720, 360, 70, 50, 170


def draw(found: Path, folder: Path) -> list[Path]:
    """Draw every picture the figures suffice for; return the files."""
    by_pairs: dict[str, list[tuple[float, float]]] = {}
    by_size: dict[str, list[tuple[float, float]]] = {}
    floods = [(match, each) for each in json.loads(found.read_text())["figures"] if (match := _WHAT.fullmatch(each["what"]))]
    smallest = min((int(match[1]) for match, _ in floods), default=0)
    for match, figure in floods:
        size, pairs, system = int(match[1]), int(match[2]), match[3]
        if size == smallest:
            by_pairs.setdefault(system, []).append((pairs, figure["median"]))
        if pairs == 1:
            by_size.setdefault(system, []).append((size, figure["median"] * size / 1e6))
    pictures = {
        "pairs.svg": chart(f"Messages a second, {smallest} B", "pairs", by_pairs),
        "sizes.svg": chart("Megabytes a second, one pair", "bytes of a message", by_size),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pictures.items():
        (folder / name).write_text(text)
    return [folder / name for name in pictures]


def chart(title: str, across: str, lines: Mapping[str, Line]) -> str:
    """Return a picture of lines, both axes logarithmic."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return f'{_SVG} width="300" height="40"><text x="5" y="25">{escape(title)}: nothing measured</text></svg>\n'
    x = _axis([point[0] for point in points], _LEFT, _WIDTH - _LEGEND)
    y = _axis([point[1] for point in points], _HEIGHT - _BOTTOM, 40)
    parts = [
        f'{_SVG} width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _LEGEND) / 2}" y="{_HEIGHT - 12}">{escape(across)}</text>',
    ]
    parts += [
        f'<text x="{x(value):.0f}" y="{_HEIGHT - 32}" text-anchor="middle">{_across(value)}</text>'
        for value in sorted({point[0] for point in points})
    ]
    for power in range(math.floor(math.log10(min(p[1] for p in points))), math.ceil(math.log10(max(p[1] for p in points))) + 1):
        place = y(10.0**power)
        parts.append(f'<path d="M{_LEFT} {place:.0f}H{_WIDTH - _LEGEND}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{place + 4:.0f}" text-anchor="end">{_up(power)}</text>')
    for number, (name, line) in enumerate(sorted(lines.items())):
        colour, row = _COLOURS[number % len(_COLOURS)], 50 + 18 * number
        path = " ".join(f"{x(across):.1f},{y(height):.1f}" for across, height in sorted(line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(across):.1f}" cy="{y(height):.1f}" r="3" fill="{colour}"/>' for across, height in line]
        parts.append(f'<text x="{_WIDTH - _LEGEND + 14}" y="{row}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _up(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _across(value: float) -> str:
    """Return a number of pairs or bytes as people write it."""
    return next(
        (f"{value / unit:g} {name}" for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")) if value >= unit), f"{value:g}"
    )


class _Axis:
    """Where a value stands between two ends, logarithmically."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._span = math.log10(low), math.log10(high) - math.log10(low) or 1.0
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) / self._span * (self._end - self._start)


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    return _Axis(10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values))), start, end)
