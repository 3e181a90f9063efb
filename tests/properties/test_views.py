"""Every view equals a slow, obvious model: lists of episodes, and items in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.view_support import (
    SPEC,
    Episode,
    Model,
    check_row,
    compare,
    done,
    expected,
    row_of,
    same,
    stacked,
    state,
)

import reverie
from reverie import ReplayBuffer
from reverie.views import Episodes, Sequences, Transitions, Windows
from reverie.views.base import Fields, Gathered, View

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
    Windows(3),
    Windows(4, stride=3, stack={"observation": 2}),
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
    return buffer, Model(capacity, stride, view.length if isinstance(view, Windows) else 0)


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
    if isinstance(view, Windows):
        others = [*others, Windows(2)]
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


@pytest.mark.parametrize(
    "view",  # of windows with gaps the steps that are in none are not saved
    [view for view in OWN_VIEWS if not isinstance(view, Windows) or view.stride == 1],
    ids=repr,
)
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
