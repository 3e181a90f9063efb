"""What `get_dataset` and `as_dataset` yield: TF-Agents' elements, and only stored data."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.support import SPEC, episode, new_manager, row, same, windows  # noqa: E402
from tf_agents.replay_buffers import reverb_utils  # noqa: E402

import reverie  # noqa: E402
from reverie.runtime.pace import Pace  # noqa: E402
from reverie.samplers import Prioritized  # noqa: E402

INFO_DTYPES = {
    "key": tf.uint64,
    "probability": tf.float64,
    "table_size": tf.int64,
    "priority": tf.float64,
    "times_sampled": tf.int32,
}


@pytest.mark.parametrize("batch", [None, 1, 5])
@pytest.mark.parametrize("num_steps", [None, 4, 2, 1])
@pytest.mark.parametrize("preprocess", [None, lambda data: data])
def test_shapes_and_dtypes_are_static_and_those_of_the_spec(
    tmp_path: Path, batch: int | None, num_steps: int | None, preprocess: Any
) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(12)], 4)
    dataset = replay_buffer.as_dataset(batch, num_steps, sequence_preprocess_fn=preprocess)
    leading = (num_steps or 4,) if batch is None else (batch, num_steps or 4)
    data, info = dataset.element_spec
    tf.nest.map_structure(
        lambda spec, wanted: (
            tf.TensorSpec(leading + wanted.shape, wanted.dtype).is_compatible_with(spec)
            or pytest.fail(f"{spec} for {wanted}")
        ),
        data,
        SPEC,
    )
    assert type(data) is type(SPEC)
    assert all(spec.shape == leading for spec in info)
    assert {name: spec.dtype for name, spec in info._asdict().items()} == INFO_DTYPES
    for found, spec in zip(
        tf.nest.flatten(next(iter(dataset))), tf.nest.flatten(dataset.element_spec), strict=True
    ):
        assert (found.shape, found.dtype) == (spec.shape, spec.dtype)


def test_every_kind_of_column_arrives(tmp_path: Path) -> None:
    steps = {
        "brain": tf.constant([[0.5], [2.0], [-3.0]], tf.bfloat16),
        "half": tf.constant([0.5, 1.5, 2.5], tf.float16),
        "complex": tf.constant([1 + 2j, 2j, 3.0], tf.complex64),
        "nothing": tf.zeros((3, 0), tf.uint16),
        "large": tf.constant([2**64 - 1, 2**63, 7], tf.uint64),
        "yes": tf.constant([True, False, True]),
    }
    spec = {name: tf.TensorSpec(leaf.shape[1:], leaf.dtype) for name, leaf in steps.items()}
    manager = reverie.ReplayBufferManager(spec, 9, tmp_path, sequence_length=3)
    _, observer = manager.create_replay_buffer()
    for index in range(3):
        observer({name: leaf[index] for name, leaf in steps.items()}, last=index == 2)
    for num_steps in (3, 1):
        data, _ = next(iter(manager.get_dataset(1, num_steps)))
        assert {name: leaf.shape for name, leaf in data.items()} == {
            name: (1, num_steps, *leaf.shape) for name, leaf in spec.items()
        }
    assert same(row(next(iter(manager.get_dataset(2)))[0], 1), steps)


def test_the_manager_means_whole_items_in_batches_of_64(tmp_path: Path) -> None:
    manager, _, _ = new_manager(tmp_path, [episode(12)], 3)
    data, info = next(iter(manager.get_dataset()))
    assert data.observation["camera"][0].shape == (64, 3, 2, 2)
    assert isinstance(info, reverie.SampleInfo)
    assert next(iter(manager.get_dataset(7, 1)))[0].reward.shape == (7, 1)


@pytest.mark.parametrize("batch", [None, 6])
@pytest.mark.parametrize("preprocess", [None, lambda data: data])
def test_every_element_is_a_stored_window_bit_for_bit(
    tmp_path: Path, batch: int | None, preprocess: Any
) -> None:
    episodes = [episode(9, 0), episode(3, 1), episode(5, 2)]
    _, replay_buffer, _ = new_manager(tmp_path, episodes, 3)
    stored = list(itertools.chain.from_iterable(windows(steps, 3) for steps in episodes))
    by_reward = {float(window.reward[0]): window for window in stored}
    by_key = dict(replay_buffer.iter_items())
    assert len(by_key) == len(stored)
    seen = set()
    for data, info in replay_buffer.as_dataset(batch, sequence_preprocess_fn=preprocess).take(
        40
    ):
        for index in range(batch or 1):
            found = row(data, index) if batch else data
            key = np.asarray(info.key)[index, 0] if batch else np.asarray(info.key)[0]
            assert same(found, by_reward[float(found.reward[0])])
            assert same(found, by_key[int(key)])
            seen.add(int(key))
    assert len(seen) > len(stored) // 2
    assert not same(stored[0], stored[1])  # the comparison can fail


def test_info_tells_of_the_item_and_repeats_along_time(tmp_path: Path) -> None:
    sampler = Prioritized()
    _, replay_buffer, _ = new_manager(tmp_path, [episode(11)], 4, sampler=sampler)
    replay_buffer.update_priorities(list(dict(replay_buffer.iter_items())), 0.5)
    counts: dict[int, int] = {}
    for _, info in replay_buffer.as_dataset(5).take(10):
        fields = [np.asarray(field) for field in info]
        assert all((field == field[:, :1]).all() for field in fields)
        key, probability, size, priority, times = (field[:, 0] for field in fields)
        assert (probability == 1 / 8).all()
        assert (size == 8).all()
        assert (priority == 0.5).all()
        for one, count in zip(key.tolist(), times.tolist(), strict=True):
            counts[one] = counts.get(one, 0) + 1
            assert count == counts[one]
    assert replay_buffer.update_priorities(info.key, info.priority) == 0  # as they come


def pieces_by_fetch(dataset: Any, batches: int) -> list[set[tuple[int, int, float]]]:
    """For each run of `batches` batches, its (key, times sampled, first reward) triples."""
    found = []
    iterator = iter(dataset)
    for _ in range(6):
        group: set[tuple[int, int, float]] = set()
        for data, info in itertools.islice(iterator, batches):
            rows = np.asarray(info.key)[:, 0], np.asarray(info.times_sampled)[:, 0]
            group |= set(
                zip(
                    *(r.tolist() for r in rows),
                    np.asarray(data.reward)[:, 0].tolist(),
                    strict=True,
                )
            )
        found.append(group)
    return found


def test_every_piece_of_each_fetched_item_appears_once(tmp_path: Path, prompt: None) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(20)], 6)
    first_reward = {key: float(d.reward[0]) for key, d in replay_buffer.iter_items()}
    for group in pieces_by_fetch(replay_buffer.as_dataset(5, 2), batches=3):
        fetches = {(key, times) for key, times, _ in group}
        assert len(fetches) == 5
        assert group == {
            (key, times, first_reward[key] + offset)
            for key, times in fetches
            for offset in (0, 2, 4)
        }


def test_pieces_are_shuffled(tmp_path: Path) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(20)], 10)
    data, info = next(iter(replay_buffer.as_dataset(8, 1)))
    keys = np.asarray(info.key)[:, 0]
    rewards = np.asarray(data.reward)[:, 0]
    assert len(set(keys.tolist())) > 1
    assert (np.diff(rewards) != 1).any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_steps": 6}, "num_steps > sequence_length"),
        ({"num_steps": 3}, "not a multiple of num_steps"),
        ({"num_steps": 0}, "num_steps"),
        ({"sample_batch_size": 0}, "sample_batch_size"),
        ({"sample_batch_size": 2.0}, "sample_batch_size"),
        (
            {"sample_batch_size": 2, "num_parallel_calls": 3},
            "num_parallel_calls cannot be bigger than sample_batch_size",
        ),
        ({"timeout_s": -1}, "timeout"),
        ({"timeout_s": float("nan")}, "timeout"),
        ({"single_deterministic_pass": True}, "Uniform.*Fifo"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tmp_path: Path, arguments: dict[str, Any], text: str
) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(6)], 4)
    with pytest.raises(reverie.errors.InvalidArgumentError, match=text):
        replay_buffer.as_dataset(**arguments)


@pytest.mark.parametrize("calls", [None, tf.data.AUTOTUNE, 1, 2])
def test_num_parallel_calls_changes_nothing_but_speed(
    tmp_path: Path, calls: int | None
) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(6)], 4)
    for preprocess in (None, lambda data: data):
        dataset = replay_buffer.as_dataset(2, 2, calls, preprocess)
        assert next(iter(dataset))[0].reward.shape == (2, 2)


def test_a_spec_with_lists_is_refused_and_tuples_are_not(tmp_path: Path) -> None:
    leaf = tf.TensorSpec((), tf.float32)
    for spec, fine in (({"a": [leaf]}, False), ([leaf], False), ({"a": (leaf,)}, True)):
        manager = reverie.ReplayBufferManager(spec, 10, tmp_path)
        manager.create_replay_buffer()
        if fine:
            manager.get_dataset(2)
        else:
            with pytest.raises(ValueError, match="list"):
                manager.get_dataset(2)


NUMBER = reverie.ArraySpec((2,), np.float32)
NO_ELEMENTS: dict[str, tuple[Any, str]] = {
    "None": ({"a": NUMBER, "b": (NUMBER, None)}, r"data_spec\['b'\]\[1\] is None"),
    "keys": ((NUMBER, {"a": NUMBER, 1: NUMBER}), r"data_spec\[1\] has keys.*'a', 1"),
    **{
        name: ({"x": {"eight": reverie.ArraySpec((2,), np.dtype(name))}}, f"'x/eight'.*{name}")
        for name in ("float8_e5m2", "float8_e4m3fn", "float8_e4m3b11fnuz", "int4", "uint4")
    },
}


@pytest.mark.parametrize("name", NO_ELEMENTS)
@pytest.mark.parametrize("batch", [None, 2])
def test_a_spec_that_tf_data_cannot_take_is_refused_where_it_is(
    tmp_path: Path, name: str, batch: int | None
) -> None:
    spec, text = NO_ELEMENTS[name]
    manager = reverie.ReplayBufferManager(spec, 10, tmp_path)
    replay_buffer, _ = manager.create_replay_buffer()
    with pytest.raises(reverie.errors.InvalidArgumentError, match=text):
        replay_buffer.as_dataset(batch)


class Pair(NamedTuple):
    """What a preprocessing function makes of a Trajectory."""

    mean: Any
    steps: Any


def returns_to_go(data: Any) -> Any:
    """Needs the whole item: sums the rewards from each step to the item's end."""
    total = tf.cumsum(data.reward, reverse=True)
    if total[0] < 0:  # AutoGraph must have read this
        total = -total
    return Pair(tf.repeat(tf.reduce_mean(data.reward), tf.shape(total)[0]), {"to_go": total})


