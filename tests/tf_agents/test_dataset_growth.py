"""A dataset for each batch, as on-policy loops make it, costs no memory for good."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.memory import soak  # noqa: E402
from tests.memory.fresh_process import STATM  # noqa: E402
from tests.tf_agents.reverb_support import (  # noqa: E402
    fill,
    serve,
    timesteps,
    trajectories,
    uniform,
)
from tests.tf_agents.support import episode, new_manager  # noqa: E402

from reverie.reverb.tf import datasets  # noqa: E402
from reverie.tf import generator  # noqa: E402

MODULE = "tests.tf_agents.soak_datasets"
# By a round of 9 datasets and 11 iterators, which was some 900,000 before: TensorFlow's own.
NBYTES = 60_000


def kept_functions() -> int:
    """Python functions that TensorFlow keeps for good."""
    return len(getattr(tf.compat.v1.get_default_graph(), "_py_funcs_used_in_graph", ()))


def read_again_and_again(read: Callable[[], Any]) -> int:
    """Functions that TensorFlow keeps of ten datasets, when it has had one of their make."""
    read()
    before = kept_functions()
    for _ in range(10):
        read()
    return kept_functions() - before


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("num_steps", [None, 2])
def test_a_dataset_made_again_adds_nothing_to_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None, num_steps: int | None
) -> None:
    _, buffer, _ = new_manager(tmp_path, [episode(9)], 4)

    def read() -> Any:
        return next(iter(buffer.as_dataset(batch, num_steps)))

    assert read_again_and_again(read) == 0
    forgetful = generator._functions.cached.__wrapped__
    monkeypatch.setattr(generator, "_functions", forgetful)
    assert read_again_and_again(read) == 30


@pytest.mark.parametrize("make", [trajectories, timesteps])
def test_a_dataset_of_a_server_made_again_adds_nothing_to_tensorflow(make: Any) -> None:
    _server, client, address = serve(uniform())
    fill(client, [2] * 9)
    assert read_again_and_again(lambda: next(iter(make(address)))) == 0
    # Other settings are other functions.
    numbers = iter(range(100, 200))
    assert read_again_and_again(lambda: next(iter(make(address, next(numbers))))) == 30


def test_buffers_of_one_spec_share_functions_and_not_steps(tmp_path: Path) -> None:
    before = generator._functions.cached.cache_info().misses
    rewards = []
    for number in (1, 2):
        _, buffer, _ = new_manager(tmp_path / str(number), [episode(8, number)], 7)
        data, _ = next(iter(buffer.as_dataset(11)))
        rewards.append(float(np.min(data.reward)) // 1000)
    assert rewards == [1, 2]
    assert generator._functions.cached.cache_info().misses == before + 1


def test_functions_of_old_shapes_are_forgotten() -> None:
    assert generator._functions.cached.cache_info().maxsize == 64
    assert datasets._stream_functions.cached.cache_info().maxsize == 64


def test_an_unread_iterator_leaves_nothing(tmp_path: Path) -> None:
    _, buffer, _ = new_manager(tmp_path, [episode(9)])
    sources, readings = len(generator._sources), len(generator._iterations)
    unread, dataset = iter(buffer.as_dataset(2)), buffer.as_dataset(3)
    read = iter(dataset)
    next(read)
    assert len(generator._sources) > sources
    assert len(generator._iterations) == readings + 1
    del unread, dataset, read
    gc.collect()
    assert len(generator._sources) == sources
    assert len(generator._iterations) == readings


def test_a_function_that_makes_a_dataset_keeps_the_buffer_as_long_as_itself(
    tmp_path: Path,
) -> None:
    def traced() -> tuple[Any, Any]:
        _, buffer, _ = new_manager(tmp_path, [episode(9)])

        @tf.function
        def total() -> Any:
            found = tf.constant(0.0)
            for data, _ in buffer.as_dataset(2).take(2):
                found += tf.reduce_sum(data.reward)
            return found

        # The Python function knows the buffer, too; what was traced must do by itself.
        return total.get_concrete_function(), weakref.ref(buffer.table)

    concrete, table = traced()
    gc.collect()
    assert table() is not None
    assert concrete() > 0
    del concrete
    gc.collect()
    assert table() is None


@pytest.mark.skipif(not STATM.exists(), reason=f"{STATM} is not there: memory is not counted.")
def test_making_datasets_for_ever_keeps_memory_flat() -> None:
    found, rounds = soak.soak(MODULE, seconds=max(4.0, soak.SECONDS))
    growth = soak.growth(found, rounds)
    print(growth, rounds, found)
    assert growth["nbytes"] < NBYTES
    assert growth["files"] <= 0
    assert growth["threads"] <= 0
    assert growth["objects"] < 2  # TensorFlow keeps one for each thread that has read


@pytest.mark.skipif(not STATM.exists(), reason=f"{STATM} is not there: memory is not counted.")
def test_datasets_with_functions_of_their_own_would_be_seen() -> None:
    found, rounds = soak.soak(MODULE, "planted", seconds=2.0)
    assert soak.growth(found, rounds)["objects"] >= 20  # memory, only after minutes
