"""Every view equals a slow, obvious model: lists of episodes, and items in their order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.views import Episodes, Sequences, Transitions
from reverie.views.base import Fields, Gathered, View

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
        if self.stride and len(episode.steps) - episode.covered == self.stride:
            self._insert(episode)
        if how:
            self.end(env, how)

    def end(self, env: int, how: str) -> None:
        episode = self.open.pop(env)
        if len(episode.steps) > episode.covered:
            self._insert(episode)
        episode.how = how

    def _insert(self, episode: Episode) -> None:
        self.items.append((episode, episode.covered))
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
    length = view.length if isinstance(view, Sequences) else min(left, view.max_length or left)
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
    row |= {"mask": places < m, "burn_in_mask": (places < m) & (places < burn_in), "length": m}
    for how in ("terminated", "truncated"):
        row[how] = (places == m - 1) & (ends == how)
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


OWN_VIEWS = [
    Transitions(),
    Transitions(3, 0.5),
    Sequences(4, stride=1),
    Sequences(5, burn_in=2, once=("hidden",)),
    Sequences(3, stride=2),
    Episodes(),
    Transitions(2, 0.5, stack={"observation": 4}),
    Transitions(stack={"observation": 2}, stack_padding="zeros"),
    Sequences(4, burn_in=1, stack={"observation": 3}),
    Sequences(3, stride=1, stack={"observation": 1}),
    Episodes(stack={"observation": 3}, stack_padding="zeros"),
]
OTHERS = [
    Transitions(),
    Transitions(5, 0.9),
    Transitions(2, 0.0),
    Sequences(1),
    Sequences(6, burn_in=1, once=("action", "hidden")),
]
HOWS = ("", "", "", "", "terminated", "truncated")


def new_buffer(
    view: View, capacity: int, num_envs: int | None = None
) -> tuple[ReplayBuffer, Model]:
    buffer = ReplayBuffer(SPEC, capacity, view=view, seed=0, num_envs=num_envs)
    stride = 0 if isinstance(view, Episodes) else view.stride
    return buffer, Model(capacity, stride)


class Driver:
    """Adds the same to both."""

    def __init__(self, view: View, capacity: int, envs: int, draw: Any) -> None:
        self.buffer, self.model = new_buffer(view, capacity, envs)
        self.draw, self.envs, self.number = draw, envs, 0
        self.at = [0] * envs
        self.broken = 0

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def add(self) -> None:
        """A step of some environments, at least one."""
        some = self.draw(st.sets(st.integers(0, self.envs - 1), min_size=1))
        ids = sorted(some)
        before, steps, after, hows = [], [], [], []
        for env in ids:
            if self.draw(st.integers(0, 9)) == 0:
                self.at[env] = self.fresh()  # not where the last step led
            before.append(self.at[env])
            steps.append(self.fresh())
            self.at[env] = self.fresh()
            after.append(self.at[env])
            hows.append(self.draw(st.sampled_from(HOWS)))
            self.broken += self.model.begin(env, before[-1])
            if hows[-1]:
                self.at[env] = self.fresh()
        for each in zip(ids, before, steps, after, hows, strict=True):
            self.model.add(*each)
        act = stacked([done(number) for number in steps])
        self.buffer.add(
            stacked([state(number) for number in before]),
            act["action"],
            act["reward"],
            stacked([state(number) for number in after]),
            np.array([how == "terminated" for how in hows]),
            np.array([how == "truncated" for how in hows]),
            env_ids=ids,
            extra={"hidden": act["hidden"]},
        )

    def add_episode(self) -> None:
        """A whole one, at once."""
        steps = [self.fresh() for _ in range(self.draw(st.integers(1, 7)))]
        states = [self.fresh() for _ in range(len(steps) + 1)]
        how = self.draw(st.sampled_from(("terminated", "truncated")))
        for k, step in enumerate(steps):
            last = how if k == len(steps) - 1 else ""
            self.model.add(-1, states[k], step, states[k + 1], last)
        self.buffer.add_episode(
            {
                **stacked([done(number) for number in steps]),
                "observation": stacked([state(number) for number in states]),
            },
            terminated=how == "terminated",
        )


@pytest.mark.parametrize("view", OWN_VIEWS, ids=repr)
@given(data=st.data())
def test_a_view_is_what_its_words_say(view: View, data: st.DataObject) -> None:
    driver = Driver(
        view, data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3)), data.draw
    )
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.integers(0, 19))
        if what == 0:
            driver.buffer.clear()
            driver.model.clear()
            driver.at = [driver.fresh() for _ in driver.at]
        elif what <= 2:
            driver.add_episode()
        else:
            driver.add()
    others = [] if isinstance(view, Episodes) else OTHERS
    if isinstance(view, Episodes):
        others = [Episodes(max_length=3)]
    elif view.lead:
        fewer = {"stack": {"observation": view.lead}, "stack_padding": view.stack_padding}
        others = [*others, Transitions(3, 0.9, **fewer), Sequences(4, **fewer)]
    for each in (view, *others):
        compare(driver.buffer, driver.model, each)
    driver.buffer.close()


@pytest.mark.parametrize("view", OWN_VIEWS, ids=repr)
@given(data=st.data())
def test_what_is_sampled_is_among_what_is_there(view: View, data: st.DataObject) -> None:
    driver = Driver(view, 20, 2, data.draw)
    for _ in range(data.draw(st.integers(1, 25))):
        driver.add()
    if not driver.model.items:
        with pytest.raises(reverie.errors.WaitTimeoutError, match="is empty"):
            driver.buffer.sample(1)
        return
    batch = driver.buffer.sample(8)
    order = driver.buffer.steps().key.tolist()
    longest = int(batch.data["length"].max()) if isinstance(view, Episodes) else 0
    for i, key in enumerate(batch.key.tolist()):
        row = {k: row_of(v, i) for k, v in batch.data.items()}
        check_row(row, view, *driver.model.items[order.index(key)], longest)
    driver.buffer.close()


@pytest.mark.parametrize("view", OWN_VIEWS, ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_a_saved_buffer_has_the_same_steps(view: View, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    buffer, model = new_buffer(view, 300)
    number = 0
    for _ in range(60):
        length = int(rng.integers(1, 12))
        states = np.arange(number, number + length + 1)
        number += length + 1
        how = ("terminated", "truncated")[rng.integers(2)]
        for k in range(length):
            ends = how if k == length - 1 else ""
            step = done(int(states[k]))
            buffer.add(
                state(int(states[k])),
                step["action"],
                step["reward"],
                state(int(states[k + 1])),
                ends == "terminated",
                ends == "truncated",
                extra={"hidden": step["hidden"]},
            )
            model.add(0, int(states[k]), int(states[k]), int(states[k + 1]), ends)
    compare(buffer, model, view)
    buffer.save(path=tmp_path)
    again = reverie.open(tmp_path)
    assert again.view == view
    compare(again, model, view)
    one, other = buffer.sample(5), again.sample(5)
    assert one.key.tolist() == other.key.tolist()
    again.save()
    compare(reverie.open(tmp_path), model, view)


_COLUMNS = Fields.columns
FAULTS = {
    "every end is a termination": (
        Gathered,
        "terminated",
        property(lambda self: self[2] | self[3]),
    ),
    "no end is a truncation": (Gathered, "truncated", property(lambda self: self[3] & False)),
    "the next stack ends a frame too early": (
        Fields,
        "columns",
        lambda self, key, first, *rest, **named: _COLUMNS(
            self, key, first - (first < 0 and named.get("back", 0) > 0), *rest, **named
        ),
    ),
    "gamma^n though cut short": (
        Transitions,
        "_discounts",
        lambda self, found: np.where(found.terminated, 0, self.gamma**self.n_step),
    ),
    "the first reward is discounted": (
        Transitions,
        "_returns",
        lambda self, rewards: (
            rewards.reshape(len(rewards), -1) @ self.gamma ** np.arange(1, self.n_step + 1)
        ).astype(np.float32),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_sees(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = Transitions(3, 0.5, stack={"observation": 2})
    buffer, model = new_buffer(view, 9)
    for k, how in enumerate(("", "", "terminated", "", "truncated")):
        step, at = done(k + 1), (k, k + 1)
        buffer.add(
            state(at[0]),
            step["action"],
            step["reward"],
            state(at[1]),
            how == "terminated",
            how == "truncated",
            extra={"hidden": step["hidden"]},
        )
        model.add(0, at[0], k + 1, at[1], how)
    compare(buffer, model, view)
    buffer._plans.clear()
    holder, name, wrong = FAULTS[fault]
    monkeypatch.setattr(holder, name, wrong)
    with pytest.raises(AssertionError):
        compare(buffer, model, view)


@pytest.mark.parametrize("view", OWN_VIEWS, ids=repr)
@given(data=st.data())
def test_episodes_hold_each_step_once(view: View, data: st.DataObject) -> None:
    driver = Driver(
        view, data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3)), data.draw
    )
    for _ in range(data.draw(st.integers(0, 40))):
        driver.add() if data.draw(st.integers(0, 9)) else driver.add_episode()
    wanted: list[tuple[Episode, int]] = []
    for episode, start in driver.model.items:
        if not any(other is episode for other, _ in wanted):
            wanted.append((episode, start))
    found = list(driver.buffer.episodes())
    assert len(found) == len(wanted)
    for data_of, (episode, start) in zip(found, wanted, strict=True):
        row = expected(Episodes(), episode, start)
        for name in ("mask", "burn_in_mask", "length"):
            del row[name]
        assert data_of.keys() == row.keys()
        for key, value in row.items():
            same(data_of[key], value, key)
    driver.buffer.close()
