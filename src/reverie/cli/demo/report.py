"""What came of a run: the table, the picture of the learning curve, the verdict."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from reverie.cli.demo.pole import ENVIRONMENT, SOLVED_RETURN
from reverie.cli.demo.results import Collected, Stopwatch, Trained
from reverie.cli.demo.settings import Settings, need

_ENDINGS = {
    "solved": "solved: five points in a row above {:.0f}",
    "steps": "all steps used",
    "time": "time is up",
}


def print_table(settings: Settings, collected: Collected, trained: Trained) -> None:
    """Prints sizes, times and returns of both processes, side by side."""
    table = need("rich.table").Table(title=f"Experience replay in {ENVIRONMENT}")
    table.add_column("")
    table.add_column("random policy\nfirst process", justify="right")
    table.add_column("trained agent\nnew process", justify="right")
    first, last = collected.sizes, trained.sizes
    rows = [
        ("steps in the buffer", f"{first.steps:,}", f"{last.steps:,}"),
        ("bytes of all steps", f"{first.nbytes:,}", f"{last.nbytes:,}"),
        ("microseconds per add", _mean(collected.adds), _mean(trained.adds)),
        (f"microseconds per batch of {settings.batch_size}", "", _mean(trained.batches)),
        ("microseconds per update of priorities", "", _mean(trained.updates)),
        ("return of an episode", _spread(collected.returns), _spread(trained.returns)),
    ]
    for row in rows:
        table.add_row(*row)
    need("rich.console").Console().print(table)


def draw_curve(settings: Settings, collected: Collected, trained: Trained) -> Path:
    """Draws the learning curve with the baseline as a PNG; returns its path."""
    # Without pyplot there is no window system to find, nor any global state.
    figure = need("matplotlib.figure").Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    batches = [point.batches for point in trained.curve]
    low, mean, high = np.array(
        [(min(p.returns), p.mean, max(p.returns)) for p in trained.curve]
    ).T
    spread = f"lowest to highest of {settings.episodes} episodes"
    axes.fill_between(batches, low, high, color="C0", alpha=0.18, linewidth=0, label=spread)
    axes.plot(batches, mean, "o-", color="C0", markersize=3.5, label="mean return of the agent")
    baseline = float(np.mean(collected.returns))
    axes.axhline(
        baseline,
        color="C3",
        linestyle="--",
        label=f"baseline: random policy, mean {baseline:.0f}",
    )
    axes.axhline(
        SOLVED_RETURN, color="0.5", linestyle=":", label=f"solved: {SOLVED_RETURN:.0f}"
    )
    axes.set_title(f"{ENVIRONMENT}: learning from replayed experience (seed {settings.seed})")
    axes.set_xlabel(f"batches of {settings.batch_size} three-step transitions sampled")
    axes.set_ylabel("return of an episode (steps upright)")
    axes.margins(x=0.02)
    axes.set_ylim(0, 520)
    axes.grid(alpha=0.25)
    # Below the axes it can hide no part of the curve.
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    figure.savefig(settings.picture, dpi=150)
    return settings.picture


def verdict(settings: Settings, collected: Collected, trained: Trained) -> tuple[bool, str]:
    """Whether the agent is clearly better than the baseline, and a sentence that says so."""
    before, after = float(np.mean(collected.returns)), float(np.mean(trained.returns))
    ending = _ENDINGS[trained.ended].format(SOLVED_RETURN)
    numbers = (
        f"a mean return of {after:.0f} over {len(trained.returns)} fresh episodes, "
        f"the baseline {before:.0f}\n({trained.seconds:.0f} s of training; {ending})."
    )
    if after >= settings.clearly_better * before:
        return True, f"The agent has {numbers}"
    return False, f"The agent is not clearly better: {numbers}\nTry more --steps."


def shown(path: Path) -> str:
    """A path as short as it can be read from the working directory."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except ValueError:  # another drive
        return str(path)


def _mean(watch: Stopwatch) -> str:
    return f"{watch.microseconds:.1f}"


def _spread(returns: tuple[float, ...]) -> str:
    return f"{np.mean(returns):.0f} ({min(returns):.0f} to {max(returns):.0f})"
