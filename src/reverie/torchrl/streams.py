"""Steps of several environments, a row of them at a time, into a buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.replay_buffer import ReplayBuffer
from reverie.torchrl.columns import NUMBER, Arrays, Columns, ends_of, name_of


class Streams:
    """One stream for each environment.

    Where a step does not begin in the state that the one before led to, a collector cut the
    episode off there, and said so or not: it ends.

    Args:
        buffer: where steps go.
        columns: what they are.
        count: environments.
    """

    def __init__(self, buffer: ReplayBuffer, columns: Columns, count: int) -> None:
        self._buffer, self._columns, self._count = buffer, columns, count
        self._last: list[NDArray[np.uint8]] | None = None  # the states they are in

    def check(self, count: int) -> None:
        """Raises InvalidArgumentError where so many environments are others."""
        if count != self._count:
            raise InvalidArgumentError(
                f"data: found steps of {count} environments, wanted {self._count}, as in the "
                "first data: [N, T] are T steps of N environments, [T] those of one. Where "
                "that changes, pass data.reshape(-1). Nothing was stored."
            )

    def store(self, arrays: Arrays, numbers: NDArray[np.int64]) -> Iterator[int]:
        """Stores steps `[N, T]`, of which all is checked, a time at a time: how many each."""
        columns = self._columns
        before, after = columns.before(arrays), columns.after(arrays)
        others = columns.others(arrays)
        terminated, truncated = ends_of(arrays)
        moved = self._moved(before, after)
        moved[:, 1:] &= ~(terminated | truncated)[:, :-1]
        for t in range(numbers.shape[1]):
            if moved[:, t].any():
                self._buffer.end_episodes(np.flatnonzero(moved[:, t]))
            step = {name_of(key): array[:, t] for key, array in before.items()}
            step.update({name_of(key): array[:, t] for key, array in others.items()})
            step[NUMBER] = numbers[:, t]
            self._buffer.add_step(
                step,
                {name_of(key): array[:, t] for key, array in after.items()},
                terminated[:, t],
                truncated[:, t],
            )
            yield self._count

    def _moved(self, before: Arrays, after: Arrays) -> NDArray[np.bool_]:
        """Of each step, whether it begins elsewhere than where the one before ended."""
        begins = [_bytes(array) for array in before.values()]
        ends = [_bytes(array) for array in after.values()]
        moved: Any = np.zeros(begins[0].shape[:2], np.bool_)
        last = self._last or [array[:, 0] for array in begins]
        for begun, ended, state in zip(begins, ends, last, strict=True):
            moved[:, 0] |= (begun[:, 0] != state).any(-1)
            moved[:, 1:] |= (begun[:, 1:] != ended[:, :-1]).any(-1)
        self._last = [array[:, -1].copy() for array in ends]
        found: NDArray[np.bool_] = moved
        return found


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    plain = np.ascontiguousarray(array).reshape(*array.shape[:2], -1)
    found: NDArray[np.uint8] = plain.view(np.uint8)
    return found
