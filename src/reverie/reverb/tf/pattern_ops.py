"""`PatternDataset`: the items of a StructuredWriter, straight from a dataset of steps.

All of it is TensorFlow's own ops: no Python runs per step, and no server is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb import structured_writer
from reverie.reverb.replay_sample import ReplaySample, SampleInfo
from reverie.reverb.tf.common import lists_to_tuples
from reverie.runtime.optional import require

tf: Any = require("tensorflow", "tf", "reverb.PatternDataset")


class PatternDataset(tf.data.Dataset):  # type: ignore[misc]
    """Applies patterns to a dataset of steps, as a `StructuredWriter` would.

    For each step come the items of all configs whose conditions hold, in the order of
    the configs; then, where the step ends its episode, those of the configs that wait
    for that. An item is a nest of tensors: a slice of the pattern is `[length, *shape]`,
    a single index `[*shape]`.

    Args:
        input_dataset: of steps, one after the other; episodes are to be flattened before.
        configs: from `structured_writer.create_config`. All of one pattern structure and
            table (the name alone; no table is asked). They are not changed.
        respect_episode_boundaries: whether steps of an ended episode are forgotten, so
            that no item spans two episodes.
        is_end_of_episode: TensorFlow function of one step, called as `Dataset.map` calls
            its function: whether the step is its episode's last. A scalar bool.

    Raises:
        InvalidArgumentError: no configs, configs of unequal structures or tables, columns
            that do not exist, or `is_end_of_episode` that returns no bool.
    """

    def __init__(
        self,
        input_dataset: Any,
        configs: Sequence[Any],
        respect_episode_boundaries: bool,
        is_end_of_episode: Callable[..., Any],
    ) -> None:
        signature = structured_writer.infer_signature(configs, input_dataset.element_spec)
        self._spec = lists_to_tuples(
            tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), signature)
        )
        self._input_dataset = input_dataset
        _check_end(input_dataset, is_end_of_episode)
        patterns = _Patterns(configs, tf.nest.flatten(input_dataset.element_spec))

        def with_end(*step: Any) -> Any:
            columns = tf.nest.flatten(step)
            ends = tf.reshape(is_end_of_episode(*step), ())
            return ends, tuple(columns[column.index] for column in patterns.columns)

        steps = input_dataset.map(with_end)
        self._result = patterns.items(steps, bool(respect_episode_boundaries)).map(
            tf.autograph.experimental.do_not_convert(
                lambda *flat: tf.nest.pack_sequence_as(self._spec, flat)
            )
        )
        super().__init__(self._result._variant_tensor)

    def _inputs(self) -> list[Any]:
        return [self._result]

    @property
    def element_spec(self) -> Any:
        """The spec of one item, as `structured_writer.infer_signature` has it."""
        return self._spec


def pattern_dataset_with_info(
    input_dataset: Any,
    configs: Sequence[Any],
    respect_episode_boundaries: bool,
    is_end_of_episode: Callable[..., Any],
) -> Any:
    """A `PatternDataset` whose elements are `ReplaySample`s, as those of tables are.

    Arguments and errors are those of `PatternDataset`; every field of `info` is 0.
    """
    items = PatternDataset(
        input_dataset, configs, respect_episode_boundaries, is_end_of_episode
    )

    def with_info(*data: Any) -> ReplaySample:
        # A tuple arrives as several arguments.
        whole = data if type(items.element_spec) is tuple else data[0]
        return ReplaySample(info=SampleInfo.zeros(), data=whole)

    return items.map(tf.autograph.experimental.do_not_convert(with_info))


def _check_end(input_dataset: Any, is_end_of_episode: Callable[..., Any]) -> None:
    found = input_dataset.map(is_end_of_episode).element_spec
    if not (isinstance(found, tf.TensorSpec) and found.is_compatible_with(_SCALAR_BOOL)):
        raise InvalidArgumentError(
            "Invalid `is_end_of_episode`: it must return one scalar `bool`, "
            f"found {found!r:.200}."
        )


_SCALAR_BOOL = tf.TensorSpec([], tf.bool)
# Dtypes that a condition on data understands; on others it never holds, as in Reverb.
_COMPARABLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    """A column of the steps that some config refers to."""

    index: int  # among the leaves of a step
    history: int  # how many of its latest values are needed
    spec: Any


@dataclasses.dataclass(frozen=True, slots=True)
class _Facts:
    """What conditions compare, at one step."""

    step_index: Any
    buffer_length: Any
    is_end_episode: bool
    values: dict[int, Any]  # of the step, by column index


class _Patterns:
    """The rules of a StructuredWriter in TensorFlow's ops."""

    def __init__(self, configs: Sequence[Any], specs: Sequence[Any]) -> None:
        self._configs = list(configs)
        self._least_lengths = _least_lengths(configs)
        history: dict[int, int] = {}
        for config in configs:
            for node in config.flat:
                age = abs(node.start if node.HasField("start") else node.stop)
                history[node.flat_source_index] = max(
                    history.get(node.flat_source_index, 0), age
                )
            for condition in config.conditions:
                if condition.WhichOneof("left") == "flat_source_index":
                    history.setdefault(condition.flat_source_index, 1)
        for index in history:
            if not 0 <= index < len(specs):
                raise InvalidArgumentError(
                    f"A config refers to column {index} of the steps, which have "
                    f"{len(specs)} columns."
                )
        self.columns = [
            _Column(index, history[index], specs[index]) for index in sorted(history)
        ]
        self._longest = max(history.values(), default=0)
        self._places = {column.index: place for place, column in enumerate(self.columns)}

    def items(self, steps: Any, forget: bool) -> Any:
        """Dataset of flat items, from one of `(ends, columns)`."""
        do_not_convert = tf.autograph.experimental.do_not_convert
        state = (
            tf.constant(0),  # steps in the buffers, were they unlimited
            tf.constant(0),  # index of the next step in its episode
            tf.zeros([len(self._configs)], tf.int32),  # steps since each config was applied
            tuple(_no_rows(column.spec) for column in self.columns),
        )
        applied = steps.scan(
            state, do_not_convert(lambda old, step: self._advance(old, *step, forget=forget))
        ).filter(do_not_convert(lambda chosen, _: tf.size(chosen) > 0))
        if len(self._configs) == 1:  # at most once a step
            return applied.map(do_not_convert(lambda _, buffers: self._build(0, buffers)))

        def build_all(chosen: Any, buffers: Any) -> Any:
            branches = [
                lambda number=number: self._build(number, buffers)
                for number in range(len(self._configs))
            ]
            return tf.data.Dataset.from_tensor_slices(chosen).map(
                do_not_convert(lambda number: tf.switch_case(number, branches))
            )

        return applied.flat_map(do_not_convert(build_all))

    def _advance(self, old: Any, ends: Any, values: Any, *, forget: bool) -> Any:
        """One step: the new state, and the configs to apply with what they apply to."""
        rows, step_index, since, buffers = old
        buffers = tuple(
            _pushed(buffer, value, column, rows)
            for buffer, value, column in zip(buffers, values, self.columns, strict=True)
        )
        since = since + 1
        rows = rows + 1
        by_index = {column.index: v for column, v in zip(self.columns, values, strict=True)}
        length = tf.minimum(rows, self._longest)
        never = tf.zeros([len(self._configs)], tf.bool)
        now = self._holding(_Facts(step_index, length, False, by_index), since)
        last = self._holding(_Facts(step_index, length, True, by_index), since)
        # Never twice at one step.
        last = tf.where(ends, last & ~now, never)
        chosen = tf.concat([tf.where(now)[:, 0], tf.where(last)[:, 0]], 0)
        since = tf.where(now | last, 0, since)
        step_index = tf.where(ends, 0, step_index + 1)
        kept = buffers
        if forget:
            rows = tf.where(ends, 0, rows)
            kept = tuple(b[: tf.where(ends, 0, tf.shape(b)[0])] for b in buffers)
        return (rows, step_index, since, kept), (tf.cast(chosen, tf.int32), buffers)

    def _holding(self, facts: _Facts, since: Any) -> Any:
        """For each config whether all its conditions hold: bool `[configs]`."""
        result = []
        for number, config in enumerate(self._configs):
            holds = [facts.buffer_length >= self._least_lengths[number]]
            holds += [_holds(c, facts, since[number]) for c in config.conditions]
            result.append(tf.reduce_all(tf.stack(holds)))
        return tf.stack(result)

    def _build(self, number: int, buffers: Any) -> tuple[Any, ...]:
        """The columns of one config's item."""
        columns = []
        for node in self._configs[number].flat:
            buffer = buffers[self._places[node.flat_source_index]]
            if not node.HasField("start"):
                columns.append(buffer[node.stop])
                continue
            step = node.step if node.HasField("step") else 1
            columns.append(buffer[node.start : node.stop or None : step])
            # infer_signature rounds the length of a slice with a step down, as Reverb's.
            if len(range(node.start, node.stop, step)) == (node.stop - node.start) // step:
                length = (node.stop - node.start) // step
                columns[-1].set_shape([length, *columns[-1].shape[1:]])
        return tuple(columns)


