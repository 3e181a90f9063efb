"""The writer that makes items by itself, and what its patterns are made of.

    step = {"observation": None, "reward": None}
    pattern = pattern_from_transform(step, lambda ref: {
        "last_two": ref["observation"][-2:],
        "reward": ref["reward"][-1],
    })
    config = create_config(pattern, "table", [Condition.step_index() % 2 == 0])
    writer = client.structured_writer([config])

Importing this module needs the package `protobuf`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.nests import structure
from reverie.nests.codec import TensorSpec
from reverie.proto import structured_value
from reverie.reverb.cc import patterns_pb2
from reverie.reverb.engine.writing.column_errors import in_reverbs_words, wrong_column
from reverie.reverb.trajectory_writer import ItemWriter

Config = patterns_pb2.StructuredWriterConfig
ConditionProto = patterns_pb2.Condition
# A nest of PatternNode messages; of helpers that make them; and what turns one into the other.
Pattern: TypeAlias = Any
ReferenceStep: TypeAlias = Any
PatternTransform: TypeAlias = Callable[[ReferenceStep], Pattern]


class StructuredWriter(ItemWriter):
    """Steps in, items by patterns out. For one thread at a time.

    Made by `Client.structured_writer`. Items are not compared with their table's
    signature, as in Reverb. `end_episode` first makes the items of the episode's end.
    """

    _WAY_OUT = "Make each its own with client.structured_writer()."

    def __init__(self, cpp_writer: Any) -> None:
        """Takes a pybind.StructuredWriter."""
        self._writer = cpp_writer
        self._data_structure: Any = None
        self._flat_data_length: int | None = None
        self._flatten = structure.Flattener()

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """Takes a step and makes the items that it completes.

        Args:
            data: any nest, of the same structure each time; a leaf may be None.
            partial_step: the step goes on with the next call, which may give leaves
                that were None in this one.

        Raises:
            ValueError: the number of leaves, a dtype or a shape is another than before,
                or an item's priority or TD error is impossible. Names the path.
            TypeError: a leaf cannot be stored.
            RuntimeError: a leaf was given before in this step; a config names a table
                that there is not; the server was stopped.
        """
        flat = self._flat(data)
        try:
            if partial_step:
                self._writer.AppendPartial(flat)
            else:
                self._writer.Append(flat)
        except (ValueError, TypeError) as error:
            column = wrong_column(error)
            if column is None:
                raise
            path = structure.flatten_with_path(self._data_structure)[column][0]
            raise in_reverbs_words(error, f"{column} (path={path})") from None

    @property
    def step_is_open(self) -> bool:
        """Whether the latest `append` was of a partial step."""
        is_open: bool = self._writer.step_is_open
        return is_open

    def _flat(self, data: Any) -> list[Any]:
        flat = self._flatten(data)
        if self._flat_data_length is None:
            self._flat_data_length = len(flat)
            self._data_structure = structure.map_structure(lambda _: None, data)
        if len(flat) != self._flat_data_length:
            raise ValueError(
                f"Flattened data has an unexpected length, got {len(flat)} but wanted "
                f"{self._flat_data_length}."
            )
        return flat


class _RefNode:
    """Stands for a column; indexing it makes a `PatternNode`."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            key = slice(key)
        elif not isinstance(key, slice):
            raise ValueError(
                f"Key must be int or slice by got {key} (type {type(key)}). A pattern takes "
                "x[-1] or x[-5:-1:2]."
            )
        return patterns_pb2.PatternNode(
            flat_source_index=self._index, start=key.start, stop=key.stop, step=key.step
        )


def create_reference_step(step_structure: Any) -> ReferenceStep:
    """The nest of the steps with helpers as leaves: index one to make a `PatternNode`."""
    leaves = structure.flatten(step_structure)
    return structure.unflatten_as(step_structure, [_RefNode(i) for i in range(len(leaves))])


def pattern_from_transform(
    step_structure: Any, transform: Callable[[ReferenceStep], Pattern]
) -> Pattern:
    """The pattern that `transform` makes of a reference step.

    Args:
        step_structure: nest of the steps.
        transform: from `create_reference_step(step_structure)` to the pattern.
    """
    return transform(create_reference_step(step_structure))


