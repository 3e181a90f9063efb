"""What `reverie.tf` refuses, by name: arguments, buffers, leaves, versions; and `tensors`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.door_support import SPEC, filled

import reverie
from reverie import ArraySpec, ReplayBuffer, samplers, views
from reverie.errors import InvalidArgumentError

tf: Any = pytest.importorskip("tensorflow", reason="needs TensorFlow: nox -s tf")
door: Any = importlib.import_module("reverie.tf")
framework: Any = importlib.import_module("reverie.tf.framework")

NUMBER = ArraySpec((2,), np.float32)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"timeout_s": -1}, "timeout"),
        ({"timeout_s": float("nan")}, "timeout"),
        ({"view": "Transitions"}, r"view: found 'Transitions', wanted one of reverie\.views"),
        ({"view": views.Episodes(5)}, "this buffer's items are"),
        ({"view": views.Windows(5)}, "not every item"),
        ({"view": views.Transitions(stack={"observation": 3})}, "keeps 0 frames"),
        ({"beta": 0.4}, "beta: found the sampler"),
    ],
)
def test_what_cannot_work_is_refused_at_once(arguments: dict[str, Any], text: str) -> None:
    with filled() as buffer, pytest.raises(InvalidArgumentError, match=text):
        door.dataset(buffer, **{"batch_size": 4, **arguments})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"beta": 1.5}, "beta: found 1.5"),
        ({"beta": lambda number: -1.0}, r"beta: found -1\.0"),
        ({"beta": 0.4, "normalize": "table"}, "normalize: found 'table'"),
    ],
)
def test_weights_that_cannot_be_are_refused_at_once(
    arguments: dict[str, Any], text: str
) -> None:
    with filled(sampler=samplers.Prioritized()) as buffer:
        with pytest.raises(InvalidArgumentError, match=text):
            door.dataset(buffer, 4, **arguments)


def test_a_beta_that_goes_wrong_later_ends_reading_with_its_message() -> None:
    with filled(sampler=samplers.Prioritized()) as buffer:
        dataset = door.dataset(buffer, 4, beta=lambda number: number / 2)
        with pytest.raises(tf.errors.OpError, match=r"beta: found 1\.5"):
            list(dataset)


@pytest.mark.parametrize("what", ["manager", "buffer", "mixture", "path"])
def test_another_thing_than_a_buffer_of_steps_is_refused_with_the_way_out(
    what: str, tmp_path: Path
) -> None:
    manager = reverie.ReplayBufferManager({"x": NUMBER}, 10, tmp_path)
    replay_buffer, _ = manager.create_replay_buffer()
    with filled() as own:
        found = {
            "manager": manager,
            "buffer": replay_buffer,
            "mixture": reverie.mix({"a": own}),
            "path": tmp_path,
        }[what]
        with pytest.raises(InvalidArgumentError, match=r"buffer: found .*get_dataset\(\)"):
            door.dataset(found, 4)
        with pytest.raises(InvalidArgumentError, match=r"use reverie\.tf\.dataset\(\)"):
            own.as_dataset(4)
    manager.close()


@pytest.mark.parametrize(
    "settings",
    [{"limiter": reverie.limiters.Staleness(4, 1)}, {"group": "version", "group_size": 2}],
    ids=["staleness", "groups"],
)
def test_episodes_that_are_used_once_are_not_used_ahead(settings: dict[str, Any]) -> None:
    spec = {**SPEC, "version": ArraySpec((), np.int64)}
    view = views.Episodes(max_length=5)
    with ReplayBuffer(spec, 10, view=view, version="version", **settings) as buffer:
        with pytest.raises(InvalidArgumentError, match=r"used once.*reverie\.tf\.tensors"):
            door.dataset(buffer, 4)


NO_ELEMENTS: dict[str, tuple[Any, str]] = {
    "None": ({"a": NUMBER, "b": (NUMBER, None)}, r"data\['extra'\]\['b'\]\[1\] is None"),
    "list": ({"a": [NUMBER]}, r"data\['extra'\]\['a'\] is a Python list"),
    "keys": ({"a": NUMBER, 1: NUMBER}, r"data\['extra'\] has keys of several types.*'a', 1"),
    **{
        name: ({"x": ArraySpec((2,), name)}, f"'extra/x' has the dtype {name}")
        for name in ("float8_e5m2", "float8_e4m3fn", "float8_e4m3b11fnuz", "int4", "uint4")
    },
}


@pytest.mark.parametrize("name", NO_ELEMENTS)
def test_a_spec_that_tf_data_cannot_take_is_refused_where_it_is(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    extra, text = NO_ELEMENTS[name]
    with ReplayBuffer({**SPEC, "extra": extra}, 10) as buffer:
        with pytest.raises(InvalidArgumentError, match=text):
            door.dataset(buffer, 4)


def test_a_function_of_map_is_a_way_out_and_may_be_none() -> None:
    types: Any = pytest.importorskip("ml_dtypes")
    spec = {**SPEC, "small": ArraySpec((2,), types.float8_e5m2)}
    with ReplayBuffer(spec, 10) as buffer:
        step = {"observation": np.zeros(3), "action": 1, "reward": 0.5, "small": np.ones(2)}
        after = {"observation": np.zeros(3)}
        buffer.add_step(step, after, terminated=False, truncated=False)
        wide = views.Transitions().map(lambda data: {"small": data["small"].astype("f4")})
        data, _ = next(iter(door.dataset(buffer, 4, view=wide)))
        assert data["small"].numpy().tolist() == [[1, 1]] * 4
        listed = views.Transitions().map(lambda data: {"x": [data["reward"]]})
        with pytest.raises(InvalidArgumentError, match=r"data\['x'\] is a Python list"):
            door.dataset(buffer, 4, view=listed)


@pytest.mark.parametrize("beta", [None, 0.4])
def test_a_batch_in_tensors_has_its_values_and_keeps_its_keys(beta: float | None) -> None:
    with filled(sampler=samplers.Prioritized()) as buffer:
        batch = buffer.sample(16, beta=beta)
        found = door.tensors(batch, "/CPU:0")
        assert isinstance(found, door.TensorBatch)
        assert found.data.keys() == batch.data.keys()
        for key, leaf in batch.data.items():
            assert isinstance(found.data[key], tf.Tensor)
            assert found.data[key].dtype == leaf.dtype
            assert np.array_equal(found.data[key], leaf)
        assert found.key is batch.key
        before = found.reward.numpy().tolist()
        batch.reward[:] = -1  # its own to change
        assert found.reward.numpy().tolist() == before
        assert "CPU:0" in found.observation.device
        assert buffer.update_priorities(found.key, tf.abs(found.reward) + 1) == 0


def test_tensors_of_every_dtype_that_tensorflow_has() -> None:
    types: Any = pytest.importorskip("ml_dtypes")
    found: Any = {
        name: np.arange(4).astype(getattr(types, name, name))
        for name in ("bfloat16", "float8_e5m2", "int4", "uint16", "complex64", "bool", "uint64")
    }
    with filled() as buffer:
        batch = reverie.Batch({"x": found}, buffer.sample(4).info)
        for name, tensor in door.tensors(batch).data["x"].items():
            assert tensor.dtype.name == name
            assert np.array_equal(tensor.numpy(), found[name])
        odd = reverie.Batch({"x": {"when": np.zeros(4, "datetime64[s]")}}, batch.info)
        with pytest.raises(InvalidArgumentError, match=r"Leaf 'x/when': found datetime64"):
            door.tensors(odd)


def test_a_version_that_the_tests_have_not_met_is_told_with_those_they_have() -> None:
    assert framework.untested("2.15.1") == ""
    assert framework.untested("2.21.0") == ""
    assert framework.untested(tf.__version__) == ""
    for version in ("2.1", "2.16.2", "3.0.0rc1"):
        assert f"found TensorFlow {version}" in framework.untested(version)
        assert "2.15 and 2.21" in framework.untested(version)


def test_the_warning_comes_with_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf, "__version__", "2.99.0")
    with pytest.warns(UserWarning, match=r"TensorFlow 2\.99\.0.*2\.15 and 2\.21"):
        importlib.reload(framework)
