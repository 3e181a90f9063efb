"""Mistakes that replay buffers have had: ours has none, and each check finds a planted one.

The checks run over our buffer, over a ring of arrays that is right, and over the same ring
with one mistake in it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ring_support import FAULTS, Ring, Row

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.samplers import Prioritized
from reverie.views import Hindsight, Sequences, Transitions

SPEC = {
    "observation": {
        "achieved_goal": ArraySpec((), np.float32),
        "desired_goal": ArraySpec((), np.float32),
    },
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}


def state(number: float) -> dict[str, Any]:
    return {"achieved_goal": np.float32(number), "desired_goal": np.float32(-1)}


class Ours:
    """What the ring does, of our buffer; observations are dicts."""

    def __init__(self, capacity: int) -> None:
        self.buffer = ReplayBuffer(SPEC, capacity, seed=0)

    def add(
        self, obs: float, reward: float, next_obs: float, terminated: bool, truncated: bool
    ) -> None:
        self.buffer.add(state(obs), 0, reward, state(next_obs), terminated, truncated)

    def n_step(
        self, n: int, gamma: float, meanwhile: Callable[[], None] = lambda: None
    ) -> list[Row]:
        class Watched(Transitions):
            def arrange(self, *arguments: Any) -> Any:
                meanwhile()
                return super().arrange(*arguments)

        batch = self.buffer.steps(Watched(n, gamma))
        columns = (
            batch.observation["achieved_goal"],
            batch.reward,
            batch.next_observation["achieved_goal"],
            batch.discount,
        )
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def flags(self) -> list[bool]:
        return self.buffer.steps().truncated.tolist()

    def sequences(self, length: int) -> list[list[float]]:
        batch = self.buffer.steps(Sequences(length))
        states = batch.observation["achieved_goal"]
        return [row[mask].tolist() for row, mask in zip(states, batch.mask, strict=True)]

    def goals(self) -> dict[float, set[float]]:
        found: dict[float, set[float]] = defaultdict(set)
        view = Hindsight(lambda had, goal, info: np.zeros(len(goal)), k=np.inf)
        for _ in range(40):
            seen = self.buffer.sample(100, view=view).observation
            each = zip(
                seen["achieved_goal"].tolist(), seen["desired_goal"].tolist(), strict=True
            )
            for at, goal in each:
                found[at].add(goal)
        return dict(found)


Subject = Ours | Ring
Make = Callable[[int], Subject]


def play(subject: Subject, rewards: list[float], how: str = "", first: int = 0) -> None:
    """An episode whose states are first, first + 1, ...; `how`: it ends so."""
    for t, reward in enumerate(rewards):
        last = t == len(rewards) - 1
        ends = last and how == "terminated", last and how == "truncated"
        subject.add(first + t, reward, first + t + 1, *ends)


# Returns of n steps.


def values(make: Make) -> None:
    """Those of Sutton 1988 and of Rainbow (Hessel et al. 2018), gamma 1/2, rewards 1, 2, 3."""
    for how, rewards, wanted in (
        ("terminated", [1, 2, 3, 4], (2.75, 3, 0.125)),
        ("terminated", [1, 2], (2, 2, 0)),
        ("truncated", [1, 2], (2, 2, 0.25)),
        ("", [1, 2], (2, 2, 0.25)),
    ):
        subject = make(100)
        play(subject, [float(reward) for reward in rewards], how)
        if how:  # what must not be seen
            play(subject, [100.0] * 5, "terminated", first=50)
        assert subject.n_step(3, 0.5)[0] == (0, *wanted)


def seam(make: Make) -> None:
    """The oldest step does not follow the newest."""
    subject = make(5)
    play(subject, [1.0] * 8)
    assert subject.n_step(3, 1.0) == [
        (t, min(3, 8 - t), min(t + 3, 8), 1.0) for t in (3, 4, 5, 6, 7)
    ]


def tails(make: Make) -> None:
    """Each step begins a row, those too near the end for n steps as well."""
    subject = make(100)
    play(subject, [1.0] * 4, "terminated")
    play(subject, [1.0] * 2, "truncated", first=10)
    assert [row[0] for row in subject.n_step(3, 0.5)] == [0, 1, 2, 3, 10, 11]


def nothing_changes(make: Make) -> None:
    """What is stored is the same for who looks while another samples."""
    subject = make(100)
    play(subject, [1.0] * 4)
    seen: list[list[bool]] = []
    subject.n_step(3, 0.5, meanwhile=lambda: seen.append(subject.flags()))
    assert seen == [[False] * 4]


# Sequences.


def sequences(make: Make) -> None:
    """Within an episode, from the oldest step to the newest."""
    subject = make(9)
    play(subject, [1.0] * 5, "terminated")
    play(subject, [1.0] * 3, "truncated", first=20)
    play(subject, [1.0] * 4, first=40)
    assert subject.sequences(3) == [
        *([3, 4], [4], [20, 21, 22], [21, 22], [22]),
        *([40, 41, 42], [41, 42, 43], [42, 43], [43]),
    ]


# Goals that were reached.


def goals(make: Make) -> None:
    """Of the episode, from the step on; in a full buffer, and in an episode that goes on."""
    subject = make(9)
    play(subject, [1.0] * 6, "terminated")
    play(subject, [1.0] * 5, first=20)
    assert subject.goals() == {
        2: {3, 4, 5, 6},
        3: {4, 5, 6},
        4: {5, 6},
        5: {6},
        **{20 + t: {21.0 + k for k in range(t, 5)} for t in range(5)},
    }


def goals_of_the_wrapped(make: Make) -> None:
    """An episode that lies at the end of the memory and at its beginning."""
    subject = make(8)
    play(subject, [1.0] * 5, "terminated")
    play(subject, [1.0] * 6, "terminated", first=20)
    assert subject.goals() == {
        **{3: {4.0, 5.0}, 4: {5.0}},
        **{20 + t: {21.0 + k for k in range(t, 6)} for t in range(6)},
    }


CHECKS = (values, seam, tails, nothing_changes, sequences, goals, goals_of_the_wrapped)
FINDS: dict[str, tuple[Callable[[Make], None], ...]] = {
    "spills over where an episode was cut": (values, sequences),
    "crosses ends": (values, sequences),
    "crosses the seam": (seam, sequences),
    "gamma to the n though cut short": (values,),
    "takes a cut for an end": (values,),
    "loses tails": (tails,),
    "changes flags while it samples": (nothing_changes,),
    "seeks goals without the wrap": (goals_of_the_wrapped,),
    "has no goals before the end": (goals,),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [Ours, Ring])
def test_none_of_them_is_here(make: Make, check: Callable[[Make], None]) -> None:
    check(make)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_is_found(fault: str) -> None:
    for check in FINDS[fault]:
        with pytest.raises(AssertionError):
            check(lambda capacity: Ring(capacity, fault))


# Recurrent states that were stored.


def of_states() -> ReplayBuffer:
    spec = {"observation": ArraySpec((), np.float32), "state": ArraySpec((128,), np.float32)}
    buffer = ReplayBuffer(spec, 100, seed=0)
    steps = np.arange(40, dtype=np.float32)
    states = np.repeat(steps[:, None], 128, axis=1)
    buffer.add_episode({"observation": np.append(steps, 40), "state": states})
    return buffer


def look_at_states(batch: reverie.Batch) -> None:
    assert batch.data["state"].nbytes == 4_096  # of 8 sequences; with each of 8 steps 32 768
    np.testing.assert_array_equal(batch.data["state"][:, 0], batch.observation[:, 0])


def test_a_stored_state_comes_at_the_beginning_alone_and_steps_to_warm_up_are_marked() -> None:
    buffer = of_states()
    view = Sequences(8, burn_in=3, once=("state",))
    batch = buffer.sample(8, view=view)
    look_at_states(batch)
    wanted = np.broadcast_to(np.arange(8) < 3, (8, 8)) & batch.mask
    np.testing.assert_array_equal(batch.data["burn_in_mask"], wanted)
    with pytest.raises(AssertionError):
        look_at_states(buffer.sample(8, view=Sequences(8, burn_in=3)))


def test_r2d2s_sequences_overlap_by_their_burn_in() -> None:
    """80 steps, 40 of them to warm up (Kapturowski et al. 2019)."""

    def trained(view: Sequences) -> list[int]:
        buffer = ReplayBuffer({"observation": ArraySpec((), np.int64)}, 100, view=view)
        buffer.add_episode({"observation": np.arange(201)})
        batch = buffer.steps()
        counts = batch.mask & ~batch.data["burn_in_mask"]
        return np.bincount(batch.observation[counts], minlength=200).tolist()

    assert trained(Sequences(80, burn_in=40)) == [0] * 40 + [1] * 160
    assert trained(Sequences(80, burn_in=40, stride=80)) != [0] * 40 + [1] * 160


def growth(cost: Callable[[int], Callable[[], Any]]) -> float:
    """By how much a call costs more of a buffer that is a thousand times as large."""
    found = []
    for size in (2_000, 2_000_000):
        call = cost(size)
        best = float("inf")
        for _ in range(30):
            start = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - start)
        found.append(best)
    return found[1] / found[0]


def sampling(size: int) -> Callable[[], Any]:
    buffer = ReplayBuffer({"observation": ArraySpec((), np.float32)}, size, seed=0)
    for _ in range(size // 500):
        buffer.add_episode({"observation": np.zeros(501, np.float32)})
    return lambda: buffer.sample(64, view=Sequences(80))


def searching(size: int) -> Callable[[], Any]:
    """Planted: numbers all steps by their episodes, whenever a batch is asked for."""
    ends = np.arange(size) % 500 == 499
    return lambda: np.searchsorted(np.cumsum(ends), np.arange(64))


def test_sequences_of_a_large_buffer_cost_what_those_of_a_small_one_do() -> None:
    assert growth(sampling) < 30  # what the caches of a machine make of it
    assert growth(searching) > 30


# Priorities.


class Priorities:
    """A buffer of four whose steps, by number, have priorities."""

    def __init__(self) -> None:
        self.buffer = ReplayBuffer(SPEC, 4, sampler=Prioritized(1.0, eps=0), seed=0)
        self.added = 0

    def add(self) -> None:
        t = self.added
        self.buffer.add(state(t), t, 0.0, state(t + 1), False, False)
        self.added += 1

    def sample(self) -> Any:
        return self.buffer.sample(50).key

    def update(self, keys: Any, values: Any) -> None:
        self.buffer.update_priorities(keys, values)

    def now(self) -> dict[int, float]:
        batch = self.buffer.steps()
        return dict(zip(batch.action.tolist(), batch.info.priority.tolist(), strict=True))

    def key(self, number: int) -> Any:
        batch = self.buffer.steps()
        return batch.key[batch.action == number]


class LargestEver(Priorities):
    """What is new has the largest priority that there ever was."""

    largest = 1.0

    def add(self) -> None:
        super().add()
        super().update(self.key(self.added - 1), [self.largest])

    def update(self, keys: Any, values: Any) -> None:
        self.largest = max(self.largest, *values)
        super().update(keys, values)


class One(LargestEver):
    """What is new has always the same, and may never be seen beside what is large."""

    def update(self, keys: Any, values: Any) -> None:
        Priorities.update(self, keys, values)


class LastBatch(Priorities):
    """New priorities are for the batch that was sampled last, whatever the keys."""

    last: Any = None

    def sample(self) -> Any:
        self.last = super().sample()
        return self.last

    def update(self, keys: Any, values: Any) -> None:
        super().update(self.last[: len(values)], values)


def what_is_new(subject: Priorities) -> None:
    for _ in range(2):
        subject.add()
    subject.update(subject.key(0), [7.0])
    subject.add()
    assert subject.now() == {0: 7, 1: 1, 2: 7}
    subject.update(subject.key(2), [2.0])
    for _ in range(3):  # the 7 leaves with the second of these
        subject.add()
    assert subject.now() == {2: 2, 3: 7, 4: 7, 5: 7}
    for number in (3, 4, 5):
        subject.update(subject.key(number), [0.5])
    subject.add()
    assert subject.now()[6] == 2


def an_earlier_batch(subject: Priorities) -> None:
    for _ in range(4):
        subject.add()
    keys = np.concatenate([subject.key(0), subject.key(3)])  # as one that was sampled before
    subject.sample()
    subject.update(keys, np.array([8.0, 9.0]))
    assert subject.now() == {0: 8, 1: 1, 2: 1, 3: 9}


@pytest.mark.parametrize(
    ("check", "planted"), [(what_is_new, [LargestEver, One]), (an_earlier_batch, [LastBatch])]
)
def test_priorities_are_of_the_items_that_are_there(
    check: Callable[[Priorities], None], planted: list[type[Priorities]]
) -> None:
    check(Priorities())
    for each in planted:
        with pytest.raises(AssertionError):
            check(each())


def test_there_is_one_weight_for_a_sequence_and_it_is_its_own() -> None:
    buffer = ReplayBuffer(SPEC, 100, view=Sequences(4), sampler=Prioritized(1.0, eps=0), seed=0)
    for t in range(16):
        buffer.add(state(t), t, 0.0, state(t + 1), t == 15, False)
    keys = buffer.steps().key
    buffer.update_priorities(keys, [1.0, 2.0, 3.0, 4.0])
    batch = buffer.sample(4, beta=1.0)
    assert batch.weight.shape == (4,)
    errors = np.ones((4, 4))
    wanted = 4 / batch.info.priority  # of the four steps of each row

    def look(losses: Any) -> None:
        np.testing.assert_allclose(losses.sum(axis=1), wanted, rtol=1e-6)

    assert len(set(batch.weight.tolist())) > 1
    look(batch.weight[:, None] * errors**2)
    with pytest.raises(AssertionError):
        look(batch.weight * errors**2)  # as many rows as steps: NumPy says nothing


# Saved, and gone on with.


def resumed(buffer: ReplayBuffer, path: Path, opened: Callable[[Path], ReplayBuffer]) -> None:
    """Saved, opened, saved and opened again, a buffer holds each step once."""
    steps, records = buffer.steps().action.tolist(), buffer.info().steps
    for _ in range(3):
        buffer.save(path=path)
        buffer = opened(path)
        assert buffer.steps().action.tolist() == steps
        assert buffer.info().steps <= records
        assert len(set(buffer.steps().key.tolist())) == len(steps)


def adding_again(path: Path) -> ReplayBuffer:
    """What was saved is added to what is there, as if it were new."""
    buffer = reverie.open(path)
    batch = buffer.steps()
    at, after = (each["achieved_goal"] for each in (batch.observation, batch.next_observation))
    for t in range(len(at)):
        ends = batch.terminated[t], batch.truncated[t]
        buffer.add(state(at[t]), batch.action[t], batch.reward[t], state(after[t]), *ends)
    return buffer


def test_resuming_doubles_nothing(tmp_path: Path) -> None:
    buffer = ReplayBuffer(SPEC, 100, seed=0)
    for t in range(20):
        buffer.add(state(t), t, 0.0, state(t + 1), t % 7 == 6, False)
    resumed(buffer, tmp_path / "ours", reverie.open)
    with pytest.raises(AssertionError):
        resumed(buffer, tmp_path / "planted", adding_again)
