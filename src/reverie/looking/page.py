"""HTML for notebooks, from plain values. Foreign text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from reverie.nests.specs import ArraySpec

_MOST_COLUMNS = 50
_WIDTH, _HEIGHT = 240, 36  # pixels


def of_buffer(
    title: str,
    columns: Sequence[tuple[str, ArraySpec]],
    record_nbytes: int,
    facts: Mapping[str, str],
    returns: Sequence[float],
) -> str:
    """A table of columns, one of facts, and a line of returns.

    Args:
        title: of the buffer.
        columns: path and spec of each.
        record_nbytes: of all.
        facts: by name.
        returns: of episodes; fewer than two draw nothing.
    """
    rows = [
        (path, spec.dtype.name, str(spec.shape), f"{_nbytes(spec):,}")
        for path, spec in columns[:_MOST_COLUMNS]
    ]
    if len(columns) > _MOST_COLUMNS:
        rows.append((f"and {len(columns) - _MOST_COLUMNS} more", "", "", ""))
    rows.append(("a step", "", "", f"{record_nbytes:,}"))
    body = [paragraph(title), _table(("column", "dtype", "shape", "bytes"), rows)]
    body.append(_table((), list(facts.items())))
    if len(returns) > 1:
        words = (
            f"returns of the newest {len(returns)} episodes: {min(returns):g} to "
            f"{max(returns):g}, the last {returns[-1]:g}"
        )
        body.append(f"<p>{escape(words)}<br>{sparkline(returns)}</p>")
    return f"<div>{''.join(body)}</div>"


def paragraph(text: str) -> str:
    """As code."""
    return f"<p><code>{escape(text)}</code></p>"


def size(nbytes: int) -> str:
    """Bytes as a person reads them."""
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def sparkline(values: Sequence[float]) -> str:
    """An SVG of a line through them, from left to right; gaps where they are not finite."""
    heights = np.asarray(values, np.float64)
    finite = np.isfinite(heights)
    low, high = (heights[finite].min(), heights[finite].max()) if finite.any() else (0.0, 0.0)
    # Halved first: their difference may be beyond a float64.
    share = (heights / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    xs = np.linspace(1, _WIDTH - 1, len(heights))
    ys = (_HEIGHT - 1) - share * (_HEIGHT - 2)
    points = " ".join(
        f"{x:.1f},{y:.1f}" for x, y, is_real in zip(xs, ys, finite, strict=True) if is_real
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img"><polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )


def _nbytes(spec: ArraySpec) -> int:
    return spec.dtype.itemsize * int(np.prod(spec.shape, dtype=np.int64))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<thead>{_row('th', head)}</thead>" if head else ""
    return f"<table>{top}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
