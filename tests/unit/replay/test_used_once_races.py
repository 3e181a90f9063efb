"""Rollouts while something else happens in between: none is lost, none counted twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import limiters, views
from reverie.adding.streams import Adder
from reverie.errors import ClosedError, EndlessWaitError, InvalidArgumentError, WaitTimeoutError
from reverie.rollouts.queue import RolloutQueue

SPEC = {
    "token": reverie.ArraySpec((), np.int64),
    "version": reverie.ArraySpec((), np.int64),
    "prompt": reverie.ArraySpec((), np.int32),
}


def made(capacity: int = 100, **settings: Any) -> reverie.ReplayBuffer:
    settings = {"view": views.Episodes(), "version": "version", "seed": 0, **settings}
    return reverie.ReplayBuffer(SPEC, capacity, **settings)


def bounded(batch_size: int, staleness: int, **settings: Any) -> reverie.ReplayBuffer:
    return made(limiter=limiters.Staleness(batch_size, staleness), **settings)


def pairs(capacity: int = 100) -> reverie.ReplayBuffer:
    return made(capacity, group="prompt", group_size=2)


def episode(number: int, version: int = 0, prompt: int = 0) -> dict[str, Any]:
    return {
        "token": np.full(3, number),
        "version": np.full(3, version),
        "prompt": np.full(3, prompt, np.int32),
    }


def numbers(batch: reverie.Batch) -> list[int]:
    return batch.data["token"][:, 0].tolist()


def meanwhile(act: Callable[[], Any]) -> views.Episodes:
    """A view that lets something happen after its rows were copied."""
    view = views.Episodes()

    def arrange(*arguments: Any) -> Any:
        act()
        return views.Episodes.arrange(view, *arguments)

    object.__setattr__(view, "arrange", arrange)
    return view


def test_who_is_admitted_gets_the_version_that_it_is_counted_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = bounded(1, 2)
    wait = RolloutQueue._wait

    def then_advance(self: RolloutQueue, *arguments: Any) -> None:
        """The learner goes on between the admission and the return."""
        wait(self, *arguments)
        self.advance(1)

    monkeypatch.setattr(RolloutQueue, "_wait", then_advance)
    version = buffer.admit(timeout=0)
    assert (version, buffer.policy_version) == (0, 1)
    buffer.withdraw(version)  # is on its way, under just that


def test_room_is_free_when_the_used_have_left_and_not_before() -> None:
    """Else the oldest left for a new one, such as the first half of a group."""
    buffer = pairs(4)
    for number, prompt in enumerate([9, 1, 1, 8]):
        buffer.add_episode(episode(number, prompt=prompt))
    refused: list[str] = []

    def add() -> None:
        with pytest.raises(EndlessWaitError, match="for room") as raised:
            buffer.add_episode(episode(4, prompt=8))
        refused.append(str(raised.value))

    assert numbers(buffer.sample(2, view=meanwhile(add))) == [1, 2]
    assert len(refused) == 1
    buffer.add_episodes([episode(4, prompt=8), episode(5, prompt=9)])
    assert numbers(buffer.sample(4)) == [3, 4, 0, 5]
    assert buffer.num_frames() == 0


def test_who_finds_no_room_is_told_what_can_be_done() -> None:
    buffer = pairs(2)
    buffer.add_episodes([episode(0), episode(1)])
    with pytest.raises(EndlessWaitError, match=r"nobody could sample.*from another thread\.$"):
        buffer.add_episode(episode(2))  # which takes no timeout
    with pytest.raises(
        EndlessWaitError, match=r"nobody could add rollouts.*or pass a timeout\.$"
    ):
        buffer.sample(4, timeout=None)


CALLS: dict[str, Callable[[reverie.ReplayBuffer], Any]] = {
    "admit": lambda buffer: buffer.admit(timeout=0),
    "withdraw": lambda buffer: buffer.withdraw(0),
    "drop_group": lambda buffer: buffer.drop_group(0),
    "set_policy_version": lambda buffer: buffer.set_policy_version(1),
    "add_episode": lambda buffer: buffer.add_episode(episode(0)),
    "sample": lambda buffer: buffer.sample(1),
    "resize": lambda buffer: buffer.resize(50),
    "len": len,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_one_says_so(call: str) -> None:
    buffer = bounded(2, 1)
    buffer.admit()
    buffer.close()
    with pytest.raises(ClosedError):
        CALLS[call](buffer)


def test_who_waits_for_room_is_told_at_once() -> None:
    buffer = pairs(2)
    buffer.add_episodes([episode(0), episode(1)])
    adder = threading.Thread(target=buffer.add_episodes, args=([episode(2), episode(3)],))
    adder.start()
    assert numbers(buffer.sample(2)) == [0, 1]
    adder.join(10)
    assert numbers(buffer.sample(2, timeout=10)) == [2, 3]


def test_what_is_interrupted_on_its_way_into_the_queue_is_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be in the table for good, and in nobody's turn."""
    buffer = bounded(1, 0)
    version, versions = buffer.admit(), RolloutQueue._versions

    def interrupted(self: RolloutQueue, columns: Any, rows: Any) -> list[int]:
        if rows is None:
            raise KeyboardInterrupt
        return versions(self, columns, rows)

    with monkeypatch.context() as patched:
        patched.setattr(RolloutQueue, "_versions", interrupted)
        with pytest.raises(KeyboardInterrupt):
            buffer.add_episode(episode(0, version))
    assert buffer.num_frames() == 0
    buffer.add_episode(episode(1, version))  # its admission is there still
    assert numbers(buffer.sample(1)) == [1]


