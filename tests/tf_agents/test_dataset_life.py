"""Datasets in company: threads, tf.function, strategies, garbage, the end of the process."""

from __future__ import annotations

import gc
import itertools
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.support import episode, new_manager  # noqa: E402

import reverie  # noqa: E402
from reverie.runtime import leaving, waiting  # noqa: E402
from reverie.tf import generator, source  # noqa: E402

pytestmark = pytest.mark.xdist_group("alone")


def consecutive(rewards: Any) -> bool:
    """Whether each row of `[..., T]` rewards is a window of one of `support.episode`'s."""
    return bool((np.diff(np.asarray(rewards), axis=-1) == 1).all())


def test_a_buffer_must_be_there_and_open(tmp_path: Path) -> None:
    manager = reverie.ReplayBufferManager({"x": tf.TensorSpec((), tf.int32)}, 10, tmp_path)
    with pytest.raises(RuntimeError, match="create_replay_buffer"):
        manager.get_dataset()
    _, observer = manager.create_replay_buffer()
    for number in range(3):
        observer({"x": number}, last=number == 2)
    iterator = iter(manager.get_dataset(2))
    next(iterator)
    manager.close()
    with pytest.raises(reverie.errors.ClosedError):
        manager.get_dataset()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"ClosedError.*is closed"):
        list(itertools.islice(iterator, 100))  # what was fetched before comes first


def test_a_fetch_that_waits_too_long_ends_the_dataset(tmp_path: Path) -> None:
    manager, replay_buffer, _ = new_manager(tmp_path)
    start = time.monotonic()
    for batch in (None, 3):
        for preprocess in (None, lambda data: data):
            dataset = replay_buffer.as_dataset(
                batch, sequence_preprocess_fn=preprocess, timeout_s=0.25
            )
            assert list(dataset) == []
    assert list(replay_buffer.as_dataset(3, timeout_s=0)) == []
    assert 1.0 <= time.monotonic() - start < 60.0
    manager.close()


def test_an_ending_dataset_yields_while_there_is_data(tmp_path: Path, prompt: None) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(9)])
    iterator = iter(replay_buffer.as_dataset(3, timeout_s=0.1))
    for _ in range(50):
        next(iterator)
    replay_buffer.clear()
    assert len(list(iterator)) <= 15  # what was fetched before


def test_a_dataset_started_on_an_empty_buffer_waits_for_the_first_item(tmp_path: Path) -> None:
    _, replay_buffer, observer = new_manager(tmp_path, sequence_length=3)
    iterator = iter(replay_buffer.as_dataset(4))

    def collect() -> None:
        time.sleep(0.3)
        for step in episode(6):
            observer(step)

    thread = threading.Thread(target=collect)
    start = time.monotonic()
    thread.start()
    data, _ = next(iterator)
    assert time.monotonic() - start >= 0.3
    assert consecutive(data.reward)
    thread.join()


def test_a_long_wait_is_logged_each_time_it_has_doubled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_FIRST_REPORT_S", 0.25)
    _, replay_buffer, _ = new_manager(tmp_path)
    with caplog.at_level(logging.WARNING, "reverie"):
        assert list(replay_buffer.as_dataset(3, timeout_s=0.9)) == []
    assert len(caplog.messages) == 2
    assert "holds 0 items" in caplog.messages[0]


def test_reading_beside_adding_and_evicting_sees_whole_windows(tmp_path: Path) -> None:
    _, replay_buffer, observer = new_manager(
        tmp_path, [episode(40)], sequence_length=4, capacity=30
    )
    done = threading.Event()

    def collect() -> None:
        number = 1
        while not done.is_set():
            for step in episode(7, number % 900):
                observer(step)
            number += 1

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        newest = 0.0
        for data, _ in replay_buffer.as_dataset(32).take(200):
            assert consecutive(data.reward)
            newest = max(newest, float(tf.reduce_max(data.reward)))
    finally:
        done.set()
        thread.join()
    assert newest >= 1000  # it did see later episodes
    assert not consecutive([[1.0, 2.0, 1003.0]])


def test_two_iterators_at_once_are_independent(tmp_path: Path) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4)
    dataset = replay_buffer.as_dataset(8, 2)
    first, second = iter(dataset), iter(dataset)
    failures = []

    def read(iterator: Any) -> None:
        for _ in range(100):
            data, info = next(iterator)
            if not consecutive(data.reward) or info.key.shape != (8, 2):
                failures.append(data)

    threads = [threading.Thread(target=read, args=(each,)) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del first
    assert consecutive(next(second)[0].reward)
    assert not failures


def test_it_works_inside_tf_function(tmp_path: Path) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4)
    dataset = replay_buffer.as_dataset(8, 2)

    @tf.function
    def over_the_dataset() -> Any:
        steps = tf.constant(0.0)
        for data, _ in dataset.take(5):
            steps += tf.reduce_sum(data.reward[:, 1] - data.reward[:, 0])
        return steps

    @tf.function
    def over_an_iterator(iterator: Any) -> Any:
        data, info = next(iterator)
        assert data.reward.shape == info.key.shape == (8, 2)
        return tf.reduce_sum(data.reward[:, 1] - data.reward[:, 0])

    @tf.function
    def made_inside() -> Any:
        steps = tf.constant(0.0)
        for data, _ in replay_buffer.as_dataset(8).take(3):
            steps += tf.reduce_sum(data.reward[:, 3] - data.reward[:, 0])
        return steps

    iterator = iter(dataset)
    for _ in range(3):
        assert over_the_dataset() == 40
        assert over_an_iterator(iterator) == 8
        assert made_inside() == 72
        gc.collect()


