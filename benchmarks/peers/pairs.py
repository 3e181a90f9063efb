"""A peer and ours, turn by turn; and the figures as text, for people and for a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from benchmarks.first_figures import in_turns, machine
from benchmarks.peers.scenario import ENVS, ROWS, Row, Rows, check

TITLES = {
    "limit": "A plain C++ loop",
    "plain": "A ring of NumPy",
    "sb3": "Stable-Baselines3",
    "cpprb": "cpprb",
    "torchrl": "TorchRL",
    "tianshou": "Tianshou",
    "flashbax": "Flashbax",
    "rlox": "rlox",
}
"""By the names of this folder's files."""


def measured(peer: Any, ours: Rows, capacity: int, rounds: int, calls: int) -> dict[str, Any]:
    """Figures of a peer and of ours beside it, by row.

    Args:
        peer: a module of this folder, or whatever has its `rows` and `PACKAGES`.
        ours: of `ours.rows(capacity)`.
        capacity: steps, of all environments.
        rounds: in each of which both have their turn.
        calls: a turn.

    Raises:
        ImportError: it is not installed.
        WrongBatchError: what came back is not what was asked for.
    """
    theirs: Rows = peer.rows(capacity)
    return {
        "versions": {package: version(package) for package in peer.PACKAGES},
        "machine": machine(),
        "how": {"capacity": capacity, "rounds": rounds, "calls": calls},
        "rows": {
            name: _paired(name, ours[name], theirs[name], rounds=rounds, calls=calls)
            for name in ROWS
        },
    }


def _paired(
    name: str, ours: Row | str, theirs: Row | str, *, rounds: int, calls: int
) -> dict[str, Any]:
    sides = {"ours": ours, "theirs": theirs}
    there = {side: row for side, row in sides.items() if isinstance(row, Row)}
    for row in there.values():
        check(name, row)
    times = in_turns({side: row.call for side, row in there.items()}, calls, rounds)
    for row in there.values():
        check(name, row)
    parts = ENVS if name == "add" else 1
    found: dict[str, Any] = {
        f"{side}_us": statistics.median(values) / parts for side, values in times.items()
    }
    if isinstance(theirs, str):
        return {**found, "said": theirs}
    pairs = zip(times["theirs"], times["ours"], strict=True)
    return {**found, "times": statistics.median(b / a for b, a in pairs), "said": theirs.note}


def title(name: str, found: Mapping[str, Any]) -> str:
    """A peer, its version, and those of what it stands on."""
    versions = list(found["versions"].items())
    said = " ".join([TITLES.get(name, name), *(number for _, number in versions[:1])])
    on = ", ".join(f"{package} {number}" for package, number in versions[1:])
    return f"{said} ({on})" if on else said


def told(name: str, found: Mapping[str, Any]) -> str:
    """A peer's figures, for people."""
    lines = [f"{title(name, found):62}{'theirs':>12}{'ours':>12}  times"]
    for row, label in ROWS.items():
        figures = found["rows"][row]
        cells = [f"{figures['ours_us']:9.3f} us"]
        if "times" in figures:
            cells = [f"{figures['theirs_us']:9.3f} us", *cells, f"{figures['times']:6.2f}"]
        else:
            cells = [f"{'-':>12}", *cells, f"{'-':>6}"]
        said = f"  ({figures['said']})" if figures["said"] else ""
        lines.append(f"  {label:60}{''.join(cells)}{said}")
    return "\n".join(lines)


def table(peers: Mapping[str, Any]) -> str:
    """Markdown: microseconds, how many times ours, bold below one, and what was said."""
    lines = [f"| µs | {' | '.join(ROWS.values())} |", f"|{'---|' * (1 + len(ROWS))}"]
    ours = {
        row: statistics.median(found["rows"][row]["ours_us"] for found in peers.values())
        for row in ROWS
    }
    reverie = sorted({found["machine"]["reverie"] for found in peers.values()})
    cells = [_short(figure) for figure in ours.values()]
    lines.append(f"| **Reverie {' and '.join(reverie)}** | {' | '.join(cells)} |")
    order = [*TITLES, *peers]
    notes: list[str] = []
    for name in sorted(peers, key=order.index):
        rows = peers[name]["rows"]
        cells = []
        for figures in rows.values():
            cell = "-"
            if "times" in figures:
                cell = f"{_short(figures['theirs_us'])} ({figures['times']:.2g} x)"
                cell = f"**{cell}**" if figures["times"] < 1 else cell
            if figures["said"]:
                said = f"{TITLES.get(name, name)}: {figures['said']}"
                if said not in notes:
                    notes.append(said)
                cell += f" [{notes.index(said) + 1}]"
            cells.append(cell)
        lines.append(f"| {title(name, peers[name])} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {note}." for number, note in enumerate(notes, 1)), ""]
    return "\n".join([*lines, *_circumstances(peers)])


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


def _circumstances(peers: Mapping[str, Any]) -> list[str]:
    """What the figures were measured on, once for all who share it."""
    found: dict[str, list[str]] = {}
    for name, figures in peers.items():
        how, on = figures["how"], figures["machine"]
        line = (
            f"{how['capacity']:,} steps; medians of {how['rounds']} rounds of {how['calls']} "
            f"calls; one core of {on['cpus']}, {on['platform']}, Python {on['python']}, NumPy "
            f"{on['numpy']}."
        )
        found.setdefault(line, []).append(TITLES.get(name, name))
    if len(found) == 1:
        return list(found)
    return [f"- {', '.join(names)}: {line}" for line, names in found.items()]
