"""Draws docs/img/views.svg: `python -m tests.project.draw_views`.

Two episodes as a replay buffer stores them, and what three views make of its items: what
stands in the picture was sampled. The colours can be read on white and on black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.project.draw_windows import BASE_STYLE
from tests.project.rooms import ROOT

import reverie
from reverie.views import Sequences, Transitions
from reverie.views.base import View

PICTURE = ROOT / "docs" / "img" / "views.svg"
EPISODES = ((4, "terminated"), (2, "truncated"))
LEFT, BOX, GAP, BREAK = 118, 84, 8, 30
TOP, ROW, LANE = 28, 22, 30
STYLE = BASE_STYLE + (
    ".first rect{stroke-dasharray:5 4}.ends rect{fill:#f6e3c5;stroke:#b07d2b}"
)
VIEWS: tuple[tuple[str, View], ...] = (
    ("Transitions()", Transitions()),
    ("Transitions(n_step=3)", Transitions(n_step=3)),
    ("Sequences(3, stride=2)", Sequences(3, stride=2)),
)


def filled(view: View) -> reverie.ReplayBuffer:
    """A buffer of the episodes; a state's number says where it stands, a reward's its step."""
    spec = {"observation": np.zeros((), np.int64), "action": np.zeros((), np.int64)}
    buffer = reverie.ReplayBuffer({**spec, "reward": np.zeros(())}, 100, view=view)
    for number, (steps, how) in enumerate(EPISODES):
        for t in range(steps):
            last, at = t == steps - 1, 10 * number + t
            ends = (last and how == "terminated", last and how == "truncated")
            buffer.add(at, at, 1.0, at + 1, *ends)
    return buffer


def left(state: int) -> int:
    """The left edge of the box of a state."""
    episode, t = divmod(state, 10)
    before = sum(steps + 1 for steps, _ in EPISODES[:episode])
    return LEFT + (before + t) * (BOX + GAP) + episode * BREAK


def spans(view: View) -> list[tuple[int, int, str, bool]]:
    """Of each item the states that it begins and ends with, its words, whether it is an end."""
    data: dict[str, Any] = filled(view).steps().data
    found = []
    for i in range(len(data["reward"])):
        last = int(data["next_observation"][i])
        if isinstance(view, Sequences):
            first, mask = int(data["observation"][i][0]), data["mask"][i]
            words = "mask " + "".join("1" if real else "0" for real in mask)
            ends = bool(data["terminated"][i].any() or data["truncated"][i].any())
        else:
            first, m = int(data["observation"][i]), int(data["n_steps"][i])
            rewards = "+".join(f"r{(first + k) % 10}" for k in range(m))
            words = f"o{first % 10} a{first % 10} {rewards} &gt; o{last % 10}"
            ends = bool(data["terminated"][i] or data["truncated"][i])
        found.append((first, last, words, ends))
    return found


def drawn() -> str:
    """The picture."""
    states = [10 * e + t for e, (steps, _) in enumerate(EPISODES) for t in range(steps + 1)]
    right = left(states[-1]) + BOX
    lines = [
        f'<text y="{TOP + n * ROW + 18}">{row}</text>'
        for n, row in enumerate(("state", "led by"))
    ]
    for state in states:
        episode, t = divmod(state, 10)
        steps, how = EPISODES[episode]
        above = how if t == steps else "begins" if t == 0 else ""
        kind = "ends" if t == steps else "first" if t == 0 else "record"
        x = left(state)
        led = f"a{t - 1} r{t - 1}" if t else "-"
        lines += [
            f'<text class="middle" x="{x + BOX // 2}" y="{TOP - 8}">{above}</text>',
            f'<g class="{kind}"><rect x="{x}" y="{TOP}" width="{BOX}" '
            f'height="{2 * ROW + 6}" rx="5"/>',
            f'<text x="{x + BOX // 2}" y="{TOP + 18}">o{t}</text>',
            f'<text x="{x + BOX // 2}" y="{TOP + ROW + 18}">{led}</text></g>',
        ]
    y = TOP + 2 * ROW + 34
    for name, view in VIEWS:
        lines.append(f'<text y="{y}">{name}</text>')
        busy: list[int] = []  # up to where each lane is taken
        y += 8
        for first, last, words, ends in spans(view):
            lane = next((n for n, end in enumerate(busy) if end <= left(first)), len(busy))
            busy[lane : lane + 1] = [left(last) + BOX]
            top = y + lane * LANE
            lines += [
                f'<g class="{"ends" if ends else "item"}"><rect x="{left(first)}" y="{top}" '
                f'width="{left(last) + BOX - left(first)}" height="24" rx="5"/>',
                f'<text x="{(left(first) + left(last) + BOX) // 2}" y="{top + 17}">{words}'
                "</text></g>",
            ]
        y += len(busy) * LANE + 26
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 4} {y}" role="img">',
        "<title>Two episodes as they are stored, and what views make of them</title>",
        f"<style>{STYLE}</style>",
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(drawn(), "utf-8", newline="\n")
