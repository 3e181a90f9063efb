"""A slow, obvious model of a replay buffer: lists of episodes, and items in their order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reverie import ArraySpec, ReplayBuffer
from reverie.views import Episodes, Sequences, Transitions, Windows
from reverie.views.base import View

SPEC = {
    "observation": {"a": ArraySpec((2,), np.float32), "b": ArraySpec((), np.uint8)},
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float64),
    "hidden": ArraySpec((3,), np.float32),
}


@dataclass
class Episode:
    """Numbers of its states, one more than of its steps; and how it ended."""

    states: list[int]
    steps: list[int] = field(default_factory=list)  # numbers of what was done
    how: str = ""
    covered: int = 0  # steps that begin an item, or lie between two


@dataclass
class Model:
    """What a buffer of this capacity and view must hold."""

    capacity: int
    stride: int  # 0: items are episodes
    window: int = 0  # steps of each item; 0: of any number
    items: deque[tuple[Episode, int]] = field(default_factory=deque)
    open: dict[int, Episode] = field(default_factory=dict)

    def begin(self, env: int, before: int) -> bool:
        """Whether an episode was broken off. Of a batch that comes before all steps."""
        episode = self.open.get(env)
        if episode is None or episode.states[-1] == before:
            return False
        self.end(env, "truncated")
        return True

    def add(self, env: int, before: int, step: int, after: int, how: str) -> None:
        episode = self.open.setdefault(env, Episode([before]))
        episode.states.append(after)
        episode.steps.append(step)
        if self.window:
            start = len(episode.steps) - self.window
            if start >= 0 and start % self.stride == 0:
                self._insert(episode, start)
        elif self.stride and len(episode.steps) - episode.covered == self.stride:
            self._insert(episode, episode.covered)
        if how:
            self.end(env, how)

    def end(self, env: int, how: str) -> None:
        episode = self.open.pop(env)
        if len(episode.steps) > episode.covered and not self.window:
            self._insert(episode, episode.covered)
        episode.how = how

    def _insert(self, episode: Episode, start: int) -> None:
        self.items.append((episode, start))
        episode.covered = len(episode.steps)
        if len(self.items) > self.capacity:
            self.items.popleft()

    def clear(self) -> None:
        self.items.clear()
        self.open.clear()


def state(number: int) -> dict[str, Any]:
    return {"a": np.array([number, -number], np.float32), "b": np.uint8(number % 256)}


def done(number: int) -> dict[str, Any]:
    return {"action": number, "reward": number / 8, "hidden": np.full(3, number, np.float32)}


def stacked(rows: list[Any]) -> Any:
    if isinstance(rows[0], dict):
        return {key: stacked([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


def expected(view: View, episode: Episode, start: int) -> dict[str, Any]:
    """One row of a batch, by the words of the views' docstrings."""
    left = len(episode.steps) - start
    if isinstance(view, Transitions):
        m = min(view.n_step, left)
        ends = episode.how if m == left else ""
        step = done(episode.steps[start])
        rewards = [done(number)["reward"] for number in episode.steps[start : start + m]]
        return {
            **step,
            "observation": seen(view, episode, start),
            "next_observation": seen(view, episode, start + m),
            "reward": np.float32(sum(view.gamma**k * r for k, r in enumerate(rewards))),
            "discount": np.float32(0 if ends == "terminated" else view.gamma**m),
            "terminated": ends == "terminated",
            "truncated": ends == "truncated",
            "n_steps": m,
        }
    length = min(left, view.max_length or left) if isinstance(view, Episodes) else view.length
    burn_in = view.burn_in if isinstance(view, Sequences) else 0
    once = view.once if isinstance(view, Sequences) else ()
    m = min(length, left)
    ends = episode.how if m == left else ""
    rows = [
        {**done(episode.steps[start + k]), "observation": seen(view, episode, start + k)}
        for k in range(m)
    ]
    row: dict[str, Any] = {}
    for key in SPEC:
        row[key] = rows[0][key] if key in once else stacked([each[key] for each in rows])
        if key not in once:
            row[key] = padded(row[key], length)
    row["next_observation"] = seen(view, episode, start + m)
    places = np.arange(length)
    for how in ("terminated", "truncated"):
        row[how] = (places == m - 1) & (ends == how)
    if isinstance(view, Windows):
        assert m == length
        return row
    row |= {"mask": places < m, "burn_in_mask": (places < m) & (places < burn_in), "length": m}
    return row


def seen(view: View, episode: Episode, place: int) -> Any:
    """The state at a place of an episode, or a stack of those up to there."""
    count = view.stacks.get("observation")
    if count is None:
        return state(episode.states[place])
    places = range(place - count + 1, place + 1)
    frames = [state(episode.states[max(each, 0)]) for each in places]
    if view.stack_padding == "zeros":
        nothing = {key: value * 0 for key, value in state(0).items()}
        frames = [
            frame if each >= 0 else nothing for each, frame in zip(places, frames, strict=True)
        ]
    return stacked(frames)


def padded(leaf: Any, length: int) -> Any:
    if isinstance(leaf, dict):
        return {key: padded(each, length) for key, each in leaf.items()}
    return np.concatenate([leaf, np.zeros((length - len(leaf), *leaf.shape[1:]), leaf.dtype)])


def compare(buffer: ReplayBuffer, model: Model, view: View) -> None:
    batch = buffer.steps(view)
    assert len(buffer) == len(model.items) == len(batch.key)
    longest = 0
    if isinstance(view, Episodes) and model.items:
        longest = int(batch.data["length"].max())
    for i, (episode, start) in enumerate(model.items):
        check_row(
            {k: row_of(v, i) for k, v in batch.data.items()}, view, episode, start, longest
        )


def row_of(leaf: Any, i: int) -> Any:
    return {k: row_of(v, i) for k, v in leaf.items()} if isinstance(leaf, dict) else leaf[i]


def check_row(row: Any, view: View, episode: Episode, start: int, longest: int) -> None:
    wanted = expected(view, episode, start)
    assert row.keys() == wanted.keys()
    for key, value in wanted.items():
        if longest and key not in ("next_observation", "length"):
            value = padded(value, longest)  # to the longest of the batch
        same(row[key], value, key)


def same(found: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            same(found[key], value, f"{where}/{key}")
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=where)
        if isinstance(wanted, np.ndarray | np.generic):
            assert found.dtype == wanted.dtype, where