def _least_lengths(configs: Sequence[Any]) -> list[int]:
    """How full the buffers must be for each config; 0 where a condition of it sees to that.

    As in Reverb a config wants at least what those before it want.
    """
    least = []
    history = 0
    for config in configs:
        history = max([history, *(abs(min(node.start, node.stop)) for node in config.flat)])
        seen_to = any(c.buffer_length and c.ge >= history for c in config.conditions)
        least.append(0 if seen_to else history)
    return least


def _holds(condition: Any, facts: _Facts, since: Any) -> Any:
    """Whether one condition holds: a scalar bool."""
    left = condition.WhichOneof("left")
    if left == "flat_source_index":
        value = facts.values[condition.flat_source_index]
        if value.dtype.name not in _COMPARABLE or value.shape.num_elements() not in (1, None):
            return tf.constant(False)
        found = tf.cast(tf.reshape(value, [-1])[0], tf.int32)
    elif left == "step_index":
        found = facts.step_index
    elif left == "steps_since_applied":
        found = since
    elif left == "buffer_length":
        found = facts.buffer_length
    elif left == "is_end_episode":
        found = tf.constant(int(facts.is_end_episode))
    else:
        raise InvalidArgumentError(f"A condition compares nothing: {condition!s:.200}")
    how = condition.WhichOneof("cmp")
    if how == "eq":
        result = tf.equal(found, condition.eq)
    elif how == "ge":
        result = found >= condition.ge
    elif how == "mod_eq" and condition.mod_eq.mod > 0:
        remainder = tf.truncatemod(found, condition.mod_eq.mod)
        result = tf.equal(remainder, condition.mod_eq.eq)
    else:
        raise InvalidArgumentError(f"A condition cannot be compared: {condition!s:.200}")
    return ~result if condition.inverse else result


def _no_rows(spec: Any) -> Any:
    """An empty buffer for a column; unknown sizes are 0 until the first row comes."""
    if spec.shape.rank is None:
        raise InvalidArgumentError(
            "PatternDataset wants the number of dimensions of every column that it uses, "
            f"found {spec!r:.200}."
        )
    return tf.zeros([0, *(size or 0 for size in spec.shape)], spec.dtype)


def _pushed(buffer: Any, value: Any, column: _Column, rows: Any) -> Any:
    """The buffer with one row more, and the oldest dropped where it was full."""
    row = value[tf.newaxis]
    start = tf.maximum(0, tf.shape(buffer)[0] - (column.history - 1))

    def longer() -> Any:
        return tf.concat([buffer[start:], row], 0)

    if column.spec.shape.is_fully_defined():
        result = longer()
    else:  # an empty buffer does not know its sizes yet
        result = tf.cond(tf.equal(rows, 0), lambda: row, longer)
    result.set_shape([None, *column.spec.shape])
    return result