@pytest.mark.parametrize(("batch", "num_steps"), [(None, None), (3, None), (None, 2), (3, 2)])
def test_preprocessing_sees_whole_items_and_may_change_the_structure(
    tmp_path: Path, batch: int | None, num_steps: int | None
) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(12)], 4)
    wanted = {
        key: (data.reward.mean(), np.cumsum(data.reward[::-1])[::-1])
        for key, data in replay_buffer.iter_items()
    }
    dataset = replay_buffer.as_dataset(batch, num_steps, sequence_preprocess_fn=returns_to_go)
    starts = set()
    for data, info in dataset.take(30):
        assert isinstance(data, Pair)
        rows = zip(
            np.asarray(info.key).reshape(-1, num_steps or 4)[:, 0].tolist(),
            np.asarray(data.mean).reshape(-1, num_steps or 4)[:, 0].tolist(),
            np.asarray(data.steps["to_go"]).reshape(-1, num_steps or 4),
            strict=True,
        )
        for key, mean, to_go in rows:
            assert mean == wanted[key][0]
            start = int(np.flatnonzero(wanted[key][1] == to_go[0])[0])
            assert (to_go == wanted[key][1][start : start + len(to_go)]).all()
            starts.add(start)
    assert starts == set(range(0, 4, num_steps or 4))


