"""The streams of a replay buffer: steps become records, those of arrivals."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core
from reverie.adding.arrivals import Arrivals, as_flags, as_ids
from reverie.errors import InvalidArgumentError, ReverieError, StepMismatchError
from reverie.nests.nest import Nest
from reverie.runtime.waiting import wait_until
from reverie.tables.table import Table
from reverie.views.base import ANY, Fields

_log = logging.getLogger("reverie")
_BROKEN = 2  # Writer::Begun
_TRUNCATED = np.uint8(_core.TRUNCATED)


class Adder:
    """The streams of one buffer: one for each environment.

    Args:
        table: where items go.
        fields: where the leaves of a step stand.
        num_envs: environments of a batch; None: one, whose steps have no batch axis.
        priority: of new items; None: the largest in the table.
        tells_ended: for `ended`.
        reward: place of the reward among the columns, for its sums; -1: none are made.

    Attributes:
        num_envs: as given.
        states: the structure of the states alone; None: there are none.
        places: where the leaves of `states` stand among the columns of a step.
        broken: episodes that ended as truncated because the next step did not begin in the
            state that the last one had led to.
    """

    def __init__(
        self,
        table: Table,
        fields: Fields,
        num_envs: int | None,
        priority: float | None,
        *,
        tells_ended: bool = False,
        reward: int = -1,
    ) -> None:
        nest, roles, view = fields.nest, fields.roles, fields.own
        self.num_envs = num_envs
        self.broken = 0
        self._table, self._nest, self._state = table, nest, roles.state
        self._sides = ("obs", "next_obs") if roles.observation else ("step", "after")
        self.states = states_of(fields)
        self.places = places_of(fields)
        self._layout = _core.RecordLayout(nest.types)
        self._writer: _core.Writer | None = table.store.core.create_writer(
            self._layout,
            [table.core],
            sequence_length=min(ANY, view.item_records + view.lead),
            stride_length=view.stride,
            priority=priority,
            pad_end=False,
            tile_end=False,
            pad_record=bytes(self._layout.record_nbytes),
            boundary_column=-1,
            boundary_value=0,
            items=view.items,
            num_streams=num_envs or 1,
            lead=view.lead,
            lead_is_zero=view.stack_padding == "zeros",
            tells_ended=tells_ended,
            return_column=reward,
        )
        self._warned = False
        table.owned_by(self)
        table.store.watch(self)

    def arrivals(
        self,
        step: Mapping[str, Any],
        after: Mapping[str, Any],
        terminated: Any,
        truncated: Any,
        env_ids: ArrayLike | None,
    ) -> Arrivals:
        """What came, by column. Shapes and dtypes are not looked at yet.

        Args:
            step: all keys of a step, the states before it.
            after: the states after it, by key.
            terminated: `[N]`, or one bool without a batch axis.
            truncated: likewise.
            env_ids: `[N]`, which environments; None: all.

        Raises:
            StepMismatchError: the structure, or the shape of the flags.
            InvalidArgumentError: a flag is neither true nor false; `env_ids` are none.
        """
        alone = self.num_envs is None
        ids = None if env_ids is None else as_ids(env_ids, self.num_envs)
        count = (self.num_envs or 1) if ids is None else len(ids)
        try:
            leaves = self._nest.flatten_up_to(step)
            states = self.states.flatten_up_to(after) if self.states else _none(after)
        except (ValueError, TypeError):
            if type(step) is not dict and isinstance(step, Mapping):  # of a class of its own
                return self.arrivals(dict(step), after, terminated, truncated, env_ids)
            if type(after) is not dict and isinstance(after, Mapping):
                return self.arrivals(step, dict(after), terminated, truncated, env_ids)
            raise self._explained(step, after) from None
        before: list[Any] = [None] * len(leaves)
        for place, leaf in zip(self.places, states, strict=True):
            before[place], leaves[place] = leaves[place], leaf
        ends = as_flags("terminated", terminated, count, alone)
        cut = as_flags("truncated", truncated, count, alone)
        return Arrivals(
            self._nest.columns, before, leaves, ends, cut, ids, self._sides, alone=alone
        )

    def store(self, came: Arrivals) -> None:
        """Stores a step of each environment, or of some. Atomic but for what began.

        Raises:
            StepMismatchError: dtype, shape or range; names the path.
            ClosedError: the buffer is closed.
        """
        writer = self._writer
        if writer is None:
            raise self._table.store.closed_error()
        lasts = came.cut * _TRUNCATED
        lasts[came.ends] = _core.TERMINATED
        begun = np.zeros(len(came), np.uint8)
        seen: set[int] = set()
        try:
            while (
                found := writer.append_arrivals(
                    came.before, came.after, len(came), came.ids, lasts, begun, came.alone
                )
            ) >= 0:
                if found in seen:  # rather an error than an endless loop
                    raise AssertionError(f"no use for leaf {found}")
                seen.add(found)
                came.recast(found)
        except _core.Closed:
            raise self._table.store.closed_error() from None
        if _BROKEN in begun.tobytes():
            self._tell(begun, came)

    def store_runs(
        self, columns: Sequence[Any], lengths: NDArray[np.uint64], lasts: NDArray[np.uint8]
    ) -> None:
        """Stores whole episodes, whose records stand one after the other in `columns`.

        Raises:
            ClosedError: the buffer is closed.
        """
        writer = self._writer
        if writer is None:
            raise self._table.store.closed_error()
        try:
            found = writer.append_runs(list(columns), 0, lengths, lasts)
        except _core.Closed:
            raise self._table.store.closed_error() from None
        if found >= 0:
            raise AssertionError(f"no use for {columns[found]!r:.200}")

    def ended(self) -> list[tuple[float, NDArray[np.uint64]]]:
        """Of each episode that ended since the last call its return and its items' keys."""
        return [] if self._writer is None else self._writer.take_ended()

    def wait(self) -> None:
        """Until all items are in: the table's limiter may make them wait for samples.

        Raises:
            EndlessWaitError: nobody is left who could sample.
            ClosedError: the buffer is closed.
        """
        writer = self._writer
        if writer is None or not writer.pending:
            return
        try:
            wait_until(
                lambda seconds: writer.wait_pending(0, seconds),
                timeout=None,
                what=lambda: f"to add to {self._table.describe_insert_wait()}",
                way_out="nobody could sample from it. Sample from another thread.",
                progress=self._table.store.progress,
            )
        except _core.Closed:
            raise self._table.store.closed_error() from None

    def drop_episode(self) -> None:
        """Forgets the open episodes' steps."""
        if self._writer is not None:
            for stream in range(self.num_envs or 1):
                self._writer.reset(False, stream)

    def end_episodes(self, env_ids: ArrayLike | None = None) -> None:
        """Ends what is open, as cut off, with the items that this completes."""
        if self._writer is not None:
            every = range(self.num_envs or 1)
            some = every if env_ids is None else as_ids(env_ids, self.num_envs).tolist()
            for stream in some:
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

    def _explained(self, step: Any, after: Any) -> ReverieError:
        """The error for a structure that is another."""
        before = states_among("step", step, self._state)
        states_among("after", after, self._state)
        unknown = [key for key in after if key not in self._state]
        if unknown:
            return InvalidArgumentError(
                f"after: found {unknown!r:.200}, wanted the states {list(self._state)!r:.200} "
                "alone. Nothing was stored."
            )
        for side, found in zip(self._sides, (before, after), strict=True):
            if self.states is not None and self.states.difference(found):
                return StepMismatchError(f"{side}: {self.states.explain(found)}")
        return self._nest.explain(step)

    def _tell(self, begun: NDArray[np.uint8], came: Arrivals) -> None:
        which = np.flatnonzero(begun == _BROKEN)
        self.broken += len(which)
        warned, self._warned = self._warned, True
        if warned:
            return
        _log.warning(
            "The step of environment %d does not begin in the state that its last one led to: "
            "its episode ended there, as truncated. Pass as next_obs what the environment "
            "returned, and as the next obs the same, byte for byte (a copy, where the "
            "environment writes into its arrays), and end episodes by terminated or truncated. "
            "(Told once; info().broken_episodes counts them.)",
            came.numbers()[which[0]],
        )


