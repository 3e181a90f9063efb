"""Data specs: what is taken, how its columns are named, and what is refused where."""

from __future__ import annotations

import collections
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from reverie import ArraySpec, ReplayBufferManager, Trajectory, reverb
from reverie.errors import ReverieError, SpecError
from reverie.nests.nest import Nest

F4 = ArraySpec((), np.dtype(np.float32))


def columns(spec: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Path -> (shape, dtype) in column order."""
    return {c.path: (c.spec.shape, c.spec.dtype.name) for c in Nest(spec).columns}


def refusal(spec: Any) -> str:
    """The message with which a spec is refused; fails where it is taken."""
    with pytest.raises(SpecError) as caught:
        Nest(spec)
    assert len(str(caught.value)) < 700
    return str(caught.value)


# What is taken -----------------------------------------------------------------


def test_array_specs_and_numpy_values_are_leaves() -> None:
    spec = {"a": ArraySpec((3,), np.float32), "b": np.zeros((2, 1)), "c": np.int8(1)}
    assert columns(spec) == {
        "a": ((3,), "float32"),
        "b": ((2, 1), "float64"),
        "c": ((), "int8"),
    }


@pytest.mark.parametrize("shape", [(3,), [3], (np.int64(3),), np.array([3])])
@pytest.mark.parametrize("dtype", [np.float32, "float32", np.dtype(">f4"), "<f4"])
def test_shapes_and_dtypes_may_be_spelled_in_many_ways(shape: Any, dtype: Any) -> None:
    spec = ArraySpec(shape, dtype)
    assert (spec.shape, spec.dtype, spec.nbytes) == ((3,), np.dtype(np.float32), 12)
    assert spec.dtype.isnative
    assert hash(spec) == hash(ArraySpec((3,), np.dtype(np.float32)))


@pytest.mark.parametrize(
    "name",
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
    "complex128".split(),
)
def test_every_numeric_dtype_is_stored_as_it_is(name: str, tmp_path: Any) -> None:
    with ReplayBufferManager({"x": np.zeros((2, 2), name)}, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        value = np.array([[1, 0], [1, 1]]).astype(name)
        observer({"x": value})
        stored = manager.gather_all()["x"]
        assert (stored.dtype, stored.shape) == (np.dtype(name), (1, 1, 2, 2))
        assert np.array_equal(stored[0, 0], value)


def test_bfloat16_is_stored_and_float32_cast_into_it(tmp_path: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    spec = ArraySpec((2,), ml_dtypes.bfloat16)
    with ReplayBufferManager(spec, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer(np.array([1.5, -2], ml_dtypes.bfloat16))
        observer(np.array([3, 4], np.float32))
        assert manager.gather_all()[:, 0].astype(np.float64).tolist() == [[1.5, -2], [3, 4]]


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz"],
)
def test_scalars_of_foreign_dtypes_are_their_values(name: str, tmp_path: Any) -> None:
    """NumPy keeps the value of such a scalar where only its own type knows."""
    dtype = getattr(pytest.importorskip("ml_dtypes"), name)
    values = list(np.arange(4).astype(dtype))
    with ReplayBufferManager(ArraySpec((), dtype), 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        for value in values:
            observer(value)
        assert manager.gather_all().ravel().astype(float).tolist() == [0, 1, 2, 3]
    server = reverb.Server([reverb.Table.queue("q", 5)], port=None)
    writer = server.localhost_client().trajectory_writer(4)
    for value in values:
        writer.append({"x": value})
    writer.create_item("q", 1.0, {"x": writer.history["x"][-4:]})
    (found,) = server.localhost_client().sample("q", 1, emit_timesteps=False)
    assert found.data[0].astype(float).tolist() == [0, 1, 2, 3]
    server.stop()


def test_every_kind_of_node_gives_paths() -> None:
    class Pair(NamedTuple):
        left: Any
        right: Any

    spec = {"b": (F4, [F4, F4]), "a": Pair(F4, {"x": F4})}
    assert list(columns(spec)) == ["a/left", "a/right/x", "b/0", "b/1/0", "b/1/1"]
    assert list(columns(F4)) == ["value"]
    assert list(columns(collections.OrderedDict([("z", F4), ("a", F4)]))) == ["a", "z"]


def test_slashes_and_tildes_in_keys_are_escaped_so_that_paths_stay_unique() -> None:
    assert list(columns({"a/b": F4, "a": {"b": F4}, "c~1d": F4, "c/d": F4})) == [
        "a/b",
        "a~1b",
        "c~1d",
        "c~01d",
    ]


@pytest.mark.parametrize("keys", [(1, 2), (0, -1), ("b", 1, (1, 2)), (None, "x"), ("é☃", " ")])
def test_any_hashable_keys_can_be_stored_and_come_back(keys: Any, tmp_path: Any) -> None:
    with ReplayBufferManager(dict.fromkeys(keys, F4), 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer({key: np.float32(i) for i, key in enumerate(keys)})
        manager.save()
        manager.load_replay_buffer()
        found = manager.gather_all()
        assert {key: float(found[key][0, 0]) for key in keys} == {
            key: i for i, key in enumerate(keys)
        }


def test_none_and_empty_nodes_hold_no_column_and_come_back(tmp_path: Any) -> None:
    spec = {"a": F4, "none": None, "policy_info": (), "empty": {}}
    with ReplayBufferManager(spec, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer({"a": np.float32(1), "none": None, "policy_info": (), "empty": {}})
        found = manager.gather_all()
        assert (found["none"], found["policy_info"], found["empty"]) == (None, (), {})


def test_a_zero_sized_leaf_beside_others_is_stored(tmp_path: Any) -> None:
    with ReplayBufferManager({"a": np.zeros((0, 3)), "b": F4}, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer({"a": np.zeros((0, 3)), "b": np.float32(1)})
        assert manager.sample(2)[0]["a"].shape == (2, 1, 0, 3)


# Frameworks --------------------------------------------------------------------


def test_dm_env_specs_are_leaves() -> None:
    specs = pytest.importorskip("dm_env.specs")
    spec = {
        "observation": specs.BoundedArray((3,), np.float32, 0, 1, "obs"),
        "action": specs.DiscreteArray(4),
        "reward": specs.Array((), float, "reward"),
    }
    assert columns(spec) == {
        "action": ((), "int32"),
        "observation": ((3,), "float32"),
        "reward": ((), "float64"),
    }
    assert "'x/text'" in refusal({"x": {"text": specs.StringArray((2,))}})


@pytest.mark.parametrize("name", ["Text", "Sequence", "Graph", "OneOf"])
def test_spaces_whose_samples_differ_in_shape_are_named(name: str) -> None:
    spaces = pytest.importorskip("gymnasium.spaces")
    box = spaces.Box(0, 1, (2,))
    space = {
        "Text": lambda: spaces.Text(8),
        "Sequence": lambda: spaces.Sequence(box),
        "Graph": lambda: spaces.Graph(box, spaces.Discrete(3)),
        "OneOf": lambda: spaces.OneOf([box, spaces.Discrete(3)]),
    }[name]()
    message = refusal(spaces.Dict({"x": spaces.Tuple([box, space])}))
    assert f"leaf 'x/1': found a {name} space, whose samples differ in shape" in message
    assert "padded" in message


def test_jax_shape_structs_are_leaves_and_jax_arrays_are_steps(tmp_path: Any) -> None:
    jax = pytest.importorskip("jax")
    spec = {"o": jax.ShapeDtypeStruct((2,), np.float32), "a": jax.ShapeDtypeStruct((), "int32")}
    with ReplayBufferManager(spec, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer({"o": jax.numpy.arange(2.0), "a": jax.numpy.int32(7)})
        found = manager.gather_all()
        assert (found["o"].tolist(), found["a"].tolist()) == ([[[0, 1]]], [[7]])


class TensorShape:
    """Stands for TensorFlow's: iterates over extents, raises for an unknown rank."""

    def __init__(self, extents: tuple[int | None, ...] | None) -> None:
        self.extents = extents

    def __iter__(self) -> Any:
        if self.extents is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter(self.extents)

    def __repr__(self) -> str:
        return f"TensorShape({self.extents})"


def tensor_spec(extents: tuple[int | None, ...] | None, dtype: Any = np.float32) -> Any:
    """Stands for a tf.TensorSpec, whose dtype is TensorFlow's own class."""
    return SimpleNamespace(
        shape=TensorShape(extents), dtype=SimpleNamespace(as_numpy_dtype=dtype), name="x"
    )


def test_tensor_specs_are_leaves() -> None:
    spec = {"a": tensor_spec((2, 3)), "b": tensor_spec((), np.int64)}
    assert columns(spec) == {"a": ((2, 3), "float32"), "b": ((), "int64")}


@pytest.mark.parametrize("extents", [None, (None,), (None, 3), (3, None)])
def test_unknown_dimensions_are_refused_with_the_path(extents: Any) -> None:
    message = refusal({"o": {"x": tensor_spec(extents)}})
    assert "'o/x'" in message
    assert f"TensorShape({extents})" in message


def test_tensor_specs_of_strings_are_refused() -> None:
    assert "'o'" in refusal({"o": tensor_spec((), object)})


@pytest.fixture
def spaces() -> Any:
    return pytest.importorskip("gymnasium").spaces


def test_samples_of_a_nested_gymnasium_space_are_steps(spaces: Any, tmp_path: Any) -> None:
    space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "nested": spaces.Dict({"flag": spaces.MultiBinary(3), "n": spaces.Discrete(5)}),
            "pair": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,)))),
        }
    )
    space.seed(1)
    with ReplayBufferManager({"obs": space, "reward": F4}, 50, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        samples = [space.sample() for _ in range(20)]
        for sample in samples:
            observer({"obs": sample, "reward": 0.5})
        found = manager.gather_all()["obs"]
    assert [s["nested"]["n"] for s in samples] == found["nested"]["n"][:, 0].tolist()
    for position, sample in enumerate(samples):
        assert np.array_equal(found["camera"][position, 0], sample["camera"])
        assert np.array_equal(found["pair"][1][position, 0], sample["pair"][1])
    assert columns(space)["pair/0"] == ((2,), "int64")


@pytest.mark.parametrize("name", ["Box", "Discrete", "MultiBinary", "MultiDiscrete"])
def test_simple_gymnasium_spaces_are_leaves(spaces: Any, name: str, tmp_path: Any) -> None:
    arguments = {"Box": (0, 1, (3,)), "MultiDiscrete": ([2, 3],)}.get(name, (4,))
    space = getattr(spaces, name)(*arguments)
    with ReplayBufferManager(space, 5, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        sample = space.sample()
        observer(sample)
        assert np.array_equal(manager.gather_all()[0, 0], sample)


@pytest.mark.parametrize("name", ["Text", "Sequence", "Graph", "OneOf"])
def test_gymnasium_spaces_of_changing_shape_are_refused(spaces: Any, name: str) -> None:
    box = spaces.Box(0, 1)
    arguments = {"Text": (3,), "Sequence": (box,), "Graph": (box, None), "OneOf": ([box, box],)}
    if not hasattr(spaces, name):
        pytest.skip(f"this gymnasium has no {name}")
    space = getattr(spaces, name)(*arguments[name])
    assert "'obs/k'" in refusal({"obs": spaces.Dict({"k": space})})


# What is refused -----------------------------------------------------------------

BAD_LEAVES = {
    "object": np.array([None]),
    "str": np.array(["a"]),
    "bytes": np.array([b"a"]),
    "datetime": np.zeros(2, "M8[s]"),
    "timedelta": np.zeros(2, "m8[s]"),
    "structured": np.zeros(2, [("a", "i4")]),
    "longdouble": np.zeros(2, np.longdouble),
    "float": 1.0,
    "int": 1,
    "bool": True,
    "text": "abc",
    "a type": np.float32,
    "a dtype": np.dtype(np.float32),
    "set": {1, 2},
    "object()": object(),
    "no shape": SimpleNamespace(shape=None, dtype=np.dtype("f4")),
    "no dtype": SimpleNamespace(shape=(2,), dtype=None),
    "unknown dtype": SimpleNamespace(shape=(2,), dtype="no such dtype"),
    "negative": SimpleNamespace(shape=(2, -1), dtype="f4"),
    "float extent": SimpleNamespace(shape=(2.0,), dtype="f4"),
    "bool extent": SimpleNamespace(shape=(True,), dtype="f4"),
    "text as shape": SimpleNamespace(shape="23", dtype="f4"),
    "one number": SimpleNamespace(shape=3, dtype="f4"),
    "31 axes": SimpleNamespace(shape=(1,) * 31, dtype="f4"),
}


@pytest.mark.parametrize("what", BAD_LEAVES)
def test_a_bad_leaf_is_refused_with_its_path(what: str) -> None:
    assert "'observation/0/cam~1era'" in refusal(
        {"ok": F4, "observation": [{"cam/era": BAD_LEAVES[what]}]}
    )


def test_the_check_of_refusals_sees_a_spec_that_is_taken() -> None:
    with pytest.raises(pytest.fail.Exception):
        refusal({"a": F4})


@pytest.mark.parametrize("spec", [{}, (), [], None, np.zeros((0, 2)), {"a": (), "b": None}])
def test_a_spec_without_data_is_refused(spec: Any) -> None:
    assert "no leaf with data" in refusal(spec)


def test_two_leaves_of_one_path_are_refused() -> None:
    assert "path '1'" in refusal({1: F4, "1": F4})
    assert "path 'value'" in refusal({"": F4, "value": F4})


def test_a_record_beyond_numpys_limit_is_refused_and_names_its_widest_leaf() -> None:
    assert "'big'" in refusal({"big": ArraySpec((2**31,), "f4"), "small": F4})
    assert "'x'" in refusal({"x": ArraySpec((2**40, 2**40), "f8")})


def test_the_manager_refuses_a_bad_spec_at_once(tmp_path: Any) -> None:
    with pytest.raises(SpecError, match="'x'"):
        ReplayBufferManager({"x": 1.0}, 10, tmp_path)
    assert issubclass(SpecError, ReverieError)
    assert issubclass(SpecError, ValueError)


# Trajectories ----------------------------------------------------------------------


def trajectory_spec(step_type: ArraySpec) -> Trajectory:
    return Trajectory(step_type, F4, F4, (), step_type, F4, F4)


def test_a_trajectory_with_int32_step_types_knows_its_boundary() -> None:
    nest = Nest(trajectory_spec(ArraySpec((), np.int32)))
    assert nest.boundary is not None
    assert nest.columns[nest.boundary.step_type].path == "step_type"
    assert nest.columns[nest.boundary.next_step_type].path == "next_step_type"


@pytest.mark.parametrize("step_type", [ArraySpec((), np.int64), ArraySpec((1,), np.int32)])
def test_other_step_types_are_asked_through_is_boundary(step_type: ArraySpec) -> None:
    assert Nest(trajectory_spec(step_type)).boundary is None
