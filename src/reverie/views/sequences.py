"""Runs of steps of one episode, and whole episodes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import check_int
from reverie.views.base import (
    ANY,
    NEXT,
    Column,
    Fields,
    Gathered,
    Padding,
    Stack,
    View,
    check_names,
    check_stack,
)


@dataclass(frozen=True, repr=False)
class Sequences(View):
    """Runs of `length` steps of one episode, padded with zeros and a mask at its end.

    Leaves are `[B, T, *shape]`, T = `length`: each state, and what was done in it. Beside
    them:

        mask               bool [B, T]: real steps; the rest are zeros
        burn_in_mask       bool [B, T]: of these, the first `burn_in`
        length             int64 [B]: how many are real
        next_<state>       [B, *shape]: the state after the last real step
        terminated         bool [B, T]: of each step
        truncated          bool [B, T]

    Columns named in `once` come as `[B, *shape]`, of the first step alone: a recurrent
    state that was stored with each step. In a buffer whose own view this is, each
    `stride`-th step of an episode begins an item, so that sequences overlap by
    `length - stride`, and an item comes once `stride` steps are there, or at the episode's
    end. (Kapturowski et al. 2019, "R2D2": `Sequences(80, burn_in=40)`.)

    Args:
        length: T, the burn-in included.
        burn_in: steps at the front that only bring the recurrent state up to date.
        stride: None: `length - burn_in`, so that every step is trained on once.
        once: keys.
        stack: see `Transitions`; a state then comes as `[B, T, n, *shape]`.
        stack_padding: likewise.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    length: int
    burn_in: int = 0
    stride: int | None = None  # type: ignore[assignment]
    once: Sequence[str] = ()
    stack: Stack = None
    stack_padding: Padding = "first"
    kind = "sequences"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        length = check_int("length", self.length, 1, 2**31 - 2)
        burn_in = check_int("burn_in", self.burn_in, 0, length - 1)
        stride = length - burn_in if self.stride is None else self.stride
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "burn_in", burn_in)
        object.__setattr__(self, "stride", check_int("stride", stride, 1, length))
        once = (self.once,) if isinstance(self.once, str) else tuple(self.once)
        object.__setattr__(self, "once", once)
        self._settle_stack()

    @property
    def time_axis(self) -> int:
        """See the base."""
        return self.length

    @property
    def comes(self) -> str:
        """See the base."""
        return f"with each {self.stride} steps of an episode, and at its end"

    def check(self, fields: Fields) -> None:
        """See the base."""
        _check(self, fields, self.once)

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        return self.length + 1, _columns(self, fields, self.length, self.once)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        return _arranged(self, fields, found, self.length, self.burn_in, self.once)