def test_preprocessing_may_shorten_an_item_before_it_is_cut(tmp_path: Path) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(12)], 6)
    dataset = replay_buffer.as_dataset(
        4, 2, sequence_preprocess_fn=lambda data: tf.nest.map_structure(lambda x: x[:5], data)
    )
    first_reward = {key: float(d.reward[0]) for key, d in replay_buffer.iter_items()}
    offsets = {
        float(reward) - first_reward[int(key)]
        for data, info in dataset.take(10)
        for reward, key in zip(data.reward.numpy()[:, 0], info.key.numpy()[:, 0], strict=True)
    }
    assert offsets == {0, 2}  # the remainder, one step, is dropped


@pytest.mark.parametrize("preprocess", [None, lambda data: data])
def test_the_same_seed_gives_the_same_elements(tmp_path: Path, preprocess: Any) -> None:
    def rewards(seed: int) -> list[float]:
        _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4, seed=seed)
        dataset = replay_buffer.as_dataset(4, 2, sequence_preprocess_fn=preprocess)
        return [float(r) for data, _ in dataset.take(8) for r in data.reward.numpy().flat]

    assert rewards(5) == rewards(5)
    assert rewards(5) != rewards(6)


class _Hurried(Pace):
    """As beside busy threads: each call brings another number of batches."""

    def end(self) -> None:
        self.batches = self.batches % self._most + 1


