"""Configs of structured writers: checked, and taken apart into plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reverie.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Node:
    """One column of a trajectory: cells of one column of the steps.

    Attributes:
        source: the column.
        offset: of the first cell, from the end of the history; negative.
        length: cells that the slice spans.
        step: between cells.
        squeeze: whether it is one cell, without a time axis.
    """

    source: int
    offset: int
    length: int
    step: int
    squeeze: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A config, checked and taken apart.

    Attributes:
        table: for which the trajectories are.
        nodes: columns of the trajectory.
        conditions: messages, all of which must hold.
        priority: the message.
        history: steps that must be there.
    """

    table: str
    nodes: tuple[Node, ...]
    conditions: tuple[Any, ...]
    priority: Any
    history: int


def parse(config: Any, position: int = 0) -> Pattern:
    """Checks a StructuredWriterConfig message and takes it apart.

    Raises:
        InvalidArgumentError: it is invalid, in Reverb's words; names `position`.
    """
    where = f"Invalid configuration at position {position}:"
    if not config.flat:
        raise InvalidArgumentError(f"{where} `flat` must not be empty.")
    if not config.table:
        raise InvalidArgumentError(f"{where} `table` must not be empty.")
    for problem in (
        *map(_node_problem, config.flat),
        *map(_condition_problem, config.conditions),
    ):
        if problem:
            raise InvalidArgumentError(f"{where} {problem}")
    if config.priority.WhichOneof("priority_fn") is None:
        raise InvalidArgumentError(
            f"{where} The Priority function undefined. Use create_config(), or "
            "priority=constant_priority_fn(1.0)."
        )
    nodes = tuple(map(_node, config.flat))
    return Pattern(
        table=config.table,
        nodes=nodes,
        conditions=tuple(config.conditions),
        priority=config.priority,
        history=max(-node.offset for node in nodes),
    )


def _node(node: Any) -> Node:
    if not node.HasField("start"):
        return Node(node.flat_source_index, node.stop, 1, 1, squeeze=True)
    length = node.stop - node.start  # no stop means the newest cell, and reads as 0
    step = node.step if node.HasField("step") else 1
    return Node(node.flat_source_index, node.start, length, step, squeeze=False)


def _node_problem(node: Any) -> str:
    start = node.start if node.HasField("start") else None
    stop = node.stop if node.HasField("stop") else None
    if node.flat_source_index < 0:
        return f"`flat_source_index` must be >= 0 but got {node.flat_source_index}."
    if start is None and stop is None:
        return "At least one of `start` and `stop` must be specified."
    if start is not None and start >= 0:
        return f"`start` must be < 0 but got {start}."
    if stop is not None and stop > 0:
        return f"`stop` must be <= 0 but got {stop}."
    if start is not None and stop is not None and start >= stop:
        return f"`stop` ({stop}) must be > `start` ({start}) when both are specified."
    if start is None and stop == 0:
        return "`stop` must be < 0 when `start` isn't set but got 0."
    if node.HasField("step") and start is None:
        return "`step` must only be set when `start` is set."
    if node.HasField("step") and node.step <= 0:
        return f"`step` must be > 0 but got {node.step}."
    return ""


def _condition_problem(condition: Any) -> str:
    left, comparison = condition.WhichOneof("left"), condition.WhichOneof("cmp")
    if left is None:
        return "Conditions must specify a value for `left`."
    if condition.flat_source_index < 0:
        return f"flat_source_index must be >= 0 but got {condition.flat_source_index}."
    if comparison == "mod_eq" and condition.mod_eq.mod <= 0:
        return f"`mod_eq.mod` must be > 0 but got {condition.mod_eq.mod}."
    if comparison == "mod_eq" and condition.mod_eq.eq < 0:
        return f"`mod_eq.eq` must be >= 0 but got {condition.mod_eq.eq}."
    if comparison is None:
        return "Conditions must specify a value for `cmp`."
    if condition.is_end_episode and (condition.eq != 1 or condition.inverse):
        return "Condition must use `eq=1` when using `is_end_episode`."
    return ""


def histories(patterns: Sequence[Pattern]) -> list[int]:
    """How many of its latest cells each column is asked for; 0: never used."""
    lengths: dict[int, int] = {}
    for pattern in patterns:
        for node in pattern.nodes:
            lengths[node.source] = max(lengths.get(node.source, 0), -node.offset)
        for condition in pattern.conditions:
            if condition.WhichOneof("left") == "flat_source_index":
                source = condition.flat_source_index
                lengths[source] = max(lengths.get(source, 0), 1)
    return [lengths.get(source, 0) for source in range(max(lengths) + 1)]
