"""`reverie.tf.dataset`: what `sample` gives, as a dataset that runs a little ahead."""

from __future__ import annotations

import gc
import importlib
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest
from tests import door_support
from tests.project.test_layers import loaded_by
from tests.tf_support import HINDSIGHT, VIEWS, filled, same, set_clock

import reverie
from reverie import samplers, views
from reverie.errors import ClosedError, InvalidArgumentError
from reverie.runtime import waiting
from reverie.runtime.pace import Pace
from reverie.tables.settings import TableSettings

tf: Any = pytest.importorskip("tensorflow", reason="needs TensorFlow: nox -s tf")
door: Any = importlib.import_module("reverie.tf")
generator: Any = importlib.import_module("reverie.tf.generator")

FEW, MANY = 15, 99  # batches ahead, as `dataset` promises


def read(dataset: Any, count: int) -> list[Any]:
    return list(itertools.islice(dataset, count))


def test_the_door_loads_no_other_framework() -> None:
    found = loaded_by("import reverie.tf")
    assert "tensorflow" in found
    assert not found & {"torch", "tf_agents", "reverb"}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [1, 6])
def test_elements_are_the_batches_of_sample_one_after_the_other(name: str, size: int) -> None:
    view, own = VIEWS[name]
    with (
        filled(view=own) as buffer,
        filled(view=own) as twin,
        filled(view=own, seed=4) as other,
    ):
        for found in read(door.dataset(buffer, size, view=view), 10):
            wanted = twin.sample(size, view=view)
            assert same(found, tuple(wanted))
        assert not same(found, tuple(other.sample(size, view=view)))  # it can fail


@pytest.mark.parametrize("name", VIEWS)
def test_shapes_and_dtypes_are_static_and_those_of_the_spec(name: str) -> None:
    view, own = VIEWS[name]
    with filled(view=own) as buffer:
        dataset = door.dataset(buffer, 5, view=view)
        data, info = dataset.element_spec
        wanted = optree.tree_map(
            lambda leaf: tf.TensorSpec((5, *leaf.shape), leaf.dtype), buffer.item_spec(view)
        )
        assert data == wanted
        assert isinstance(info, reverie.SampleInfo)
        assert [field.shape for field in info] == [(5,)] * 5
        element = next(iter(dataset))
    tf.nest.assert_same_structure(element, dataset.element_spec)
    for found, spec in zip(
        tf.nest.flatten(element), tf.nest.flatten(dataset.element_spec), strict=True
    ):
        assert (found.shape, found.dtype) == (spec.shape, spec.dtype)


@pytest.mark.parametrize("longest", [4, 30])
def test_episodes_are_padded_to_their_max_length(longest: int) -> None:
    view = views.Episodes(max_length=longest)
    with filled(view=view) as buffer, filled(view=view) as twin:
        for data, info in read(door.dataset(buffer, 3), 6):
            batch = twin.sample(3)
            assert same(info, batch.info)
            steps = batch.data["mask"].shape[1]
            alone = {key: data.pop(key) for key in ("length", "next_observation")}
            assert same(alone, {key: batch.data.pop(key) for key in alone})
            assert data["mask"].shape == (3, longest)
            for key, value in data.items():
                leaves, structure = optree.tree_flatten(value)
                real = optree.tree_unflatten(structure, [leaf[:, :steps] for leaf in leaves])
                assert same(real, batch.data[key])
                assert not any(np.asarray(leaf)[:, steps:].any() for leaf in leaves)
        assert buffer.item_spec()["reward"].shape == (longest,)


@pytest.mark.parametrize("view", [views.Episodes(), views.Episodes(5, ragged=True)])
def test_views_whose_batches_have_no_one_shape_are_refused_with_the_way_out(view: Any) -> None:
    with filled(view=view) as buffer:
        for call in (lambda: door.dataset(buffer, 3), buffer.item_spec):
            with pytest.raises(InvalidArgumentError, match=r"Take Episodes\(max_length="):
                call()
        assert len(read(door.dataset(buffer, 3, view=views.Episodes(5)), 2)) == 2


