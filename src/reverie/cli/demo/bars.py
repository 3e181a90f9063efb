"""Progress bars that fit 80 columns, and leave one line in a redirected file."""

from __future__ import annotations

from typing import Any

from reverie.cli.demo.settings import need


def progress_bar() -> Any:
    """A `rich.progress.Progress`; its tasks have a field `note`, shown at the end.

    Raises:
        MissingDependencyError: rich is not installed.
    """
    bars = need("rich.progress")
    return bars.Progress(
        bars.TextColumn("{task.description:<8}"),
        bars.BarColumn(bar_width=22),
        bars.TaskProgressColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[note]}"),
        refresh_per_second=5,
    )