@dataclass(frozen=True, repr=False)
class Windows(View):
    """Runs of just `length` steps of one episode: no padding, no mask.

    Leaves are `[B, T, *shape]`, T = `length`: each state, and what was done in it. Beside
    them `next_<state>` `[B, *shape]`, the state after the last step, and `terminated` and
    `truncated`, bool `[B, T]`. In a buffer whose own view this is, an item comes with each
    `stride`-th step of an episode from its `length`-th on. So the tail of an episode that
    fills no window of its own is in none, nor is an episode of fewer steps: `Sequences` has
    them. A checkpoint leaves such steps out; a window that they followed is truncated in it.

    Args:
        length: T.
        stride: steps from one window to the next, at most `length`.
        stack: see `Sequences`.
        stack_padding: likewise.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    length: int
    stride: int = 1
    stack: Stack = None
    stack_padding: Padding = "first"
    kind = "windows"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        length = check_int("length", self.length, 1, 2**31 - 2)
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "stride", check_int("stride", self.stride, 1, length))
        self._settle_stack()

    @property
    def time_axis(self) -> int:
        """See the base."""
        return self.length

    @property
    def shares_steps(self) -> bool:
        """See the base."""
        return self.stride < self.length

    @property
    def items(self) -> int:
        """See the base."""
        return _core.WINDOWS

    @property
    def comes(self) -> str:
        """See the base."""
        return f"once an episode has {self.length} steps: one of fewer has none"

    @property
    def item_records(self) -> int:
        """See the base."""
        return self.length + 1

    def check(self, fields: Fields) -> None:
        """See the base."""
        _check(self, fields)
        own = fields.own
        if not isinstance(own, Windows) or own.length < self.length:
            raise InvalidArgumentError(
                f"{self!r}: not every item of this buffer has {self.length} steps; its view is "
                f"{own!r:.200}. Take Sequences({self.length}), with a mask, or make the buffer "
                f"with view={self!r:.200}."
            )

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        return self.length + 1, _columns(self, fields, self.length)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        data = _arranged(self, fields, found, self.length)
        return {key: value for key, value in data.items() if key not in _MASKS}


@dataclass(frozen=True, repr=False)
class Episodes(View):
    """Whole episodes, padded to the longest of the batch, or one after the other.

    An item is an episode, and there once it has ended. What a batch holds is what
    `Sequences` gives, T being the steps of the longest episode in it, at most `max_length`.
    With `ragged` there is neither padding nor mask: leaves are `[sum of T, *shape]`, the
    episodes' steps one after the other, those of the i-th from `offsets[i]` up to
    `offsets[i + 1]`, int64 `[B + 1]`; next_<state> is `[B, *shape]` and `length` `[B]` as
    before.

    Args:
        max_length: steps of each that are taken, from its first; None: all.
        ragged: whether they stand one after the other.
        stack: see `Sequences`.
        stack_padding: likewise.

    Raises:
        InvalidArgumentError: `max_length` is below 1.
    """

    max_length: int | None = None
    ragged: bool = False
    stack: Stack = None
    stack_padding: Padding = "first"
    kind = "episodes"

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.max_length is not None:
            check_int("max_length", self.max_length, 1, 2**31 - 2)
        object.__setattr__(self, "ragged", bool(self.ragged))
        self._settle_stack()

    @property
    def time_axis(self) -> int:
        """See the base."""
        return 0

    @property
    def items(self) -> int:
        """See the base."""
        return _core.EPISODES

    @property
    def comes(self) -> str:
        """See the base."""
        return "once an episode has ended"

    @property
    def item_records(self) -> int:
        """See the base."""
        return ANY

    @property
    def fixed(self) -> View:
        """See the base: padded to `max_length`."""
        if self.max_length is None or self.ragged:
            raise InvalidArgumentError(
                f"{self!r}: batches have the shape of the episodes in them, wanted one shape "
                "for all. Take Episodes(max_length=...), padded to that, or Sequences."
            )
        return _Padded(self.max_length, False, self.stack, self.stack_padding)

    def check(self, fields: Fields) -> None:
        """See the base."""
        _check(self, fields)
        check_names(self, fields, {"offsets"} if self.ragged else set())

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        most = ANY if self.max_length is None else self.max_length + 1
        return most, _columns(self, fields, 0)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        data = _arranged(self, fields, found, int(found.steps.max(initial=0)))
        if not self.ragged:
            return data
        alone = {NEXT + key for key in fields.roles.state} | {"length"}
        mask = data.pop("mask")
        del data["burn_in_mask"]
        for key in data.keys() - alone:
            data[key] = optree.tree_map(operator.itemgetter(mask), data[key])
        data["offsets"] = np.concatenate([[0], np.cumsum(found.steps)])
        return data


class _Padded(Episodes):
    """Episodes, each batch padded to `max_length`."""

    @property
    def fixed(self) -> View:
        """See the base."""
        return self

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        assert self.max_length is not None
        return self.max_length + 1, _columns(self, fields, self.max_length)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        assert self.max_length is not None
        return _arranged(self, fields, found, self.max_length)


_MASKS = ("mask", "burn_in_mask", "length")


def _check(view: View, fields: Fields, once: Sequence[str] = ()) -> None:
    """What all views of runs of steps want."""
    check_stack(view, fields)
    unknown = [key for key in once if key not in fields.places]
    if unknown:
        raise InvalidArgumentError(
            f"once: found {unknown!r:.200}, wanted keys of the step: "
            f"{list(fields.places)!r:.200}."
        )
    taken = {NEXT + key for key in fields.roles.state if key not in once}
    taken |= {"mask", "burn_in_mask", "length", "terminated", "truncated"}
    check_names(view, fields, taken)


def _columns(view: View, fields: Fields, steps: int, once: Sequence[str] = ()) -> list[Column]:
    """Of sequences of `steps` steps; 0: of as many as the longest has."""
    columns, stacks = [], view.stacks
    for key in fields.places:
        state = key in fields.roles.state
        alone, back = key not in stacks, stacks.get(key, 1) - 1
        if key in once:
            columns += fields.columns(key, 0 if state else 1, 1, back=back, squeeze=alone)
            continue
        columns += fields.columns(key, 0 if state else 1, steps, int(state), back=back)
        if state:
            columns += fields.columns(key, -1, 1, back=back, squeeze=alone)
    return columns


def _arranged(
    view: View,
    fields: Fields,
    found: Gathered,
    length: int,
    burn_in: int = 0,
    once: Sequence[str] = (),
) -> dict[str, Any]:
    """The data of a batch of sequences of `length` steps."""
    arrays, steps, stacks = list(found.arrays), found.steps[:, None], view.stacks
    places = np.arange(length)
    mask = places < steps
    data: dict[str, Any] = {}
    for key in fields.places:
        data[key] = fields.take(key, arrays)
        if key in once:
            continue
        if key in stacks:
            data[key] = optree.tree_map(
                functools.partial(_stacked, mask, stacks[key]), data[key]
            )
        if key in fields.roles.state:
            data[NEXT + key] = fields.take(key, arrays)
    data["mask"] = mask
    data["burn_in_mask"] = mask & (places < burn_in)
    data["length"] = found.steps
    last = places == steps - 1
    data["terminated"] = last & found.terminated[:, None]
    data["truncated"] = last & found.truncated[:, None]
    return data


def _stacked(mask: NDArray[np.bool_], count: int, frames: NDArray[Any]) -> NDArray[Any]:
    """`[B, T, count, *shape]` of frames `[B, T + count - 1, *shape]`; zeros beyond the mask."""
    if not mask.size:
        return np.zeros((*mask.shape, count, *frames.shape[2:]), frames.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(frames, count, axis=1)
    stacked: NDArray[Any] = np.moveaxis(windows, -1, 2).copy()
    stacked[~mask] = 0
    return stacked
