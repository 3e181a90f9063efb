"""The observer of environments that step together: a call is a batch of steps."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.observers.base import ASKS_COLUMN, Observer, misused
from reverie.observers.single import too_long
from reverie.runtime.checks import as_array, check_int, describe

_KINDS = {
    "trajectory": _core.WINDOWS,
    "sequence": _core.STREAM,
    "episode": _core.EPISODES,
}
_TOO_LONG = 1  # in `fates`


class ParallelObserver(Observer):
    """Stores a batch of steps, one of each environment; windows form per environment.

    Each environment has a stream of its own, with the items that a `TrajectoryObserver`
    ("trajectory"), a `TrajectorySequenceObserver` ("sequence") or an `EpisodeObserver`
    ("episode") would make of its steps alone; no item mixes environments. The batch
    crosses into the core once. Items can be sampled when the call returns, those of one
    call in the order of its environments, unless a table's rate limiter holds them back:
    then the end of any episode, `reset()` and `flush()` wait for them.

    A call may bring steps of some environments only, as when others are resetting.

    Thread-safe; calls from several threads must not bring the same environment.

    Args:
        py_client: see `TrajectoryObserver`, and there for what else is not said here.
        table_name: where items go: a table's name or several.
        sequence_length: steps of an item; the most of one for "episode".
        stride_length: steps between the starts of two windows; 1 for "episode".
        priority: of each new item.
        pad_end_of_episodes: see `TrajectoryObserver`; False for "episode".
        tile_end_of_episodes: likewise.
        num_envs: environments, numbered from 0.
        items: "trajectory", "sequence" or "episode".
        bypass_partial_episodes: whether an episode of more than `sequence_length` steps
            is dropped with a line in the log only; for "episode".

    Raises:
        InvalidArgumentError: an argument is out of range or contradicts another; or
            errors as `TrajectoryObserver`'s.
    """

    _BATCH_AXES = 1

    def __init__(
        self,
        py_client: Any,
        table_name: str | Sequence[str],
        sequence_length: int,
        stride_length: int = 1,
        priority: float = 1,
        pad_end_of_episodes: bool = False,
        tile_end_of_episodes: bool = False,
        *,
        num_envs: int,
        items: str = "trajectory",
        bypass_partial_episodes: bool = False,
    ) -> None:
        if items not in _KINDS:
            raise InvalidArgumentError(
                f"items: found {items!r:.200}, wanted one of {', '.join(map(repr, _KINDS))}."
            )
        self._episodes = items == "episode"
        if self._episodes and (stride_length != 1 or pad_end_of_episodes):
            raise InvalidArgumentError(
                'stride_length and pad_end_of_episodes mean nothing with items="episode": an '
                "item is a whole episode."
            )
        self._bypass = bool(bypass_partial_episodes)
        if self._bypass and not self._episodes:
            raise InvalidArgumentError('bypass_partial_episodes needs items="episode".')
        self._num_envs = check_int("num_envs", num_envs, 1, 2**31 - 1)
        super().__init__(
            py_client,
            table_name,
            length=("sequence_length", sequence_length),
            stride_length=stride_length,
            priority=priority,
            pad_end=pad_end_of_episodes,
            tile_end=tile_end_of_episodes,
            items=_KINDS[items],
            num_streams=self._num_envs,
        )

    def __repr__(self) -> str:
        """`ParallelObserver('table', 64 environments)`."""
        state = f"{self._num_envs} environments" if self._is_open else "closed"
        return f"ParallelObserver({self._target!r}, {state})"

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return self._num_envs

    def __call__(
        self,
        steps: Any,
        env_ids: ArrayLike | None = None,
        *unnamed: NoReturn,
        last: ArrayLike | None = None,
        **unknown: NoReturn,
    ) -> None:
        """Stores one step of each environment, or of some.

        Atomic: on an error nothing was stored, unless it says so. (Where memory runs
        out, environments up to some point of the batch have their step.)

        Args:
            steps: nest of arrays `[B, ...]`, B = `num_envs`, or one step for each of
                `env_ids`. Values are copied, and cast where none is lost: see
                `nests.casts.convert`.
            env_ids: integers `[B]`, none twice; None for all, in order.
            last: bools `[B]`, or 0 and 1, true for an episode's boundary record, as a
                `TrajectoryObserver` has it. Steps that know their boundary (a
                Trajectory) are asked instead; then `last` may only repeat what they say.
            *unnamed: nothing: it is there to say what was meant.
            **unknown: likewise.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            TypeError: any other argument.
            InvalidArgumentError: `env_ids` are none; `last` contradicts the steps, or is
                neither true nor false; or episodes became too long, which are dropped:
                all other environments' steps were stored, and the message says so.
            ClosedError, UnreachableServerError, EndlessWaitError: see
                `TrajectoryObserver`.
        """
        if unnamed or unknown:
            raise misused("observer(steps, env_ids, last=...)", unnamed, unknown)
        writer = self._writer
        if writer is None:
            writer = self._start(steps)
        try:
            leaves: list[Any] = self._flatten(steps)
        except (ValueError, TypeError):
            raise self._nest.explain(steps) from None
        ids = None if env_ids is None else self._ids(env_ids)
        size = self._num_envs if ids is None else len(ids)
        lasts = None
        if self._ends_unsaid != ASKS_COLUMN or last is not None:
            lasts = self._boundaries(steps, last, (size,)).view(np.uint8)
        fates = np.empty(size, np.uint8) if self._episodes else None
        try:
            result = writer.append_batch(leaves, size, ids, lasts, fates)
            if result >= 0:
                again = functools.partial(writer.append_batch, leaves, size, ids, lasts, fates)
                result = self._cast(leaves, result, again, (size,))
        except _core.Closed:
            raise self._target.closed_error() from None
        except ValueError:
            self._explain_ids(ids)
            raise
        if result == _core.STORED_BUT_BLOCKED:
            self._wait_for_items()
        elif result == _core.TOO_LONG and fates is not None:
            places = np.flatnonzero(fates == _TOO_LONG)
            envs = (places if ids is None else ids[places]).tolist()
            whose = f"The other environments' steps were stored. The episode of {envs!r:.200}"
            too_long(self._bypass, whose, self._settings["sequence_length"])

    def reset(
        self, write_cached_steps: bool = True, env_ids: ArrayLike | int | None = None
    ) -> None:
        """Ends open episodes, of all environments or of some; reopens a closed observer.

        Waits for the items as `flush` does.

        Args:
            write_cached_steps: with padding, or for "episode", the rest of each episode
                is written as at its end. False drops it.
            env_ids: whose; None for all.

        Raises:
            InvalidArgumentError: `env_ids` are none; or `write_cached_steps` without
                padding, and some last steps are in no window. The episodes are ended
                all the same.
            ClosedError, UnreachableServerError, EndlessWaitError: see
                `TrajectoryObserver`.
        """
        envs = range(self._num_envs)
        if env_ids is not None:
            ids = self._ids(np.atleast_1d(env_ids))
            self._explain_ids(ids)
            envs = ids.tolist()
        self.open()
        self._target.check_open()
        writer = self._writer
        if writer is None:  # no step has come yet
            return
        try:
            uncovered = {env: writer.reset(bool(write_cached_steps), env) for env in envs}
        except _core.Closed:
            raise self._target.closed_error() from None
        self._wait_for_items()
        lost = {env: steps for env, steps in uncovered.items() if steps}
        if lost:
            raise self._uncovered(
                f"the last steps of environments (environment: steps) {lost!r:.200}"
            )

    def cached_steps(self) -> NDArray[np.int64]:
        """Steps of each environment's open episode, `[num_envs]`."""
        writer = self._writer
        if writer is None:
            return np.zeros(self._num_envs, np.int64)
        return np.array([writer.num_cached_of(env) for env in range(self._num_envs)], np.int64)

    def _boundaries(self, step: Any, last: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        if self._settings["items"] == _core.STREAM:
            return np.zeros(shape, np.bool_)
        found: NDArray[np.bool_] = super()._boundaries(step, last, shape)
        return found

    def _ids(self, env_ids: ArrayLike) -> NDArray[np.int64]:
        ids = as_array("env_ids", env_ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            hint = " Ends of episodes are passed as last=." if ids.dtype.kind == "b" else ""
            raise InvalidArgumentError(
                f"env_ids: found {describe(ids)}, wanted integers of shape [B].{hint} "
                "Nothing has changed."
            )
        return np.ascontiguousarray(ids, np.int64)

    def _explain_ids(self, ids: NDArray[np.int64] | None) -> None:
        """Raises the error for numbers that are no environments, if they are not."""
        seen: set[int] = set()
        for env in () if ids is None else map(operator.index, ids):
            if not 0 <= env < self._num_envs or env in seen:
                what = "occurs twice" if env in seen else "is no environment"
                raise InvalidArgumentError(
                    f"env_ids: {env} {what}; wanted each of 0 to {self._num_envs - 1} at most "
                    "once. Nothing has changed."
                )
            seen.add(env)
