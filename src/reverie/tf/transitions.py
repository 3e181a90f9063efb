"""What `flat=True` makes of a manager's windows: transitions, named as `views` name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.nests.trajectory import LAST
from reverie.tf.framework import tf

_STATE, _NEXT = "observation", "next_observation"


class Transitions:
    """Each two neighbouring steps of a window as one row.

    Attributes:
        spec: of the data, a dict of numbers in the place of its leaves.
        leaves: shape and dtype of each leaf, in TensorFlow's order.

    Args:
        nest: of a step, whose top has names, "observation" among them.

    Raises:
        InvalidArgumentError: it has not, or a name of its own that is added.
    """

    def __init__(self, nest: Nest) -> None:
        count = len(nest.columns)
        step, after = _named(nest, 0), _named(nest, count)
        ends = nest.boundary if nest.boundary and nest.boundary.discount >= 0 else None
        added = {_NEXT: after.get(_STATE)}
        if ends is not None:
            added |= {"terminated": 2 * count, "truncated": 2 * count + 1}
        if _STATE not in step or step.keys() & added:
            raise InvalidArgumentError(
                f"flat=True: found steps of {list(step) or nest.spec!r:.200}, wanted names, an "
                f"{_STATE!r} among them and none of {list(added)}, which a transition has "
                "beside them. For the steps themselves pass num_steps=1, too; a "
                "reverie.ReplayBuffer makes transitions of states of any name."
            )
        self.spec: dict[str, Any] = {**step, **added}
        self._order: list[int] = tf.nest.flatten(self.spec)
        self._kind, self._ends = nest.boundary, ends
        steps = [(column.spec.shape, column.spec.dtype) for column in nest.columns]
        every = [*steps, *steps, *[((), np.dtype(np.bool_))] * 2]
        self.leaves = [every[number] for number in self._order]

    def rows(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Columns `[N, T, *shape]` of windows as leaves `[N * (T - 1), *shape]`."""
        firsts, seconds = [a[:, :-1] for a in arrays], [a[:, 1:] for a in arrays]
        every: list[Any] = [*firsts, *seconds]
        if self._ends is not None:
            ended = firsts[self._ends.next_step_type] == LAST
            goes_on = firsts[self._ends.discount] != 0
            every += [ended & ~goes_on, ended & goes_on]
        return [joined(every[number]) for number in self._order]

    def real(self, arrays: Sequence[NDArray[Any]]) -> NDArray[np.bool_] | None:
        """Which rows begin with no boundary record; None where steps do not tell."""
        if self._kind is None:
            return None
        found: NDArray[np.bool_] = joined(arrays[self._kind.step_type][:, :-1] != LAST)
        return None if found.all() else found


def joined(array: NDArray[Any]) -> NDArray[Any]:
    """`[N, T, *shape]` as `[N * T, *shape]`."""
    rows: NDArray[Any] = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
    return rows


def _named(nest: Nest, first: int) -> dict[str, Any]:
    """The parts of a step by name, numbers in the place of leaves; empty: they have none."""
    numbers = nest.unflatten(list(range(first, first + len(nest.columns))))
    if isinstance(numbers, Mapping):
        return dict(numbers)
    return dict(numbers._asdict()) if hasattr(numbers, "_asdict") else {}
