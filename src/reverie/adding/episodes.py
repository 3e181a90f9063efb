"""Whole episodes, as arrays, become the records of arrivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.adding.arrivals import is_exact, shape_of
from reverie.adding.streams import places_of, states_of
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.difference import kind_name
from reverie.nests.specs import ArraySpec, Column
from reverie.views.base import Fields


class Runs(NamedTuple):
    """The records of episodes, one after the other.

    Attributes:
        columns: `[sum of lengths, *shape]` each.
        lengths: uint64, records of each: one more than it has steps.
    """

    columns: list[NDArray[Any]]
    lengths: NDArray[np.uint64]


def runs_of(
    fields: Fields,
    episodes: Sequence[Mapping[str, Any]],
    tails: Sequence[Mapping[str, Any] | None],
    ends: NDArray[np.bool_],
) -> Runs:
    """The records of episodes.

    Args:
        fields: of the buffer's steps.
        episodes: their steps, `[T, *shape]`; states may be `[T + 1, *shape]`.
        tails: the states after each one's last step, or None.
        ends: bool, whether they terminated.

    Raises:
        StepMismatchError: structure, dtype, shape or range; names episode and path.
        InvalidArgumentError: no step, unequal numbers of them, or a state after the last
            one is missing, or there twice.
    """
    parts = []
    for i, (episode, tail, end) in enumerate(zip(episodes, tails, ends.tolist(), strict=True)):
        try:
            parts.append(_part(fields, episode, tail, end))
        except (StepMismatchError, InvalidArgumentError) as error:
            raise type(error)(f"Episode {i}: {error}") from None
    lengths = np.array([length + 1 for _, _, length in parts], np.uint64)
    types = fields.nest.types
    columns = [np.zeros((int(lengths.sum()), *shape), dtype) for dtype, shape in types]
    at = 0
    for leaves, tail_leaves, length in parts:
        for place, leaf in enumerate(leaves):
            last = tail_leaves.get(place)
            first = at if place in tail_leaves else at + 1
            columns[place][first : first + len(leaf)] = leaf
            if last is not None:
                columns[place][at + length] = last
        at += length + 1
    return Runs(columns, lengths)


def _part(
    fields: Fields, episode: Mapping[str, Any], tail: Mapping[str, Any] | None, end: bool
) -> tuple[list[NDArray[Any]], dict[int, NDArray[Any] | None], int]:
    """An episode's leaves; for each state the one after the last step, or None; its steps."""
    nest = fields.nest
    places = places_of(fields)
    leaves = nest.leaves(episode)
    found = [_steps(leaf, column) for leaf, column in zip(leaves, nest.columns, strict=True)]
    tails: dict[int, NDArray[Any] | None] = dict.fromkeys(places)
    if tail is not None:
        states = states_of(fields)
        if states is None:
            raise InvalidArgumentError(
                f"after: found {kind_name(tail)}, wanted None: none of the keys is a state. "
                "Nothing was stored."
            )
        try:
            given = states.leaves(tail)
            for place, leaf in zip(places, given, strict=True):
                tails[place] = convert(leaf, nest.columns[place])
        except StepMismatchError as error:
            raise StepMismatchError(f"after: {error}") from None
    counts = {
        nest.columns[i].path: number for i, number in enumerate(found) if i not in tails
    } or {nest.columns[i].path: found[i] - (tail is None) for i in places}
    length = next(iter(counts.values()))
    if len(set(counts.values())) != 1 or length < 1:
        raise InvalidArgumentError(
            f"found {counts!r:.300} steps, wanted one number, above 0. Nothing was stored."
        )
    for place in places:
        path, number = nest.columns[place].path, found[place]
        if number == length and (tail is not None or end):
            continue
        if tail is not None:
            raise InvalidArgumentError(
                f"{path!r} holds {number} states, wanted {length}, one before each step: the "
                "one after the last step is in after=. Nothing was stored."
            )
        if number != length + 1:
            how = "ended" if end else "was cut off"
            raise InvalidArgumentError(
                f"of {length} steps that {how}: {path!r} holds {number} states, wanted "
                f"{length + 1}, the last one after the last step. Or pass that as after=. "
                "Nothing was stored."
            )
    return (
        [_exact(leaf, c) for leaf, c in zip(leaves, nest.columns, strict=True)],
        tails,
        length,
    )


def _steps(leaf: Any, column: Column) -> int:
    """T of a leaf `[T, *shape]`."""
    shape = shape_of(leaf)
    if shape is None:
        convert(leaf, column)  # raises
        raise AssertionError(f"{leaf!r:.200} has no shape")
    if not shape or shape[1:] != column.spec.shape:
        raise StepMismatchError(
            f"Step leaf {column.path!r}: found {kind_name(leaf)}, shape {shape}; wanted "
            f"{column.spec.dtype} of shape {('T', *column.spec.shape)}, T steps. Nothing was "
            "stored."
        )
    return shape[0]


def _exact(leaf: Any, column: Column) -> NDArray[Any]:
    """A leaf as an array of its column's dtype, `[T, *shape]`."""
    spec = column.spec
    shape = shape_of(leaf)
    if is_exact(leaf, spec, shape[:1] if shape else ()):
        return leaf  # type: ignore[no-any-return]
    return convert(leaf, Column(column.path, ArraySpec(shape or (), spec.dtype)))