@pytest.mark.parametrize("how", ["distribute_dataset", "from_function"])
@pytest.mark.parametrize("num_steps", [None, 2])
def test_it_works_under_a_distribution_strategy(
    tmp_path: Path, how: str, num_steps: int | None
) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if how == "distribute_dataset":
        dataset = strategy.experimental_distribute_dataset(
            replay_buffer.as_dataset(6, num_steps)
        )
    else:
        dataset = strategy.distribute_datasets_from_function(
            lambda context: replay_buffer.as_dataset(
                context.get_per_replica_batch_size(6), num_steps
            )
        )

    @tf.function
    def train(iterator: Any) -> Any:
        return strategy.run(lambda data, info: (data.reward, info.key), args=next(iterator))

    iterator = iter(dataset)
    for _ in range(4):
        gc.collect()  # nothing that is still needed may go
        rewards, keys = (strategy.experimental_local_results(x) for x in train(iterator))
        assert [each.shape for each in (*rewards, *keys)] == [(3, num_steps or 4)] * 4
        assert all(consecutive(each) for each in rewards)


DERIVED: dict[str, Callable[[Any, Any], Any]] = {
    "map": lambda a, b: a.map(lambda data, info: data.reward),
    "zip": lambda a, b: tf.data.Dataset.zip((a, b)).map(lambda x, y: x[0].reward),
    "mixed": lambda a, b: tf.data.Dataset.sample_from_datasets([a, b]).map(
        lambda data, info: data.reward
    ),
    "concatenated": lambda a, b: a.take(2).concatenate(b).map(lambda data, info: data.reward),
    "interleaved": lambda a, b: (
        tf.data.Dataset.range(2).interleave(lambda _: a).map(lambda data, info: data.reward)
    ),
    "options": lambda a, b: a.with_options(tf.data.Options()).map(lambda d, info: d.reward),
}


@pytest.mark.parametrize("how", DERIVED)
def test_what_is_derived_from_a_dataset_keeps_it_alive(tmp_path: Path, how: str) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4)
    dataset = DERIVED[how](replay_buffer.as_dataset(5), replay_buffer.as_dataset(5))
    gc.collect()
    iterator = iter(dataset)
    del dataset
    for _ in range(40):
        gc.collect(0)
        assert consecutive(next(iterator))


def is_freed_after_use(tmp_path: Path) -> bool:
    """Whether a table goes when its manager, dataset and iterator have gone."""
    manager, replay_buffer, _ = new_manager(tmp_path, [episode(9)])
    table = weakref.ref(replay_buffer._table)
    for dataset in (
        replay_buffer.as_dataset(3),
        replay_buffer.as_dataset(3, sequence_preprocess_fn=lambda data: data),
    ):
        iterator = iter(dataset)
        next(iterator)
    assert table() is not None
    del manager, replay_buffer, dataset, iterator, _
    gc.collect()
    return table() is None


def test_dropping_dataset_and_iterator_frees_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_freed_after_use(tmp_path)
    # The functions that TensorFlow keeps find sources by number, in a dict of their own.
    monkeypatch.setattr(generator, "_sources", {})
    assert not is_freed_after_use(tmp_path)


def seconds_to_drop_a_waiting_iterator(tmp_path: Path) -> float:
    manager, replay_buffer, _ = new_manager(tmp_path, [episode(9)])
    iterator = iter(replay_buffer.as_dataset(3))
    next(iterator)
    manager.clear()
    deadline = time.monotonic() + 10
    while not leaving.foreign_inside() and time.monotonic() < deadline:
        next(iterator)  # what was fetched before
        time.sleep(0.05)
    start = time.monotonic()
    del iterator
    return time.monotonic() - start


def test_dropping_an_iterator_that_waits_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seconds_to_drop_a_waiting_iterator(tmp_path) < 0.7
    monkeypatch.setattr(source, "_SLICE_S", 2.0)
    # Not each time: the wait may be near its end, or not begun, when the iterator goes.
    assert any(seconds_to_drop_a_waiting_iterator(tmp_path / str(n)) > 0.7 for n in range(5))


SCRIPT = """
import sys, threading, time
import numpy as np
import reverie
manager = reverie.ReplayBufferManager({"x": reverie.ArraySpec((), np.int32)}, 9, sys.argv[1])
_, observer = manager.create_replay_buffer()
for _ in range(int(sys.argv[2])):
    observer({"x": 1})
if sys.argv[3] == "broken":
    # What a thread that comes back from C++ into a dead interpreter did: see no_gil.h.
    import atexit, os
    atexit.register(os.abort)
iterator = iter(manager.get_dataset(2))
reader = threading.Thread(target=lambda: next(iterator), daemon=True)
reader.start()
time.sleep(1.0)
print("done", flush=True)
"""


def exit_code(tmp_path: Path, num_steps: int, how: str) -> int:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(num_steps), how],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "done" in result.stdout
    return result.returncode


def test_the_interpreter_ends_while_an_iterator_waits(tmp_path: Path) -> None:
    assert exit_code(tmp_path, 0, "as it is") == 0
    assert exit_code(tmp_path, 0, "broken") != 0


def test_the_interpreter_ends_while_a_dataset_runs_ahead(tmp_path: Path) -> None:
    assert exit_code(tmp_path, 9, "as it is") == 0
