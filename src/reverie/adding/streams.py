"""The streams of a replay buffer: steps become records, those of arrivals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, Column
from reverie.runtime.checks import as_array
from reverie.tables.table import Table
from reverie.views import Fields, View

_log = logging.getLogger("reverie")
_BROKEN = 2  # Writer::Begun
_ANY = 2**32 - 1


class Adder:
    """The streams of one buffer: one for each environment. Thread-safe.

    Args:
        table: where items go.
        fields: where the leaves of a step stand.
        view: the buffer's own.
        num_envs: environments of a batch; None: one, whose steps have no batch axis.
        priority: of new items; None: the largest in the table.

    Attributes:
        num_envs: as given.
        broken: episodes that ended as truncated because the next step did not begin in the
            state that the last one had led to.
    """

    def __init__(
        self,
        table: Table,
        fields: Fields,
        view: View,
        num_envs: int | None,
        priority: float | None,
    ) -> None:
        nest, roles = fields.nest, fields.roles
        self.num_envs = num_envs
        self.broken = 0
        self._table, self._nest, self._state = table, nest, roles.state
        self._states = Nest({key: nest.spec[key] for key in roles.state})
        places = [i for key in sorted(roles.state) for i in fields.places[key]]
        self._places = self._states.leaves(
            {key: _like(nest.spec[key], fields.places[key]) for key in roles.state}
        )
        assert sorted(places) == sorted(self._places)
        self._layout = _core.RecordLayout(nest.types)
        episodes = view.items == _core.EPISODES
        self._writer: _core.Writer | None = table.store.core.create_writer(
            self._layout,
            [table.core],
            sequence_length=_ANY if episodes else view.stride + 1,
            stride_length=view.stride,
            priority=priority,
            pad_end=False,
            tile_end=False,
            pad_record=bytes(self._layout.record_nbytes),
            boundary_column=-1,
            boundary_value=0,
            items=view.items,
            num_streams=num_envs or 1,
        )
        self._warned = False
        self._counting = threading.Lock()
        table.owned_by(self)
        table.store.watch(self)

    def add(
        self,
        before: Mapping[str, Any],
        step: Mapping[str, Any],
        terminated: Any,
        truncated: Any,
        env_ids: NDArray[np.int64] | None = None,
    ) -> int:
        """Stores one step of each environment, or of some. Atomic but for what began.

        Args:
            before: the states before it, by key.
            step: all keys of a step, the states after it.
            terminated: `[N]`, or one bool without a batch axis.
            truncated: likewise.
            env_ids: `[N]`, which environments; None: all.

        Returns:
            How many episodes were broken off: see `broken`.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: an environment is unknown or occurs twice.
            ClosedError: the buffer is closed.
        """
        writer = self._writer
        if writer is None:
            raise self._table.store.closed_error()
        count = 1 if self.num_envs is None else self.num_envs
        if env_ids is not None:
            count = len(env_ids)
        leaves = self._nest.leaves(step)
        states: list[Any] = [None] * len(leaves)
        for place, leaf in zip(self._places, self._states.leaves(before), strict=True):
            states[place] = leaf
        if self.num_envs is None:
            leaves = [self._alone(leaf, i) for i, leaf in enumerate(leaves)]
            states = [None if s is None else self._alone(s, i) for i, s in enumerate(states)]
        lasts = self._lasts(terminated, truncated, count)
        begun = np.zeros(count, np.uint8)
        try:
            self._append(writer, states, leaves, count, env_ids, lasts, begun)
        except _core.Closed:
            raise self._table.store.closed_error() from None
        except ValueError as error:
            raise InvalidArgumentError(f"env_ids: {error}. Nothing was stored.") from None
        broken = int(np.count_nonzero(begun == _BROKEN))
        if broken:
            self._tell(broken, begun, env_ids)
        return broken

    def add_runs(
        self, columns: Sequence[Any], lengths: NDArray[np.uint64], lasts: NDArray[np.uint8]
    ) -> None:
        """Stores whole episodes, whose records stand one after the other in `columns`.

        Raises:
            StepMismatchError: a dtype, a shape or a value; names the path.
            ClosedError: the buffer is closed.
        """
        writer = self._writer
        if writer is None:
            raise self._table.store.closed_error()
        leaves, total = list(columns), int(lengths.sum())
        misfit = -1
        try:
            while (found := writer.append_runs(leaves, 0, lengths, lasts)) >= 0:
                if found == misfit:
                    raise AssertionError(f"no use for {leaves[found]!r:.200}")
                misfit = found
                leaves[found] = self._cast(leaves[found], found, total)
        except _core.Closed:
            raise self._table.store.closed_error() from None

    def drop_episode(self) -> None:
        """Forgets the open episodes' steps."""
        if self._writer is not None:
            for stream in range(self.num_envs or 1):
                self._writer.reset(False, stream)

    def end_episodes(self) -> None:
        """Ends what is open, as cut off, with the items that this completes."""
        if self._writer is not None:
            for stream in range(self.num_envs or 1):
                self._writer.reset(True, stream)

    def abandon(self) -> Any:
        """In a forked child, which must not touch the core: gives the writer up."""
        writer, self._writer = self._writer, None
        return writer

    def close(self) -> None:
        """Ends all episodes. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _append(
        self,
        writer: _core.Writer,
        states: list[Any],
        leaves: list[Any],
        count: int,
        env_ids: NDArray[np.int64] | None,
        lasts: NDArray[np.uint8],
        begun: NDArray[np.uint8],
    ) -> None:
        seen: set[int] = set()
        while True:
            found = writer.append_arrivals(states, leaves, count, env_ids, lasts, begun)
            if found < 0:
                return
            if found in seen:  # rather an error than an endless loop
                raise AssertionError(f"no use for leaf {found}")
            seen.add(found)
            place = found % len(leaves)
            of = leaves if found < len(leaves) else states
            of[place] = self._cast(of[place], place, count)

    def _cast(self, leaf: Any, place: int, count: int) -> NDArray[Any]:
        column = self._nest.columns[place]
        wanted = Column(column.path, ArraySpec((count, *column.spec.shape), column.spec.dtype))
        try:
            return convert(leaf, wanted)
        except StepMismatchError as error:
            shape = np.shape(leaf)
            if shape == column.spec.shape and self.num_envs is not None:
                hint = f"one step of each of {count} environments was wanted, and this is one"
            elif shape[1:] == column.spec.shape:
                hint = f"this is of {shape[0]} environments, and {count} were wanted"
            else:
                raise
            raise StepMismatchError(f"{error} ({hint}.)") from None

    def _alone(self, leaf: Any, place: int) -> NDArray[Any]:
        """A leaf of one step, as a batch of one."""
        column = self._nest.columns[place]
        if (
            type(leaf) is np.ndarray
            and leaf.dtype == column.spec.dtype
            and leaf.shape == column.spec.shape
            and leaf.flags.c_contiguous
        ):
            return leaf[None]
        return convert(leaf, column)[None]

    def _lasts(self, terminated: Any, truncated: Any, count: int) -> NDArray[np.uint8]:
        ends = _flags("terminated", terminated, count, self.num_envs is None)
        cut = _flags("truncated", truncated, count, self.num_envs is None)
        return np.where(ends, _core.TERMINATED, np.where(cut, _core.TRUNCATED, 0)).astype(
            np.uint8
        )

    def _tell(
        self, broken: int, begun: NDArray[np.uint8], env_ids: NDArray[np.int64] | None
    ) -> None:
        with self._counting:
            self.broken += broken
            warned, self._warned = self._warned, True
        if warned:
            return
        which = np.flatnonzero(begun == _BROKEN)
        which = which if env_ids is None else env_ids[which]
        _log.warning(
            "The step of environment %d does not begin in the state that its last one led to: "
            "its episode ended there, as truncated. Pass as next_obs what the environment "
            "returned, and end episodes by terminated or truncated. (Told once; "
            "info().broken_episodes counts them.)",
            which[0],
        )


def _like(spec: Any, places: list[int]) -> Any:
    """The nest of a key's spec, with the places of its columns for leaves."""
    return Nest({"": spec}).unflatten(list(places))[""]


def _flags(name: str, value: Any, count: int, alone: bool) -> NDArray[np.bool_]:
    found = value if type(value) is np.ndarray else as_array(name, value)
    if alone and found.shape == ():
        found = found[None]
    if found.shape != (count,):
        wanted = "one bool" if alone else f"bools of shape ({count},)"
        raise StepMismatchError(
            f"{name}: found shape {found.shape}, wanted {wanted}. Nothing was stored."
        )
    if found.dtype != np.bool_:
        if found.dtype.kind not in "iuf" or not np.isin(found, (0, 1)).all():
            raise InvalidArgumentError(
                f"{name}: found {value!r:.200}, wanted True or False (0 or 1). Nothing was "
                "stored."
            )
        found = found.astype(np.bool_)
    return found
