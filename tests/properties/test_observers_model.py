"""Every observer beside an obvious model of it, told the same random programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.observer_support import PAD, Served, batch, trajectory

from reverie.errors import InvalidArgumentError
from reverie.observers import (
    EpisodeObserver,
    ParallelObserver,
    TrajectoryObserver,
    TrajectorySequenceObserver,
)

logging.getLogger("reverie").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Settings:
    """What an observer does; `kind` as ParallelObserver's `items`."""

    kind: str
    length: int
    stride: int = 1
    pad: bool = False
    tile: bool = False


@dataclass
class Model:
    """One environment: a list of step numbers, and the rules written down one by one."""

    chosen: Settings
    items: list[list[int]]  # shared by the environments
    cached: list[int] = field(default_factory=list)
    too_long: bool = False

    def step(self, number: int, last: bool) -> bool:
        """Returns whether the step made its episode too long."""
        c = self.chosen
        if c.kind == "sequence":
            last = False
        is_too_long = False
        if c.kind == "episode" and not self.too_long and len(self.cached) == c.length:
            self.too_long = is_too_long = True
            self.cached = []
        if not self.too_long:
            self.add(number)
        if last:
            self.end(write=True)
        return is_too_long

    def add(self, number: int) -> None:
        self.cached.append(number)
        past = len(self.cached) - self.chosen.length
        if self.chosen.kind != "episode" and past >= 0 and past % self.chosen.stride == 0:
            self.items.append(self.cached[past:])

    def end(self, write: bool) -> None:
        c = self.chosen
        if self.cached and write and not self.too_long:
            if c.kind == "episode":
                self.items.append(self.cached[:])
            elif c.pad:
                pads = c.length - 1 if c.tile else max(0, c.length - len(self.cached))
                for _ in range(pads):
                    self.add(PAD)
        self.cached, self.too_long = [], False

    def uncovered(self) -> int:
        """Steps that reset(True) would lose without saying so."""
        c = self.chosen
        if c.kind == "episode" or c.pad:
            return 0
        whole = len(self.cached) - c.length
        return len(self.cached) if whole < 0 else whole % c.stride


def settings_of(kind: str) -> st.SearchStrategy[Settings]:
    if kind == "episode":
        return st.builds(Settings, st.just(kind), st.integers(1, 5))
    return st.builds(
        lambda length, stride, padding: Settings(
            kind, length, stride, padding > 0, padding > 1
        ),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(0, 2),
    )


ENVS = 4
ANY = st.sampled_from(["trajectory", "sequence", "episode"]).flatmap(settings_of)
# Steps of some environments, in any order; each with whether it is a boundary.
STEPS = st.lists(
    st.tuples(st.integers(0, ENVS - 1), st.booleans()), max_size=ENVS, unique_by=lambda e: e[0]
)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), STEPS),
        st.tuples(st.just("step"), STEPS),
        st.tuples(st.just("all"), st.lists(st.booleans(), min_size=ENVS, max_size=ENVS)),
        st.tuples(
            st.just("reset"),
            st.tuples(st.booleans(), st.lists(st.integers(0, ENVS - 1), unique=True)),
        ),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=40,
)


def new_parallel(served: Served, c: Settings) -> ParallelObserver:
    return ParallelObserver(
        served.client,
        "queue",
        c.length,
        c.stride,
        pad_end_of_episodes=c.pad,
        tile_end_of_episodes=c.tile,
        num_envs=ENVS,
        items=c.kind,
    )


def new_single(served: Served, c: Settings) -> Any:
    if c.kind == "episode":
        return EpisodeObserver(served.client, "queue", c.length)
    cls = TrajectoryObserver if c.kind == "trajectory" else TrajectorySequenceObserver
    return cls(served.client, "queue", c.length, c.stride, 1, c.pad, c.tile)