def states_among(name: str, found: Any, state: Sequence[str]) -> dict[str, Any]:
    """The states among a step's keys.

    Raises:
        InvalidArgumentError: it is no dict, or one is missing.
    """
    if not isinstance(found, Mapping):
        raise InvalidArgumentError(
            f"{name}: found {type(found).__name__}, wanted a dict with the keys "
            f"{list(state)!r:.200}. Nothing was stored."
        )
    missing = [key for key in state if key not in found]
    if missing:
        raise InvalidArgumentError(
            f"{name}: found no {missing!r:.200} among {list(found)!r:.200}; they are states. "
            "Nothing was stored."
        )
    return {key: found[key] for key in state}


def states_of(fields: Fields) -> Nest | None:
    """The structure of the states alone; None: there are none."""
    parts = {key: fields.nest.spec[key] for key in fields.roles.state}
    return Nest(parts) if parts else None


def _none(after: Mapping[str, Any]) -> list[Any]:
    """The leaves of no states at all."""
    if after:
        raise ValueError("there are no states")  # explained by the caller
    return []


def places_of(fields: Fields) -> list[int]:
    """Where the leaves of `states_of` stand among the columns of a step."""
    states = states_of(fields)
    if states is None:
        return []
    return states.leaves(
        {
            key: Nest({"": fields.nest.spec[key]}).unflatten(list(fields.places[key]))[""]
            for key in fields.roles.state
        }
    )