@pytest.mark.parametrize("normalize", ["buffer", "batch", None])
@pytest.mark.parametrize("beta", [0.5, reverie.weights.LinearSchedule(0.4, 1.0, 5)], ids=str)
def test_weights_are_those_of_sample(beta: Any, normalize: Any) -> None:
    sampler = samplers.Prioritized(0.7)
    with filled(sampler=sampler) as buffer, filled(sampler=sampler) as twin:
        for each in (buffer, twin):
            each.update_priorities(each.item_info()["key"], np.arange(17) % 5 + 0.1)
        dataset = door.dataset(buffer, 4, beta=beta, normalize=normalize)
        for number, found in enumerate(read(dataset, 8)):
            now = beta(number) if callable(beta) else beta
            assert same(found, tuple(twin.sample(4, beta=now, normalize=normalize)))
            assert found[1]._fields[-1] == "weight"
            assert normalize != "batch" or np.max(found[1].weight) == 1


def test_priorities_come_back_from_tensorflow() -> None:
    with filled(sampler=samplers.Prioritized(1.0)) as buffer:
        for data, info in read(door.dataset(buffer, 6, beta=1.0), 3):
            assert buffer.update_priorities(info.key, tf.abs(data["reward"]) + 7) == 0
        largest = float(tf.reduce_max(data["reward"])) + 7
        assert largest <= buffer.item_info()["priority"].max() < 7 + 17


class _Hurried(Pace):
    """As beside busy threads: each call brings another number of batches."""

    def end(self) -> None:
        self.batches = self.batches % self._most + 1


@pytest.mark.parametrize("view", [None, HINDSIGHT])
def test_the_elements_do_not_depend_on_how_many_a_call_brings(
    monkeypatch: pytest.MonkeyPatch, view: Any
) -> None:
    def rewards() -> list[float]:
        with filled() as buffer:
            found = read(door.dataset(buffer, 5, view=view), 60)
        return [float(r) for data, _ in found for r in data["reward"].numpy()]

    alone = rewards()
    monkeypatch.setattr("reverie.tf.source.Pace", _Hurried)
    assert rewards() == alone


def batches_ahead(**settings: Any) -> int:
    """Batches that a dataset has sampled, most of all the time, and nobody has read."""
    most = 0
    with filled(**settings) as buffer:
        iterator = iter(door.dataset(buffer, 3))
        for count in range(1, 100):
            next(iterator)
            if count % 20 == 0:
                before = -1
                while (samples := buffer.info().samples) != before:  # until it rests
                    before = samples
                    time.sleep(0.1)
                most = max(most, samples // 3 - count)
    return most


def test_it_keeps_to_the_few_and_never_runs_further_ahead_than_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, 0)
    assert 1 <= batches_ahead() <= FEW
    set_clock(monkeypatch, 1.0)
    assert FEW < batches_ahead() <= MANY


def test_where_samples_depend_on_priorities_dear_calls_bring_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, 1.0)
    assert batches_ahead(sampler=samplers.Prioritized()) <= FEW
    monkeypatch.setattr(TableSettings, "may_run_ahead", True)
    assert batches_ahead(sampler=samplers.Prioritized()) > FEW  # that would be seen


def test_a_call_brings_8_mib_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 1.0)
    with filled() as buffer:
        item = sum(
            int(np.prod(leaf.shape)) * leaf.dtype.itemsize
            for leaf in optree.tree_leaves(buffer.item_spec())  # type: ignore[arg-type]
        )
    monkeypatch.setattr("reverie.tf.source._MAX_NBYTES_PER_CALL", 5 * 3 * item)
    assert batches_ahead() <= 3 * 5 + 3


def test_a_fetch_that_waits_too_long_ends_the_dataset() -> None:
    with filled(()) as buffer:
        assert read(door.dataset(buffer, 3, timeout_s=0.25), 5) == []
        assert read(door.dataset(buffer, 3, timeout_s=0), 5) == []
    with filled() as buffer:
        iterator = iter(door.dataset(buffer, 3, timeout_s=0.1))
        assert len(read(iterator, 30)) == 30
        buffer.clear()
        assert len(list(iterator)) <= FEW  # what was sampled before


def test_items_that_leave_once_sampled_come_once_and_then_it_ends() -> None:
    with filled(max_times_sampled=1) as buffer:
        found = list(door.dataset(buffer, 3, timeout_s=0.2))
        keys = np.concatenate([info.key for _, info in found])
        assert len(found) == 5  # of 17 steps
        assert len(set(keys.tolist())) == 15
        assert len(buffer) == 2