class Singles:
    """Observers of one environment each, with a parallel one's interface."""

    def __init__(self, served: Served, c: Settings) -> None:
        self.each = [new_single(served, c) for _ in range(ENVS)]

    def __call__(self, steps: Any, env_ids: list[int] | None = None) -> None:
        failed = False
        for row, env in enumerate(range(ENVS) if env_ids is None else env_ids):
            number, last = int(steps.action[row]), steps.step_type[row] == 2
            try:
                self.each[env](trajectory(number, last))
            except InvalidArgumentError:
                failed = True
        if failed:
            raise InvalidArgumentError("exceeds `max_sequence_length`")

    def reset(self, write: bool, env_ids: list[int]) -> None:
        failed = False
        for env in env_ids:
            try:
                self.each[env].reset(write)
            except InvalidArgumentError:
                failed = True
        if failed:
            raise InvalidArgumentError("fill no window")

    def cached_steps(self) -> Any:
        return [observer._cached_steps for observer in self.each]

    def close(self) -> None:
        for observer in self.each:
            observer.close()

    def open(self) -> None:
        for observer in self.each:
            observer.open()


def compare(make: Callable[[Served, Settings], Any], chosen: Settings, calls: Any) -> int:
    """Asserts that both hold the same after each call; returns how many items there were."""
    served = Served()
    observer = make(served, chosen)
    items: list[list[int]] = []
    models = [Model(chosen, items) for _ in range(ENVS)]
    number = total = 0
    for what, argument in calls:
        fails = False
        if what in ("step", "all"):
            ids = None if what == "all" else [env for env, _ in argument]
            lasts = argument if ids is None else [last for _, last in argument]
            numbers = range(number, number + len(lasts))
            number += len(lasts)
            envs = range(ENVS) if ids is None else ids
            for env, n, last in zip(envs, numbers, lasts, strict=True):
                fails |= models[env].step(n, last)
            call = lambda: observer(batch(numbers, lasts), ids)  # noqa: E731, B023
            words = "exceeds `max_sequence_length`"
        elif what == "reset":
            write, ids = argument
            fails = write and any(models[env].uncovered() for env in ids)
            for env in ids:
                models[env].end(write)
            call = lambda: observer.reset(write, ids)  # noqa: E731, B023
            words = "fill no window"
        else:
            for model in models:
                model.end(write=False)
            observer.close()
            call = observer.open
        if fails:
            with pytest.raises(InvalidArgumentError, match=words):
                call()
        else:
            call()
        assert list(observer.cached_steps()) == [len(model.cached) for model in models]
        assert served.numbers() == items
        total += len(items)
        items.clear()
    return total


@given(chosen=ANY, calls=CALLS)
def test_the_parallel_observer_is_as_its_model(chosen: Settings, calls: Any) -> None:
    compare(new_parallel, chosen, calls)


@given(chosen=ANY, calls=CALLS)
def test_observers_of_one_environment_are_as_their_model(chosen: Settings, calls: Any) -> None:
    compare(Singles, chosen, calls)


PROGRAM = [
    ("all", [False, False, False, False]),
    ("step", [(2, False), (0, True)]),
    ("all", [False, False, True, False]),
    ("step", [(3, False), (1, False), (0, False)]),
    ("reset", (True, [1, 3])),
    ("all", [False, True, False, False]),
    ("all", [False, False, False, True]),
]


def swapped(served: Served, c: Settings) -> Any:
    """Confuses two environments."""

    class Swapped:
        def __init__(self) -> None:
            self.inner = new_parallel(served, c)

        def __call__(self, steps: Any, ids: Any = None) -> None:
            self.inner(steps, [1, 0, 2, 3] if ids is None else ids)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    return Swapped()


@pytest.mark.parametrize(
    "wrong",
    [
        swapped,
        lambda served, c: new_parallel(served, Settings(c.kind, c.length + 1, c.stride, True)),
        lambda served, c: new_parallel(served, Settings("sequence", c.length, c.stride, c.pad)),
        lambda served, c: new_parallel(served, Settings("episode", 9)),
        lambda served, c: new_parallel(served, Settings(c.kind, c.length, 3, c.pad)),
        lambda served, c: Singles(served, Settings(c.kind, c.length, c.stride, True, True)),
    ],
    ids=["swapped", "longer", "no boundaries", "episodes", "stride", "tiled"],
)
def test_the_comparison_sees_a_wrong_observer(wrong: Any) -> None:
    chosen = Settings("trajectory", 2, 1, True)
    assert compare(new_parallel, chosen, PROGRAM) > 8
    assert compare(Singles, chosen, PROGRAM) > 8
    with pytest.raises(AssertionError):
        compare(wrong, chosen, PROGRAM)
