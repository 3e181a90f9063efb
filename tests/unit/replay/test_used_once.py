"""Steps that leave when they were used: a number of times, in groups, none of them too old."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import limiters, removers, samplers, views
from reverie.errors import (
    ClosedError,
    EndlessWaitError,
    InvalidArgumentError,
    WaitTimeoutError,
)

SPEC = {
    "token": reverie.ArraySpec((), np.int64),
    "version": reverie.ArraySpec((), np.int64),
    "prompt": reverie.ArraySpec((), np.int32),
}
STEPS = {
    "observation": reverie.ArraySpec((), np.float32),
    "action": reverie.ArraySpec((), np.int64),
    "reward": reverie.ArraySpec((), np.float32),
}


def rollouts(capacity: int = 100, **settings: Any) -> reverie.ReplayBuffer:
    settings = {"view": views.Episodes(), "version": "version", "seed": 0, **settings}
    return reverie.ReplayBuffer(SPEC, capacity, **settings)


def grouped(size: int = 3, **settings: Any) -> reverie.ReplayBuffer:
    return rollouts(group="prompt", group_size=size, **settings)


def bounded(batch_size: int, staleness: int, **settings: Any) -> reverie.ReplayBuffer:
    return rollouts(limiter=limiters.Staleness(batch_size, staleness), **settings)


def episode(number: int, version: int = 0, prompt: int = 0, length: int = 3) -> dict[str, Any]:
    return {
        "token": number * 100 + np.arange(length),
        "version": np.full(length, version),
        "prompt": np.full(length, prompt, np.int32),
    }


def numbers(batch: reverie.Batch) -> list[int]:
    return (batch.data["token"][:, 0] // 100).tolist()


# Consumed after n samples, and limiters.


@pytest.mark.parametrize("times", [1, 3])
def test_a_step_leaves_after_so_many_samples(times: int) -> None:
    buffer = reverie.ReplayBuffer(STEPS, 100, max_times_sampled=times, seed=0)
    buffer.add_episode(
        {
            "observation": np.arange(9, dtype=np.float32),
            "action": np.arange(8),
            "reward": np.zeros(8, np.float32),
        }
    )
    seen = np.concatenate([buffer.sample(4).action for _ in range(2 * times)])
    assert np.bincount(seen).tolist() == [times] * 8
    assert len(buffer) == 0
    with pytest.raises(WaitTimeoutError):
        buffer.sample(1)


def test_steps_wait_for_samples_where_a_limiter_says_so() -> None:
    buffer = reverie.ReplayBuffer(
        STEPS, 100, sampler=samplers.Fifo(), max_times_sampled=1, limiter=limiters.Queue(4)
    )
    seen: list[int] = []

    def learn() -> None:
        while len(seen) < 50:
            seen.extend(buffer.sample(2, timeout=10).action.tolist())
            assert len(buffer) <= 4

    learner = threading.Thread(target=learn)
    learner.start()
    for t in range(50):
        buffer.add(np.float32(t), t, 0.0, np.float32(t + 1), False, False)
    learner.join()
    assert seen == list(range(50))


def test_alone_a_thread_is_told_that_it_would_wait_for_ever() -> None:
    buffer = reverie.ReplayBuffer(
        STEPS, 100, sampler=samplers.Fifo(), max_times_sampled=1, limiter=limiters.Queue(2)
    )
    for t in range(2):
        buffer.add(np.float32(t), t, 0.0, np.float32(t + 1), False, False)
    with pytest.raises(EndlessWaitError, match="nobody could sample"):
        buffer.add(np.float32(2), 2, 0.0, np.float32(3), False, False)


# Groups.


def test_groups_are_used_whole_and_once() -> None:
    buffer = grouped()
    order = [(0, 7), (1, 8), (2, 7), (3, 8), (4, 9), (5, 8), (6, 7), (7, 9)]
    for number, prompt in order:
        buffer.add_episode(episode(number, prompt=prompt, length=1 + number))
    assert len(buffer) == 6
    assert numbers(buffer.sample(3)) == [1, 3, 5]  # the first that was complete
    batch = buffer.sample(3)
    assert numbers(batch) == [0, 2, 6]
    assert batch.data["length"].tolist() == [1, 3, 7]
    assert len(buffer) == 0
    assert buffer.num_frames() == 2  # of the third
    with pytest.raises(WaitTimeoutError, match=r"1 group of less than 3 \(such as \[9\]"):
        buffer.sample(3)
    assert buffer.drop_group(9) == 2
    assert buffer.num_frames() == 0
    assert buffer.drop_group(9) == 0


def test_a_group_is_there_again_after_a_save(tmp_path: Path) -> None:
    """What was begun is not lost by a resumed run."""
    buffer = grouped()
    for number, prompt in enumerate([5, 6, 5, 6, 5]):
        buffer.add_episode(episode(number, prompt=prompt))
    again = reverie.open(buffer.save(path=tmp_path))
    assert len(again) == 3
    again.add_episode(episode(9, prompt=6))
    assert sorted(numbers(again.sample(6))) == [0, 1, 2, 3, 4, 9]


def test_a_full_buffer_of_groups_waits_for_room() -> None:
    buffer = grouped(2, capacity=4)
    buffer.add_episodes([episode(n, prompt=n // 2) for n in range(4)])
    with pytest.raises(EndlessWaitError, match="for room"):
        buffer.add_episode(episode(4, prompt=2))
    assert buffer.num_frames() == 4
    adding = threading.Thread(
        target=buffer.add_episodes, args=([episode(n, prompt=2) for n in (4, 5)],)
    )
    adding.start()
    assert numbers(buffer.sample(2)) == [0, 1]
    adding.join()
    assert numbers(buffer.sample(4)) == [2, 3, 4, 5]
    with pytest.raises(InvalidArgumentError, match="at most 4"):
        buffer.add_episodes([episode(n) for n in range(5)])


def test_a_failed_sample_loses_no_group() -> None:
    buffer = grouped(2)
    buffer.add_episodes([episode(n) for n in range(2)])

    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    view = views.Episodes()
    object.__setattr__(view, "arrange", fail)
    with pytest.raises(KeyboardInterrupt):
        buffer.sample(2, view=view)
    assert numbers(buffer.sample(2)) == [0, 1]


def test_a_cleared_buffer_begins_anew() -> None:
    buffer = grouped(2)
    buffer.add_episode(episode(0, prompt=1))
    buffer.clear()
    buffer.add_episode(episode(1, prompt=1))
    assert len(buffer) == 0
    buffer.add_episode(episode(2, prompt=1))
    assert numbers(buffer.sample(2)) == [1, 2]


# Versions.


def test_nobody_begins_too_much() -> None:
    buffer = bounded(2, 1)
    assert [buffer.admit(timeout=0) for _ in range(4)] == [0] * 4
    with pytest.raises(WaitTimeoutError, match=r"on their way by version: \{0: 4\}"):
        buffer.admit(timeout=0)
    for number in range(4):
        buffer.add_episode(episode(number))
    with pytest.raises(WaitTimeoutError):
        buffer.admit(timeout=0)
    assert numbers(buffer.sample(2)) == [0, 1]
    buffer.set_policy_version(1)
    assert buffer.admit(2, timeout=0) == 1
    buffer.withdraw(1)
    assert buffer.admit(timeout=0) == 1
    with pytest.raises(InvalidArgumentError, match="found 3 of version 1"):
        buffer.withdraw(1, 3)


def test_a_slow_rollout_is_waited_for() -> None:
    """Else it would be too old once it comes."""
    buffer = bounded(1, 1)
    slow, quick = buffer.admit(), buffer.admit()
    buffer.add_episode(episode(1, quick))
    assert numbers(buffer.sample(1)) == [1]
    buffer.set_policy_version(1)
    buffer.add_episode(episode(2, buffer.admit(timeout=0)))
    with pytest.raises(WaitTimeoutError, match=r"on their way by version: \{0: 1\}"):
        buffer.sample(1)
    buffer.add_episode(episode(0, slow))
    assert numbers(buffer.sample(1)) == [0]
    buffer.set_policy_version(2)
    assert numbers(buffer.sample(1)) == [2]


def test_versions_that_cannot_be() -> None:
    buffer = bounded(2, 1)
    with pytest.raises(InvalidArgumentError, match="Call admit"):
        buffer.add_episode(episode(0))
    assert buffer.num_frames() == 0
    version = buffer.admit()
    with pytest.raises(InvalidArgumentError, match="found a rollout of version 1"):
        buffer.add_episode(episode(0, 1))
    buffer.add_episode(episode(0, version))
    with pytest.raises(InvalidArgumentError, match="Sample 2 rollouts for each version"):
        buffer.set_policy_version(2)
    buffer.sample(1)
    buffer.set_policy_version(2)
    with pytest.raises(InvalidArgumentError, match="do not run backwards"):
        buffer.set_policy_version(1)
    assert buffer.policy_version == 2


def test_a_refused_episode_uses_no_admission() -> None:
    buffer = bounded(2, 0)
    version = buffer.admit(2)
    with pytest.raises(reverie.errors.StepMismatchError):
        buffer.add_episode({**episode(0, version), "token": np.array([["x"]])})
    with pytest.raises(InvalidArgumentError):
        buffer.add_episodes([episode(n, version) for n in range(3)])
    buffer.add_episodes([episode(n, version) for n in range(2)])
    assert numbers(buffer.sample(2)) == [0, 1]


def test_a_saved_buffer_knows_its_version_and_its_bound(tmp_path: Path) -> None:
    buffer = bounded(2, 1, capacity=10)
    for number in range(4):
        buffer.add_episode(episode(number, buffer.admit()))
    buffer.sample(2)
    buffer.set_policy_version(1)
    buffer.admit()  # which will be lost with this process
    again = reverie.open(buffer.save(path=tmp_path))
    assert again.policy_version == 1
    assert again.table.settings.limiter == limiters.Staleness(2, 1)
    assert [again.admit(timeout=0) for _ in range(2)] == [1, 1]
    with pytest.raises(WaitTimeoutError):
        again.admit(timeout=0)
    assert numbers(again.sample(2)) == [2, 3]
    again.set_policy_version(2)
    assert again.data_spec == buffer.data_spec


def test_actors_and_a_learner() -> None:
    """Real threads: nothing too old, nothing lost, nothing twice, whoever waits has a turn."""
    batch, staleness, size, versions = 6, 2, 3, 30
    buffer = bounded(batch, staleness, group="prompt", group_size=size)
    stop, serial, lock = threading.Event(), iter(range(10**6)), threading.Lock()
    turns = [0] * 4

    def act(me: int) -> None:
        rng = np.random.default_rng(me)
        while not stop.is_set():
            try:
                version = buffer.admit(size, timeout=0.2)
            except WaitTimeoutError:
                continue
            with lock:
                prompt = next(serial)
            turns[me] += 1
            for k in range(size):
                if rng.random() < 0.05:
                    time.sleep(0.01)
                buffer.add_episode(episode(prompt * size + k, version, prompt))

    actors = [threading.Thread(target=act, args=(me,)) for me in range(4)]
    for actor in actors:
        actor.start()
    seen: list[int] = []
    try:
        for version in range(versions):
            for _ in range(2):
                found = buffer.sample(batch // 2, timeout=20)
                seen += numbers(found)
                assert (version - found.data["version"][:, 0]).max() <= staleness
                prompts = found.data["prompt"][:, 0].reshape(-1, size)
                assert (prompts == prompts[:, :1]).all()
            buffer.set_policy_version(version + 1)
    finally:
        stop.set()
        for actor in actors:
            actor.join()
    assert len(seen) == len(set(seen)) == versions * batch
    assert min(turns) > 0


def test_closing_ends_all_waits() -> None:
    buffer = bounded(1, 0)
    buffer.admit()
    found: list[BaseException] = []

    def wait(call: Any) -> None:
        try:
            call()
        except Exception as error:  # looked at below
            found.append(error)

    calls = [lambda: buffer.admit(timeout=30), lambda: buffer.sample(1, timeout=30)]
    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    buffer.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in found] == [ClosedError] * 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"group": "prompt"}, "group_size"),
    ({"group_size": 3}, "group_size"),
    ({"group": "token", "group_size": 2, "view": views.Sequences(3)}, r"Episodes\(\)"),
    ({"group": "nothing", "group_size": 2}, "group: found 'nothing'"),
    ({"version": "reward"}, "version: 'reward' is"),
    ({"group": "prompt", "group_size": 2, "limiter": limiters.Queue(3)}, "Staleness or none"),
    ({"limiter": limiters.Staleness(2, 1), "version": None}, "version: found None"),
    ({"limiter": limiters.Staleness(9, 1)}, "capacity: found 10, wanted at least 18"),
    ({"group": "prompt", "group_size": 11}, "capacity: found 10, wanted at least 11"),
    (
        {"limiter": limiters.Staleness(3, 1), "group": "prompt", "group_size": 2},
        "multiple of the group_size",
    ),
    ({"limiter": limiters.Staleness(2, 1), "sampler": samplers.Uniform()}, "sampler"),
    ({"limiter": limiters.Staleness(2, 1), "remover": removers.Lifo()}, "remover"),
    ({"limiter": limiters.Staleness(2, 1), "max_times_sampled": 2}, "max_times_sampled"),
    ({"max_times_sampled": -1}, "max_times_sampled"),
    ({"sampler": removers.Reservoir()}, "says what leaves"),
]


@pytest.mark.parametrize(("settings", "words"), BAD)
def test_what_could_not_work_is_refused(settings: dict[str, Any], words: str) -> None:
    spec = {**SPEC, "reward": reverie.ArraySpec((), np.float32)}
    settings = {"view": views.Episodes(), "version": "version", **settings}
    with pytest.raises(InvalidArgumentError, match=words):
        reverie.ReplayBuffer(spec, 10, **settings)


def test_calls_that_are_for_another_buffer() -> None:
    replayed = rollouts()
    for call in (
        lambda: replayed.admit(),
        lambda: replayed.set_policy_version(1),
        lambda: replayed.policy_version,
        lambda: replayed.withdraw(0),
        lambda: replayed.drop_group(0),
    ):
        with pytest.raises(InvalidArgumentError, match="used once"):
            call()
    buffer = grouped()
    with pytest.raises(InvalidArgumentError, match="no bound"):
        buffer.admit()
    with pytest.raises(InvalidArgumentError, match="add_episode"):
        buffer.add_step(episode(0), {})
    with pytest.raises(InvalidArgumentError, match="multiple of the group_size, 3"):
        buffer.sample(4)
    with pytest.raises(InvalidArgumentError, match="multiple of the group_size"):
        bounded(6, 1, group="prompt", group_size=3).admit(2)


@pytest.mark.parametrize("arguments", [(0, 1), (1, -1), (1.5, 1), (2**31, 0)])
def test_bounds_that_are_none(arguments: tuple[Any, Any]) -> None:
    with pytest.raises((InvalidArgumentError, TypeError)):
        limiters.Staleness(*arguments)
    assert limiters.Staleness(2, 1) != limiters.MinSize(1)
    assert repr(limiters.Staleness(2, 1)) == "Staleness(batch_size=2, max_staleness=1)"


def test_tables_of_windows_have_neither_a_bound_of_age_nor_a_reservoir_at_reverb() -> None:
    spec = {"x": reverie.ArraySpec((), np.float32)}
    with pytest.raises(InvalidArgumentError, match="limiter of table"):
        reverie.ReplayBufferManager(
            spec, 10, "never made", limiter=limiters.Staleness(1, 1)
        ).create_replay_buffer()
    with pytest.raises(InvalidArgumentError, match="which Reverb has not"):
        reverie.reverb.Table(
            "t",
            samplers.Uniform(),
            removers.Reservoir(),
            10,
            reverie.reverb.rate_limiters.MinSize(1),
        )