@pytest.mark.parametrize("num_steps", [2, 4, None])
def test_the_elements_do_not_depend_on_how_many_a_call_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int | None
) -> None:
    def rewards() -> list[float]:
        _, replay_buffer, _ = new_manager(tmp_path, [episode(30)], 4, seed=5)
        dataset = replay_buffer.as_dataset(4, num_steps)
        return [float(r) for data, _ in dataset.take(40) for r in data.reward.numpy().flat]

    alone = rewards()
    monkeypatch.setattr("reverie.tf.source.Pace", _Hurried)
    assert rewards() == alone


def test_items_of_another_length_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    manager, buffer, _ = new_manager(tmp_path, sequence_length=3)
    observer = reverb_utils.ReverbAddTrajectoryObserver(buffer.py_client, "uniform_table", 2)
    for step in episode(4):
        observer(step)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"has 2 steps.*, wanted 3.*iter_items"
    ):
        next(iter(manager.get_dataset(4)))


def chi_square(keys: np.ndarray[Any, Any], num_items: int) -> float:
    """The chance that fair draws are at least so uneven."""
    counts = np.unique(keys, return_counts=True)[1]
    counts = np.pad(counts, (0, num_items - len(counts)))
    return float(stats.chisquare(counts).pvalue)


@pytest.mark.parametrize(("batch", "num_steps"), [(64, None), (64, 1), (None, None)])
def test_items_are_drawn_fairly(
    tmp_path: Path, batch: int | None, num_steps: int | None
) -> None:
    # Seeded; a fair sampler fails one seed in a thousand.
    _, replay_buffer, _ = new_manager(tmp_path, [episode(51)], 2, seed=11)
    dataset = replay_buffer.as_dataset(batch, num_steps)
    draws = {
        (key, times)  # the pieces of one item are one draw
        for _, info in dataset.take(150 if batch else 3000)
        for key, times in zip(
            info.key.numpy().flat, info.times_sampled.numpy().flat, strict=True
        )
    }
    keys = np.array(sorted(key for key, _ in draws))
    assert chi_square(keys, 50) > 1e-3
    biased = np.concatenate([keys, keys[keys < np.median(keys)][: len(keys) // 8]])
    assert chi_square(biased, 50) < 1e-3  # the test sees an eighth too many


def test_it_says_that_it_never_ends_unless_it_may(tmp_path: Path) -> None:
    _, replay_buffer, _ = new_manager(tmp_path, [episode(6)], 2)
    for batch in (None, 3):
        dataset = replay_buffer.as_dataset(batch)
        assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    ending = replay_buffer.as_dataset(3, timeout_s=1.0)
    assert ending.cardinality() == tf.data.UNKNOWN_CARDINALITY