def test_a_long_wait_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_FIRST_REPORT_S", 0.25)
    with filled(()) as buffer, caplog.at_level(logging.WARNING, "reverie"):
        assert read(door.dataset(buffer, 3, timeout_s=0.9), 1) == []
    assert len(caplog.messages) == 2  # each time it has doubled
    assert "A dataset has waited" in caplog.messages[0]
    assert "holds 0 " in caplog.messages[0]


def test_it_says_that_it_never_ends_unless_it_may() -> None:
    with door_support.filled() as buffer:
        dataset = door.dataset(buffer, 3)
        assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
        ending = door.dataset(buffer, 3, timeout_s=1.0)
        assert ending.cardinality() == tf.data.UNKNOWN_CARDINALITY


def test_started_on_an_empty_buffer_it_waits_for_the_first_step() -> None:
    with filled(()) as buffer, filled((4,)) as other:
        iterator = iter(door.dataset(buffer, 4))
        steps = next(other.episodes())

        def collect() -> None:
            time.sleep(0.3)
            for n in range(4):
                now, after = (
                    {"observation": optree.tree_map(lambda a, k=k: a[k], steps["observation"])}
                    for k in (n, n + 1 if n < 3 else n)
                )
                done = {key: steps[key][n] for key in ("action", "reward")}
                buffer.add_step({**now, **done}, after, terminated=n == 3, truncated=False)

        thread = threading.Thread(target=collect)
        start = time.monotonic()
        thread.start()
        data, _ = next(iterator)
        assert time.monotonic() - start >= 0.3
        assert data["reward"].shape == (4,)
        thread.join()


def test_a_closed_buffer_says_so_before_and_after() -> None:
    buffer = filled()
    iterator = iter(door.dataset(buffer, 3))
    next(iterator)
    buffer.close()
    with pytest.raises(ClosedError):
        door.dataset(buffer, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="ClosedError"):
        read(iterator, 200)  # what was sampled before comes first


def test_it_works_inside_tf_function() -> None:
    with filled() as buffer:

        @tf.function
        def made_inside() -> Any:
            total = tf.constant(0.0)
            for data, info in door.dataset(buffer, 4).take(3):
                assert info.key.shape == (4,)
                total += tf.reduce_sum(data["discount"] * 0 + 1)
            return total

        @tf.function
        def over_an_iterator(iterator: Any) -> Any:
            data, _ = next(iterator)
            return tf.shape(data["action"])

        iterator = iter(door.dataset(buffer, 4))
        for _ in range(3):
            assert made_inside() == 12
            assert over_an_iterator(iterator).numpy().tolist() == [4, 2]
            gc.collect()


def test_made_again_it_traces_nothing_and_adds_nothing_to_tensorflow() -> None:
    def kept() -> int:
        return len(getattr(tf.compat.v1.get_default_graph(), "_py_funcs_used_in_graph", ()))

    def use(size: int) -> None:
        with filled() as buffer:
            next(iter(door.dataset(buffer, size, view=views.Transitions(2, 0.5))))

    use(13)
    before, misses = kept(), generator._functions.cached.cache_info().misses
    for _ in range(5):
        use(13)
    assert (kept(), generator._functions.cached.cache_info().misses) == (before, misses)
    use(14)  # another shape
    assert (kept(), generator._functions.cached.cache_info().misses) == (before + 3, misses + 1)


DERIVED: dict[str, Callable[[Any], Any]] = {
    "map": lambda a: a.map(lambda data, info: data["reward"]),
    "unbatch": lambda a: a.map(lambda data, info: data["reward"]).unbatch().batch(3),
    "zip": lambda a: tf.data.Dataset.zip((a, a)).map(lambda x, y: x[0]["reward"]),
    "repeat": lambda a: a.take(2).repeat().map(lambda data, info: data["reward"]),
}


@pytest.mark.parametrize("how", DERIVED)
def test_what_is_derived_keeps_the_buffer_and_nothing_keeps_it_longer(how: str) -> None:
    buffer = filled()
    table = weakref.ref(buffer.table)
    dataset = DERIVED[how](door.dataset(buffer, 3))
    iterator = iter(dataset)
    del dataset, buffer
    for _ in range(10):
        gc.collect()
        assert next(iterator).shape == (3,)
    assert table() is not None
    del iterator
    end = time.monotonic() + 20  # a thread of TensorFlow's may still be at it
    while table() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert table() is None