def test_clearing_beside_who_adds_leaves_no_rollout_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = pairs()
    store, threads = Adder.store_runs, []

    def then_clear(self: Adder, *arguments: Any) -> None:
        store(self, *arguments)
        threads.append(threading.Thread(target=buffer.clear))
        threads[-1].start()
        threads[-1].join(0.3)

    with monkeypatch.context() as patched:
        patched.setattr(Adder, "store_runs", then_clear)
        buffer.add_episodes([episode(0), episode(1)])
    threads[0].join()
    assert buffer.num_frames() == len(buffer) == 0
    buffer.add_episodes([episode(2), episode(3)])
    assert numbers(buffer.sample(2)) == [2, 3]


def test_a_failure_of_a_views_own_is_not_taken_for_a_clear() -> None:
    buffer = pairs()
    buffer.add_episodes([episode(0), episode(1)])
    with pytest.raises(KeyError, match="mine"):
        buffer.sample(2, view=meanwhile(lambda: {}["mine"]))
    assert numbers(buffer.sample(2)) == [0, 1]


def test_what_fails_after_a_clear_does_not_bring_rollouts_back() -> None:
    buffer = pairs()
    buffer.add_episodes([episode(0), episode(1)])

    def fail() -> None:
        buffer.clear()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buffer.sample(2, view=meanwhile(fail))
    assert len(buffer) == buffer.num_frames() == 0
    with pytest.raises(WaitTimeoutError):
        buffer.sample(2)


def test_what_fails_after_a_new_version_counts_for_the_old_one() -> None:
    buffer = bounded(2, 1)
    for number in range(4):
        buffer.add_episode(episode(number, buffer.admit()))
    assert numbers(buffer.sample(2)) == [0, 1]

    def fail() -> None:
        buffer.set_policy_version(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buffer.sample(2, view=meanwhile(fail))
    # Two wait, two more may begin: of four.
    assert [buffer.admit(timeout=0) for _ in range(2)] == [1, 1]
    with pytest.raises(WaitTimeoutError):
        buffer.admit(timeout=0)


def test_another_capacity_loses_no_rollout(tmp_path: Path) -> None:
    buffer = pairs(4)
    buffer.add_episodes([episode(n, prompt=n // 2) for n in range(4)])
    with pytest.raises(InvalidArgumentError, match="capacity: found 3, wanted at least 4"):
        buffer.resize(3)
    assert buffer.capacity == 4
    buffer.resize(6)
    buffer.add_episodes([episode(n, prompt=2) for n in (4, 5)])
    assert numbers(buffer.sample(6)) == [0, 1, 2, 3, 4, 5]
    buffer.resize(2)
    with pytest.raises(InvalidArgumentError, match="wanted at least 2"):
        buffer.resize(1)
    bound = bounded(2, 1, capacity=4)
    with pytest.raises(InvalidArgumentError, match="capacity: found 3, wanted at least 4"):
        bound.resize(3)
    again = reverie.open(bound.save(path=tmp_path))
    assert again.capacity == 4


@pytest.mark.parametrize("group", ["x", None, 1.5, 2**64])
def test_a_group_that_is_none_is_refused(group: Any) -> None:
    with pytest.raises((InvalidArgumentError, TypeError), match="group"):
        pairs().drop_group(group)
    assert pairs().drop_group(-3) == 0


def resumed(path: Path) -> list[int]:
    """Of two prompts one answer each was there when it was saved; both are answered then."""
    buffer = pairs()
    buffer.add_episodes([episode(0, prompt=5), episode(1, prompt=6)])
    again = reverie.open(buffer.save(path=path))
    again.add_episodes([episode(2, prompt=6), episode(3, prompt=5)])
    return numbers(again.sample(4))


def test_a_resumed_run_loses_no_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resumed(tmp_path / "ours") == [1, 2, 0, 3]
    arrive = RolloutQueue.arrive

    def whole_groups_alone(self: RolloutQueue, keys: Any, used: list[int]) -> None:
        arrive(self, keys, used)
        self._schedule.open.clear()

    open_ = reverie.open

    def forgetful(path: Any) -> reverie.ReplayBuffer:
        with monkeypatch.context() as patched:
            patched.setattr(RolloutQueue, "arrive", whole_groups_alone)
            return open_(path)

    monkeypatch.setattr(reverie, "open", forgetful)
    with pytest.raises(WaitTimeoutError, match="0 may be used"):
        resumed(tmp_path / "planted")
