"""Hypothesis strategies: data specs, steps that match them, programs of operations.

A *program* is a buffer's settings and a list of operations on it, as plain values:
the same program can run on a real buffer and on `reverie.testing.model.ModelTable`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import optree

from reverie.errors import MissingDependencyError
from reverie.nests.specs import ArraySpec
from reverie.nests.trajectory import FIRST, LAST, MID, Trajectory

try:
    from hypothesis import strategies as st  # type: ignore[import-not-found,unused-ignore]
except ImportError as error:
    raise MissingDependencyError(
        "reverie.testing.strategies needs Hypothesis. Run: pip install hypothesis"
    ) from error

STORABLE_DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(code) for code in ("?", *"bhilqBHILQ", *"efd", *"FD")
)


class Pair(NamedTuple):
    """A named tuple for specs."""

    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Settings:
    """What a program's buffer is made with; the names are the manager's."""

    capacity: int
    sequence_length: int
    stride_length: int
    pad_end_of_episodes: bool
    tile_end_of_episodes: bool


@dataclass(frozen=True, slots=True)
class Add:
    """Adds `count` steps, and ends the episode with the last of them, if `last`."""

    count: int
    last: bool


@dataclass(frozen=True, slots=True)
class AddMismatch:
    """Tries to add a step that does not match; nothing may change."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Resets the observer, which may refuse to write the cached steps."""

    write_cached_steps: bool


@dataclass(frozen=True, slots=True)
class Reopen:
    """Closes the observer and opens it again."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Clears the buffer."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes items, among them perhaps some that are gone.

    Attributes:
        picks: any numbers; taken modulo the items ever inserted.
    """

    picks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UpdatePriorities:
    """Sets priorities; `picks` as in `Delete`, one priority for each."""

    picks: tuple[int, ...]
    priorities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Samples a batch, of pieces of the `piece`-th divisor of the sequence length."""

    batch_size: int
    piece: int


@dataclass(frozen=True, slots=True)
class SaveAndLoad:
    """Saves, loads, compares the two buffers and goes on with the loaded one."""


_OnObserver = Add | AddMismatch | Reset | Reopen
Operation = _OnObserver | Clear | Delete | UpdatePriorities | Sample | SaveAndLoad


@dataclass(frozen=True, slots=True)
class Program:
    """Settings, a data spec of `ArraySpec` leaves, and what to do."""

    settings: Settings
    data_spec: Any
    operations: tuple[Operation, ...]


def shapes(max_dims: int = 3, max_extent: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes from `()` up to `max_dims` dimensions; extents may be zero."""
    return st.lists(st.integers(0, max_extent), max_size=max_dims).map(tuple)


def array_specs() -> st.SearchStrategy[ArraySpec]:
    """`ArraySpec`s of every storable dtype."""
    return st.builds(ArraySpec, shapes(), st.sampled_from(STORABLE_DTYPES))