def create_config(
    pattern: Pattern, table: str, conditions: Sequence[Any] = (), priority: Any = None
) -> Any:
    """What a structured writer needs for one kind of item, a StructuredWriterConfig.

    Args:
        pattern: nest of `PatternNode`s: the item's data.
        table: name of the table.
        conditions: all of which must hold; see `Condition`.
        priority: of the items; None: 1. See `constant_priority_fn` and `td_error`.

    Raises:
        TypeError: a leaf of the pattern is no `PatternNode`.
        SpecError: the pattern has dicts with other keys than str.
    """
    nodes = structure.flatten(pattern)
    for path, node in structure.flatten_with_path(pattern):
        if not isinstance(node, patterns_pb2.PatternNode):
            raise TypeError(
                f"The pattern's leaf at {path} is a {type(node).__name__}, wanted a "
                "PatternNode: index a leaf of the reference step, as in ref['a'][-1]."
            )
    return Config(
        flat=nodes,
        pattern_structure=structured_value.encode(
            structure.map_structure(lambda _: None, pattern)
        ),
        table=table,
        priority=constant_priority_fn(1.0) if priority is None else priority,
        conditions=conditions,
    )


def unpack_pattern(config: Any) -> Pattern:
    """The pattern of a config, a nest of `PatternNode`s; a list if it has no structure."""
    if not config.HasField("pattern_structure"):
        return list(config.flat)
    nest = structured_value.decode(config.pattern_structure)
    return structure.unflatten_as(nest, config.flat)


def infer_signature(configs: Sequence[Any], step_spec: Any) -> Any:
    """The signature of a table that these configs make items for.

    Args:
        configs: all of one table.
        step_spec: nest of the steps; leaves have a dtype and a shape.

    Returns:
        Nest of specs: `tf.TensorSpec` where TensorFlow is loaded, else
        `reverie.nests.codec.TensorSpec`. An extent in which the configs
        differ is None.

    Raises:
        ValueError: no configs; of several tables or structures; of dtypes or shapes that
            do not go together.
    """
    if not configs:
        raise ValueError("At least one config must be provided.")
    if any(config.pattern_structure != configs[0].pattern_structure for config in configs):
        raise ValueError("All configs must have exactly the same pattern_structure.")
    tables = {config.table for config in configs}
    if len(tables) > 1:
        raise ValueError(
            "All configs must target the same table but provided configs included "
            f"{', '.join(sorted(tables))}."
        )
    leaves = structure.flatten(step_spec)

    def spec_of(path: structure.Path, *nodes: Any) -> Any:
        return _merged(path, [_leaf(leaves, node, path) for node in nodes], nodes)

    return structure.map_structure_with_path(spec_of, *map(unpack_pattern, configs))


def _leaf(leaves: Sequence[Any], node: Any, path: structure.Path) -> Any:
    if not 0 <= node.flat_source_index < len(leaves):
        raise InvalidArgumentError(
            f"The pattern at {path} takes leaf {node.flat_source_index} of the steps; "
            f"step_spec has {len(leaves)}."
        )
    return leaves[node.flat_source_index]


def _merged(path: structure.Path, leaves: Sequence[Any], nodes: Sequence[Any]) -> Any:
    dtypes = [leaf.dtype for leaf in leaves]
    if any(dtype != dtypes[0] for dtype in dtypes):
        raise ValueError(
            f"Configs produce trajectories with multiple dtypes at {path}. Got {dtypes}."
        )
    shapes = [_shape(leaf, node) for leaf, node in zip(leaves, nodes, strict=True)]
    first = shapes[0]
    if any(len(s) != len(first) or s[1:] != first[1:] for s in shapes) and any(
        len(s) != len(first) or len(first) > 1 for s in shapes
    ):
        raise ValueError(
            f"Configs produce trajectories with incompatible shapes at {path}. Got {shapes}."
        )
    merged = first if all(s == first for s in shapes) else (None, *first[1:])
    name = "/".join(map(str, path))
    tensorflow: Any = sys.modules.get("tensorflow")
    if hasattr(tensorflow, "TensorSpec"):
        return tensorflow.TensorSpec(merged, tensorflow.dtypes.as_dtype(dtypes[0]), name)
    return TensorSpec(merged, np.dtype(dtypes[0]), name)


