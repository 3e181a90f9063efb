"""Rollouts between those who play them and the learner, who uses each one once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.rollouts.schedule import Entry, Schedule
from reverie.runtime.waiting import wait_until
from reverie.tables.roles import Use
from reverie.tables.table import Table
from reverie.views.base import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHERS = "nobody could {}. Do it from another thread"


class RolloutQueue:
    """See `Schedule`, whose owner this is. Thread-safe; who waits for an admission has a turn.

    Args:
        table: holds the rollouts, an item each, until they are taken.
        layout: of its records.
        fields: of a step.
        use: how they are used.
    """

    def __init__(
        self, table: Table, layout: _core.RecordLayout, fields: Fields, use: Use
    ) -> None:
        self._table, self._use = table, use
        self._version_key, self._group_key = fields.roles.version, use.group
        self._place = fields.places[self._version_key][0] if self._version_key else 0
        self._schedule = Schedule(
            use.batch_size or 1, use.max_staleness, use.group_size, use.version
        )
        self._moved = threading.Condition()
        self._turns: deque[object] = deque()
        self._adding = 0  # claimed, and not yet there
        self._leaving = 0  # taken, and still there
        self._cleared = 0
        columns = [
            column
            for key in (self._version_key, self._group_key)
            if key is not None
            for column in fields.columns(key, 1, 1, squeeze=True)
        ]
        lead = fields.own.lead
        self._plan = _core.ViewPlan(layout, columns, 2 + lead, lead, 0)
        keys = table.core.items()["key"]
        if len(keys):  # of a saved buffer
            self.arrive(keys, [])

    @property
    def version(self) -> int:
        """Of the learner's policy."""
        return self._schedule.version

    def __len__(self) -> int:
        """Rollouts that may be taken, if those on their way permit it."""
        with self._moved:
            return self._schedule.num_ready()

    def admit(self, n: int, timeout: float | None) -> int:
        """Waits until `n` rollouts may be begun; the version to begin them with.

        Raises:
            InvalidArgumentError: there is no bound, they are no whole groups, or more than
                there may ever be.
            WaitTimeoutError: not in time.
            EndlessWaitError: nobody is left who could end the wait.
            ClosedError: the buffer is closed.
        """
        use = self._use
        if use.max_staleness is None:
            raise InvalidArgumentError(
                "admit(): this buffer has no bound that could be kept. Make it with "
                "limiter=reverie.limiters.Staleness(batch_size, max_staleness)."
            )
        most = (use.batch_size or 1) * (use.max_staleness + 1)
        if n % use.group_size or n > most:
            raise InvalidArgumentError(
                f"n: found {n}, wanted a multiple of the group_size, {use.group_size}, up to "
                f"{most}: batch_size * (max_staleness + 1)."
            )
        turn = object()
        admitted: list[int] = []
        with self._moved:
            self._turns.append(turn)

        def is_mine() -> bool:
            if self._turns[0] is not turn or not self._schedule.can_admit(n):
                return False
            self._schedule.admit(n)
            admitted.append(self.version)  # a moment later it may be another
            return True

        try:
            self._wait(
                is_mine,
                timeout,
                lambda: f"to begin {n} rollouts of version {self.version}: {self.describe()}",
                "sample, or raise the policy version",
            )
            return admitted[0]
        finally:
            with self._moved:
                self._turns.remove(turn)
                self._moved.notify_all()

    def withdraw(self, version: int, n: int) -> None:
        """`n` that were begun with that version will not come.

        Raises:
            InvalidArgumentError: so many are not on their way.
        """
        with self._moved:
            if not self._schedule.withdraw(version, n):
                raise InvalidArgumentError(
                    f"withdraw(): found {n} of version {version}, but on their way are "
                    f"{dict(self._schedule.playing)!r:.200}, by version."
                )
            self._moved.notify_all()

    @contextmanager
    def claim(
        self, columns: Sequence[NDArray[Any]], lengths: NDArray[np.uint64]
    ) -> Iterator[list[int]]:
        """Around the storing of episodes' records: they may come, and there is room.

        Gives the admissions that they use, for `arrive`, which empties the list.

        Raises:
            InvalidArgumentError: they are more than the capacity, from the future, or were
                not admitted.
            EndlessWaitError: there is no room, and nobody is left who could make some.
            ClosedError: the buffer is closed.
        """
        n = len(lengths)
        self._check_room(n)
        firsts = np.cumsum(lengths) - lengths + 1
        versions = self._versions(columns, firsts)

        def has_room() -> bool:
            self._check_room(n)  # it may have been resized
            if self._present() + n > self._table.settings.max_size:
                return False
            self._adding += n
            return True

        used: list[int] = []
        with self._moved:
            if versions and max(versions) > self.version:
                raise InvalidArgumentError(
                    f"{self._version_key!r:.100}: found a rollout of version {max(versions)}, "
                    f"but the newest one is {self.version}. Call set_policy_version() when a "
                    "new one comes into use. Nothing was stored."
                )
            if self._use.max_staleness is not None:
                found = self._schedule.arrived(versions)
                if found is None:
                    raise InvalidArgumentError(
                        f"found {n} rollouts of versions {sorted(set(versions))}, but on their "
                        f"way are {dict(self._schedule.playing)!r:.200}, by version. Call "
                        "admit() before a rollout begins. Nothing was stored."
                    )
                used += found
        try:
            self._wait(has_room, None, lambda: f"for room: {self.describe()}", "sample", ".")
            try:
                yield used
            finally:
                with self._moved:
                    self._adding -= n
                    self._moved.notify_all()
        finally:
            if used:
                with self._moved:
                    self._schedule.return_admissions(used)

    def arrive(self, keys: NDArray[np.uint64], used: list[int]) -> None:
        """Items of these keys are complete rollouts; if that fails, they are none at all.

        Args:
            keys: of the items.
            used: the admissions that they use up; it is empty then.
        """
        try:
            rows, found, _ = self._table.core.gather_view(self._plan, keys)
            columns = list(rows[0])
            versions = self._versions(columns, None) if self._version_key else [0] * len(found)
            groups = [0] * len(found) if self._group_key is None else columns[-1].tolist()
        except BaseException:
            self._table.core.delete(keys)
            raise
        with self._moved:
            self._schedule.add(found.tolist(), versions, groups, used)
            used.clear()
            self._moved.notify_all()

    @contextmanager
    def take(self, n: int, timeout: float | None) -> Iterator[NDArray[np.uint64]]:
        """The keys of the next `n` rollouts, to be copied and deleted within.

        They are back where they were if that fails.

        Raises:
            InvalidArgumentError: they are no whole groups.
            WaitTimeoutError: so many were not there in time.
            EndlessWaitError: nobody is left who could end the wait.
            ClosedError: the buffer is closed.
        """
        if n % self._use.group_size:
            raise InvalidArgumentError(
                f"batch_size: found {n}, wanted a multiple of the group_size, "
                f"{self._use.group_size}: groups are used whole."
            )
        taken: list[Entry] = []
        at = version = 0

        def has_some() -> bool:
            nonlocal at, version
            found = self._schedule.take(n)
            if found is None:
                return False
            taken.extend(found)
            self._leaving += n
            at, version = self._cleared, self.version
            return True

        self._wait(
            has_some, timeout, lambda: f"for {n} rollouts: {self.describe()}", "add rollouts"
        )
        used = False
        try:
            yield np.array([key for entry in taken for key in entry.keys], np.uint64)
            used = True
        finally:
            with self._moved:
                self._leaving -= n
                if not used and at == self._cleared:
                    self._schedule.put_back(taken, n if version == self.version else 0)
                self._moved.notify_all()

    def resize(self, capacity: int) -> None:
        """So many rollouts may wait from now on.

        Raises:
            InvalidArgumentError: more wait now, or may by the bound.
            ClosedError: the buffer is closed.
        """
        with self._moved:
            use = self._use
            bound = use.group_size
            if use.max_staleness is not None:
                bound = (use.batch_size or 1) * (use.max_staleness + 1)
            least = max(self._present(), bound)
            if capacity < least:
                raise InvalidArgumentError(
                    f"capacity: found {capacity}, wanted at least {least}: of episodes that "
                    f"are used once none makes room for another. {self.describe()}."
                )
            self._table.resize(capacity)
            self._moved.notify_all()

    def advance(self, version: int) -> None:
        """The learner's policy is that version from now on.

        Raises:
            InvalidArgumentError: it runs backwards, or something would be too old.
        """
        with self._moved:
            if version < self.version:
                raise InvalidArgumentError(
                    f"version: found {version}, but it is {self.version} already: versions of "
                    "a policy do not run backwards."
                )
            if not self._schedule.can_advance(version):
                raise InvalidArgumentError(
                    f"version: found {version}, with which rollouts would become older than "
                    f"max_staleness={self._use.max_staleness}: {self.describe()}. Sample "
                    f"{self._use.batch_size} rollouts for each version."
                )
            self._schedule.advance(version)
            self._moved.notify_all()

    def drop_group(self, group: int) -> NDArray[np.uint64]:
        """The keys of an incomplete group, to be deleted."""
        with self._moved:
            keys = self._schedule.drop_group(group)
            self._moved.notify_all()
        return np.array(keys, np.uint64)

    def clear(self) -> None:
        """The table is empty."""
        with self._moved:
            self._schedule.clear()
            self._cleared += 1
            self._moved.notify_all()

    def describe(self) -> str:
        """What is where, with the numbers."""
        with self._moved:
            return self._words()

    def _present(self) -> int:
        """Rollouts that the table has, or will have in a moment."""
        return self._schedule.held() + self._adding + self._leaving

    def _check_room(self, n: int) -> None:
        room = self._table.settings.max_size
        if n > room:
            raise InvalidArgumentError(
                f"episodes: found {n}, wanted at most {room}, the capacity."
            )

    def _words(self) -> str:
        schedule, use = self._schedule, self._use
        words = [f"{schedule.num_ready()} may be used, of policy {schedule.version}"]
        if schedule.open:
            some = list(schedule.open)[:5]
            count = f"{len(schedule.open)} group{'s' * (len(schedule.open) > 1)}"
            words.append(f"{count} of less than {use.group_size} (such as {some})")
        if schedule.playing:
            words.append(f"on their way by version: {dict(schedule.playing)!r:.200}")
        if use.max_staleness is not None:
            words.append(
                f"a version uses {use.batch_size}, none older than {use.max_staleness} versions"
            )
        return "; ".join(words)

    def _versions(self, columns: Sequence[Any], rows: NDArray[Any] | None) -> list[int]:
        if self._version_key is None:
            return [] if rows is None else [0] * len(rows)
        column = columns[0] if rows is None else columns[self._place][rows.astype(np.intp)]
        return [int(version) for version in column]

    def _wait(
        self,
        ready: Callable[[], bool],
        timeout: float | None,
        what: Callable[[], str],
        by: str,
        or_else: str = ", or pass a timeout.",
    ) -> None:
        def is_ready(seconds: float) -> bool:
            with self._moved:
                self._table.check_open()
                if ready():
                    return True
                self._moved.wait(seconds)
                return ready()

        wait_until(
            is_ready,
            timeout=timeout,
            what=what,
            way_out=_OTHERS.format(by) + or_else,
            progress=self._table.store.progress,
        )
