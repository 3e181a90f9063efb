"""SB3's arrays, `buffer.observations` and the others, for who reads them: copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie import replay_buffer
from reverie.views.base import Column, Fields, Gathered, View


@dataclass(frozen=True)
class Part(View):
    """One column of each transition and how it ended, and nothing else is copied.

    Args:
        key: of the step; None: the ends alone.
        after: of a state, what it was after the step.
    """

    key: str | None = None
    after: bool = False

    def plan(self, fields: Fields) -> tuple[int, list[Column]]:
        """See the base."""
        if self.key is None:
            return 2, []
        state = self.key in fields.roles.state
        first = (-1 if self.after else 0) if state else 1
        return 2, fields.columns(self.key, first, 1, squeeze=True)

    def arrange(self, fields: Fields, found: Gathered) -> dict[str, Any]:
        """See the base."""
        data: dict[str, Any] = {"terminated": found.terminated, "truncated": found.truncated}
        if self.key is not None:
            data["value"] = fields.take(self.key, list(found.arrays))
        return data


class Arrays:
    """The arrays by SB3's names, `[buffer_size, n_envs, ...]`, zeros where none was added.

    Each reading copies the column, at the cost of its size. They are read-only, as writing
    into a copy would change nothing; all but `dones`, into which SB3 itself writes, where its
    `optimize_memory_usage` needs that and this buffer does not.
    """

    buffer: replay_buffer.ReplayBuffer
    buffer_size: int
    n_envs: int

    @property
    def pos(self) -> int:
        """How many transitions of each environment stand after the last turn."""
        raise NotImplementedError

    @property
    def observations(self) -> Any:
        """Of a Dict space, by key."""
        return self._read(Part("observation"))

    @property
    def next_observations(self) -> Any:
        """As `observations`."""
        return self._read(Part("observation", after=True))

    @property
    def actions(self) -> NDArray[Any]:
        """`[buffer_size, n_envs, action_dim]`."""
        found: NDArray[Any] = self._read(Part("action"))
        return found

    @property
    def rewards(self) -> NDArray[np.float32]:
        """`[buffer_size, n_envs]`."""
        found: NDArray[np.float32] = self._read(Part("reward"))
        return found

    @property
    def dones(self) -> NDArray[np.float32]:
        """1 where an episode ended, for whatever reason."""
        ends = self.buffer.steps(Part()).data
        return self._placed((ends["terminated"] | ends["truncated"]).astype(np.float32))

    @property
    def timeouts(self) -> NDArray[np.float32]:
        """1 where it was cut off, or ended because time was up."""
        ends = self.buffer.steps(Part()).data
        return _frozen(self._placed(ends["truncated"].astype(np.float32)))

    def slot_keys(self, slots: NDArray[Any], env_ids: NDArray[Any]) -> NDArray[np.uint64]:
        """The keys of the items in these of SB3's places. Costs as much as there are items."""
        keys = self.buffer.item_info()["key"].reshape(-1, self.n_envs)
        oldest = self.pos if len(keys) == self.buffer_size else 0
        found: NDArray[np.uint64] = keys[(slots - oldest) % self.buffer_size, env_ids]
        return found

    def _read(self, part: Part) -> Any:
        data = self.buffer.steps(part).data
        return optree.tree_map(lambda rows: _frozen(self._placed(rows)), data["value"])

    def _placed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows in the order of insertion, in SB3's places."""
        rows = rows.reshape(-1, self.n_envs, *rows.shape[1:])
        full = np.zeros((self.buffer_size, *rows.shape[1:]), rows.dtype)
        full[: len(rows)] = rows
        return np.roll(full, self.pos, axis=0) if len(rows) == self.buffer_size else full


def _frozen(rows: NDArray[Any]) -> NDArray[Any]:
    rows.flags.writeable = False
    return rows