def _shape(leaf: Any, node: Any) -> tuple[int | None, ...]:
    shape = tuple(leaf.shape)
    if not node.HasField("start"):
        return shape
    step = node.step if node.HasField("step") else 1
    return (len(range(node.start, node.stop, step)), *shape)


class _ConditionBuilder:
    """The left side of a condition; comparing it makes a `Condition` message."""

    # What is compared is made, not looked up.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, left: dict[str, Any], mod: int | None = None) -> None:
        self._left = left
        self._mod = mod

    def __mod__(self, divisor: int) -> _ConditionBuilder:
        return _ConditionBuilder(self._left, divisor)

    def __eq__(self, value: int) -> Any:  # type: ignore[override]
        if self._mod:
            return ConditionProto(
                **self._left, mod_eq=ConditionProto.ModuloEq(mod=self._mod, eq=value)
            )
        return ConditionProto(**self._left, eq=value)

    def __ne__(self, value: int) -> Any:  # type: ignore[override]
        return _inverted(self == value)

    def __ge__(self, value: int) -> Any:
        if self._mod is not None:
            raise InvalidArgumentError(
                "A remainder can be compared with == and != only: (x % 3) == 0."
            )
        return ConditionProto(**self._left, ge=value)

    def __gt__(self, value: int) -> Any:
        return self >= value + 1

    def __lt__(self, value: int) -> Any:
        return _inverted(self >= value)

    def __le__(self, value: int) -> Any:
        return _inverted(self > value)


def _inverted(condition: Any) -> Any:
    condition.inverse = True
    return condition


class Condition:
    """What must hold for an item to be made: one of these compared with an integer.

    `==`, `!=`, `>`, `>=`, `<` and `<=`, or `% n == m` and `% n != m`.
    """

    @staticmethod
    def step_index() -> Any:
        """Index of the latest step within its episode, from 0."""
        return _ConditionBuilder({"step_index": True})

    @staticmethod
    def steps_since_applied() -> Any:
        """Steps since this config last made an item."""
        return _ConditionBuilder({"steps_since_applied": True})

    @staticmethod
    def is_end_episode() -> Any:
        """Holds in `end_episode` only; not to be compared."""
        return ConditionProto(is_end_episode=True, eq=1)

    @staticmethod
    def data(step_structure: Any) -> Any:
        """The value of a leaf of the latest step, an integer or bool without axes.

        Returns:
            The nest of the steps; compare a leaf of it.
        """
        leaves = structure.flatten(step_structure)
        builders = [_ConditionBuilder({"flat_source_index": i}) for i in range(len(leaves))]
        return structure.unflatten_as(step_structure, builders)


def constant_priority_fn(value: float) -> Any:
    """The same priority for every item."""
    return patterns_pb2.Priority(
        constant_fn=patterns_pb2.Priority.ConstantPriorityFn(value=value)
    )


def td_error(
    max_priority_weight: float,
    step_structure: Any,
    get_field_from_step_fn: Callable[[Any], Any],
) -> Any:
    """Priorities from the TD errors of an item's steps (R2D2).

    That is `w * max(abs(e)) + (1 - w) * mean(abs(e))`. Source: Kapturowski et al.,
    Recurrent Experience Replay in Distributed Reinforcement Learning, 2019.

    Args:
        max_priority_weight: w.
        step_structure: nest of the steps.
        get_field_from_step_fn: the leaf with the TD errors, from a nest of the steps.
            The pattern must take it too, once; the last one counts. Where it does not,
            the priority is 0.

    Raises:
        TypeError: the function returns no leaf.
    """
    leaves = structure.flatten(step_structure)
    index = get_field_from_step_fn(
        structure.unflatten_as(step_structure, list(range(len(leaves))))
    )
    if not isinstance(index, int):
        raise TypeError(
            f"get_field_from_step_fn returned {index!r:.200}, wanted one leaf of the step."
        )
    return patterns_pb2.Priority(
        td_error=patterns_pb2.Priority.TDError(
            max_priority_weight=max_priority_weight, flat_source_index=index
        )
    )
