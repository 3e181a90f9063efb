"""Draws docs/img/windows.svg, the README's picture: `python -m tests.project.draw_windows`.

Two episodes, each ended by its boundary record, and the windows that a manager made of
them. The colours can be read on white and on black.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.project.rooms import ROOT

import reverie

PICTURE = ROOT / "docs" / "img" / "windows.svg"
TRANSITIONS = (3, 2)  # of each episode; its records are one more
SEQUENCE_LENGTH = 2
ROWS = ("observation", "action", "reward", "discount")
LEFT, BOX, GAP, BREAK = 100, 92, 10, 36
TOP, ROW, LANE = 40, 22, 30
BASE_STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#7d8b99}"
    ".middle{text-anchor:middle}"
    "rect{fill:#eaf1f8;stroke:#4f7ba6}"
    "g text{fill:#1b2733;text-anchor:middle}"
)
STYLE = BASE_STYLE + (
    ".boundary rect{stroke-dasharray:5 4}.saved rect{fill:#f6e3c5;stroke:#b07d2b}"
)

Record = tuple[int, int]  # the episode, and which of its records


def records(transitions: Sequence[int] = TRANSITIONS) -> list[Record]:
    """What an observer is called with, call by call."""
    return [(episode, t) for episode, n in enumerate(transitions) for t in range(n + 1)]


def windows(transitions: Sequence[int] = TRANSITIONS) -> list[list[Record]]:
    """The items that a manager makes of such records, each as the records in it."""
    spec = {"record": reverie.ArraySpec((2,), np.int64)}
    # Nothing is saved, so nothing is made of the folder's name.
    with reverie.ReplayBufferManager(spec, 100, "unused", SEQUENCE_LENGTH) as manager:
        _, observer = manager.create_replay_buffer()
        for episode, t in records(transitions):
            observer({"record": (episode, t)}, last=t == transitions[episode])
        return [
            [(int(episode), int(t)) for episode, t in data["record"]]
            for _, data in manager.iter_items()
        ]


def left(record: Record, transitions: Sequence[int]) -> int:
    """The left edge of a record's box."""
    episode, t = record
    before = sum(n + 1 for n in transitions[:episode])
    return LEFT + (before + t) * (BOX + GAP) + episode * BREAK


def values(record: Record, transitions: Sequence[int]) -> tuple[str, ...]:
    """What stands in a record, row by row; a boundary's last three mean nothing."""
    episode, t = record
    if t == transitions[episode]:
        return (f"o{t}", "-", "-", "-")
    return (f"o{t}", f"a{t}", f"r{t}", "0" if t == transitions[episode] - 1 else "1")


def drawn(transitions: Sequence[int] = TRANSITIONS) -> str:
    """The picture of episodes of so many transitions."""
    made = windows(transitions)
    right = left(records(transitions)[-1], transitions) + BOX
    lanes = TOP + len(ROWS) * ROW + 26
    height = lanes + SEQUENCE_LENGTH * LANE + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 4} {height}" '
        'role="img">',
        "<title>The records of two episodes, and the windows over them</title>",
        f"<style>{STYLE}</style>",
        *(f'<text y="{TOP + n * ROW + 18}">{row}</text>' for n, row in enumerate(ROWS)),
        f'<text y="{lanes + 17}">windows</text>',
    ]
    for record in records(transitions):
        x, is_boundary = left(record, transitions), record[1] == transitions[record[0]]
        above = "last=True" if is_boundary else f"record {record[1]}"
        lines += [
            f'<text class="middle" x="{x + BOX // 2}" y="{TOP - 8}">{above}</text>',
            f'<g class="{"boundary" if is_boundary else "record"}">'
            f'<rect x="{x}" y="{TOP}" width="{BOX}" height="{len(ROWS) * ROW + 6}" rx="5"/>',
            *(
                f'<text x="{x + BOX // 2}" y="{TOP + n * ROW + 18}">{value}</text>'
                for n, value in enumerate(values(record, transitions))
            ),
            "</g>",
        ]
    for window in made:
        (episode, first), last = window[0], window[-1]
        x, end = left(window[0], transitions), left(last, transitions) + BOX
        y = lanes + (first % SEQUENCE_LENGTH) * LANE
        ends = last[1] == transitions[episode]
        lines.append(
            f'<g class="{"saved" if ends else "window"}">'
            f'<rect x="{x}" y="{y}" width="{end - x}" height="24" rx="5"/>'
            f'<text x="{(x + end) // 2}" y="{y + 17}">'
            f"o{first} a{first} r{first} -&gt; o{last[1]}</text></g>"
        )
    lines.append(
        f'<text y="{height - 8}">Without the boundary records the coloured windows, each '
        "episode's last transition, would not exist.</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(drawn(), "utf-8", newline="\n")
