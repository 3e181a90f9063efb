"""Configs of structured writers: checked once, and taken apart for quick use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reverie.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Slice:
    """One column of an item: cells of one column of the steps.

    Attributes:
        column: index among the leaves of a step.
        ages: of the cells, oldest first; 1 is the newest step's.
        squeeze: whether it is one cell, without a time axis.
    """

    column: int
    ages: range
    squeeze: bool


@dataclass(frozen=True, slots=True)
class Test:
    """A condition: `compare` of an integer.

    Attributes:
        left: "step_index", "steps_since_applied", "buffer_length", or
            "flat_source_index": the value of `column`.
        column: index among the leaves of a step; 0 for other lefts.
        compare: whether the integer is right.
    """

    left: str
    column: int
    compare: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class TDError:
    """A priority made from the TD errors in an item: w * max + (1 - w) * mean.

    Attributes:
        column: that holds them, index among the leaves of a step.
        weight: w.
    """

    column: int
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A config.

    Attributes:
        table: name of the table.
        slices: columns of the item.
        tests: all of which must hold.
        at_end: whether it waits for the end of the episode.
        priority: of the item; None: the config has none.
        history: steps that must be there.
    """

    table: str
    slices: tuple[Slice, ...]
    tests: tuple[Test, ...]
    at_end: bool
    priority: float | TDError | None
    history: int

    @property
    def columns(self) -> set[int]:
        """Leaves of a step that it looks at."""
        tested = {test.column for test in self.tests if test.left == "flat_source_index"}
        return tested | {part.column for part in self.slices}


def parse(configs: Sequence[Any], *, want_priority: bool) -> tuple[Pattern, ...]:
    """Checks StructuredWriterConfig messages and takes them apart.

    Args:
        configs: the messages.
        want_priority: whether a config without a usable priority is refused.

    Raises:
        InvalidArgumentError: there is none, or one is invalid, which Reverb's words
            tell of with its position.
    """
    if not configs:
        raise InvalidArgumentError("At least one config must be provided.")
    patterns = []
    for position, config in enumerate(configs):
        problem = _problem(config) or (want_priority and _priority_problem(config.priority))
        if problem:
            raise InvalidArgumentError(
                f"Invalid configuration at position {position}: {problem}"
            )
        patterns.append(_pattern(config))
    return tuple(patterns)


def _pattern(config: Any) -> Pattern:
    slices = tuple(_slice(node) for node in config.flat)
    ends = [c.WhichOneof("left") == "is_end_episode" for c in config.conditions]
    return Pattern(
        table=config.table,
        slices=slices,
        tests=tuple(
            _test(condition)
            for condition, is_end in zip(config.conditions, ends, strict=True)
            if not is_end
        ),
        at_end=any(ends),
        priority=_priority(config.priority),
        history=max(part.ages[0] for part in slices),
    )


def _slice(node: Any) -> Slice:
    if not node.HasField("start"):
        return Slice(node.flat_source_index, range(-node.stop, -node.stop - 1, -1), True)
    step = node.step if node.HasField("step") else 1
    # No stop means up to the newest, and reads as 0.
    return Slice(node.flat_source_index, range(-node.start, -node.stop, -step), False)


def _test(condition: Any) -> Test:
    left = condition.WhichOneof("left")
    column = condition.flat_source_index if left == "flat_source_index" else 0
    return Test(left, column, _comparison(condition))


def _comparison(condition: Any) -> Callable[[int], bool]:
    kind, inverse = condition.WhichOneof("cmp"), condition.inverse
    if kind == "eq":
        eq = condition.eq
        return (lambda found: found != eq) if inverse else (lambda found: found == eq)
    if kind == "ge":
        least = condition.ge
        return (lambda found: found < least) if inverse else (lambda found: found >= least)
    mod, rest = condition.mod_eq.mod, condition.mod_eq.eq
    # The remainder has the sign of what is divided, as in C.
    return lambda found: (math.fmod(found, mod) == rest) is not inverse


def _priority(priority: Any) -> float | TDError | None:
    kind = priority.WhichOneof("priority_fn")
    if kind == "constant_fn":
        return float(priority.constant_fn.value)
    if kind == "td_error":
        error = priority.td_error
        return TDError(error.flat_source_index, float(error.max_priority_weight))
    return None


def _priority_problem(priority: Any) -> str:
    found = _priority(priority)
    if found is None:
        return (
            "The Priority function undefined. Use create_config(), or "
            "priority=constant_priority_fn(1.0)."
        )
    if isinstance(found, float) and math.isnan(found):
        return "`priority` must not be nan."
    return ""


def _problem(config: Any) -> str:
    if not config.flat:
        return "`flat` must not be empty."
    if not config.table:
        return "`table` must not be empty."
    problems = (*map(_node_problem, config.flat), *map(_condition_problem, config.conditions))
    return next(filter(None, problems), "")


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
    if left == "is_end_episode" and (condition.eq != 1 or condition.inverse):
        return "Condition must use `eq=1` when using `is_end_episode`."
    return ""