def nests(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A bare leaf, or dicts, tuples, lists and named tuples of them, nested; None, too.

    The keys of one dict differ as text.
    """
    # Keys that look like paths, and like escapes of them, must not be confused.
    names = st.text("ab/~ é0", max_size=3) | st.sampled_from(["value", "", "~0", "~1", "a/b"])
    keys = names | st.integers(-2, 2)

    def dicts(key: st.SearchStrategy[Any], inner: st.SearchStrategy[Any]) -> Any:
        pairs = st.lists(st.tuples(key, inner), max_size=3, unique_by=lambda pair: str(pair[0]))
        return pairs.map(dict)

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(inner, max_size=3)
        pairs = st.builds(Pair, inner, inner)
        ordered = dicts(names, inner).map(OrderedDict)
        return st.one_of(
            dicts(names, inner), dicts(keys, inner), ordered, lists, lists.map(tuple), pairs
        )

    return st.recursive(leaves | st.none(), deeper, max_leaves=6)


def data_specs() -> st.SearchStrategy[Any]:
    """Nests of `ArraySpec`s that can be stored: with data, and no two paths alike."""

    def can_be_stored(spec: Any) -> bool:
        # A bare leaf has the path `value`, and a nameless one would have it, too.
        nameless = isinstance(spec, dict) and {"", "value"} <= set(spec)
        return not nameless and any(leaf.nbytes for leaf in optree.tree_leaves(spec))

    return nests(array_specs()).filter(can_be_stored)


def trajectory_specs() -> st.SearchStrategy[Trajectory]:
    """Specs whose steps know their boundary."""
    scalar = ArraySpec((), np.dtype(np.int32))
    number = ArraySpec((), np.dtype(np.float32))
    return st.builds(
        Trajectory,
        step_type=st.just(scalar),
        observation=nests(array_specs()),
        action=nests(array_specs()),
        policy_info=st.just(()),
        next_step_type=st.just(scalar),
        reward=st.just(number),
        discount=st.just(number),
    )


def values(spec: ArraySpec) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Arrays of just this dtype and shape, with any bits: NaN payloads, -0.0, infinities."""
    return st.binary(min_size=spec.nbytes, max_size=spec.nbytes).map(
        lambda data: _from_bytes(data, spec)
    )


def steps(data_spec: Any) -> st.SearchStrategy[Any]:
    """Steps that match `data_spec`, a nest of `ArraySpec`s, in just its dtypes."""
    leaves, treespec = optree.tree_flatten(data_spec)
    return st.tuples(*map(values, leaves)).map(treespec.unflatten)


def numbered_step(data_spec: Any, number: int, last: bool = False) -> Any:
    """A step of bits that follow from `number` and look random, each leaf unlike the next.

    Args:
        data_spec: nest of `ArraySpec`s.
        number: not negative.
        last: makes a Trajectory a boundary.
    """
    leaves, treespec = optree.tree_flatten(data_spec)
    bits = np.random.default_rng(number)
    step = treespec.unflatten([_from_bytes(bits.bytes(leaf.nbytes), leaf) for leaf in leaves])
    if isinstance(step, Trajectory):
        kinds = (LAST, FIRST) if last else (MID, MID)
        step_type, next_step_type = (np.asarray(kind, np.int32) for kind in kinds)
        step = step._replace(step_type=step_type, next_step_type=next_step_type)
    return step


def settings() -> st.SearchStrategy[Settings]:
    """Capacity 1 to 20, windows of 1 to 5 steps, strides of 1 to 4, all three paddings."""
    paddings = st.sampled_from([(False, False), (True, False), (True, True)])
    numbers = st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4))
    return st.builds(lambda a, b: Settings(*a, *b), numbers, paddings)


def operations(*, with_disk: bool = True) -> st.SearchStrategy[Operation]:
    """Any one operation, mostly additions; `with_disk` adds SaveAndLoad."""
    picks = st.lists(st.integers(0, 99), min_size=1, max_size=5).map(tuple)
    numbers = st.floats(0, 1e6).map(abs)  # -0.0 is no priority worth telling from 0.0

    def priorities(chosen: tuple[int, ...]) -> st.SearchStrategy[UpdatePriorities]:
        found = st.lists(numbers, min_size=len(chosen), max_size=len(chosen)).map(tuple)
        return st.builds(UpdatePriorities, st.just(chosen), found)

    # Several kinds of one operation make it likelier; the rare ones share a branch.
    choices: list[Any] = [
        st.builds(Add, st.integers(1, 3), st.just(False)),
        st.builds(Add, st.integers(1, 9), st.just(True)),
        st.builds(Add, st.integers(1, 30), st.booleans()),
        st.builds(Reset, st.booleans()),
        st.sampled_from([AddMismatch(), Reopen(), Clear()]),
        st.builds(Delete, picks),
        picks.flatmap(priorities),
        st.builds(Sample, st.integers(1, 8), st.integers(0, 3)),
    ]
    return st.one_of(*choices, *([st.just(SaveAndLoad())] if with_disk else []))


def programs(
    *,
    with_disk: bool = True,
    min_operations: int = 1,
    max_operations: int = 25,
    data_spec: Any = None,
) -> st.SearchStrategy[Program]:
    """Programs for a table and its observer.

    Args:
        with_disk: with saving and loading, which cost milliseconds each.
        min_operations: the fewest operations; most programs have few more.
        max_operations: the most operations.
        data_spec: of all programs; None draws one, with or without step types.
    """
    specs = data_specs() | trajectory_specs() if data_spec is None else st.just(data_spec)
    one = operations(with_disk=with_disk)
    several = st.lists(one, min_size=min_operations, max_size=max_operations).map(tuple)
    return st.builds(Program, settings(), specs, several)


def _from_bytes(data: bytes, spec: ArraySpec) -> np.ndarray[Any, Any]:
    if spec.dtype.kind == "b":  # a bool byte is 0 or 1
        array = np.frombuffer(data, np.uint8) & 1
        return array.astype(np.bool_).reshape(spec.shape)
    return np.array(np.frombuffer(data, spec.dtype).reshape(spec.shape))
