"""One store of this process, with whether it still serves: what tables hang on."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import replace
from typing import Any, Protocol

from reverie import _core
from reverie.errors import ClosedError, ForkedProcessError, ReverieError
from reverie.nests.nest import Nest
from reverie.runtime.company import met
from reverie.runtime.leaving import guard
from reverie.tables.roles import Roles
from reverie.tables.settings import MAX_ITEMS, TableSettings

_MOVES = ("inserts", "samples", "deletes", "pending")
_GATHER_THREADS = min(4, os.cpu_count() or 1)


class Watched(Protocol):
    """What holds a writer of the core, which a forked child must not touch."""

    def abandon(self) -> Any:
        """In a forked child: gives the writer up, and returns it, never to be destroyed."""


class Store:
    """The chunks and tables of one buffer or server. Thread-safe.

    Args:
        where: whose it is, for messages: "Table 'x'", "The server on port 8000".
        error: what later use raises once it is closed.
        way_out: how to go on then.
        anew: the same in a forked child.
        before: a closed store, whose tables are served again by this one, with what they
            hold: closed as well, until `reopen`.

    Attributes:
        core: the core's store; one copy of every step, however many tables refer to it.
        settings: of its tables, in the order of the core's.
        nests: structures of the steps that are stored as records, for names on disk.
        before: as it was given; None once it was reopened.
    """

    def __init__(
        self,
        where: str,
        *,
        error: type[ReverieError] = ClosedError,
        way_out: str = "Create or load the buffer anew.",
        anew: str = "Create a buffer there, or save() here and load_replay_buffer() there.",
        before: Store | None = None,
    ) -> None:
        self.where = where
        self.before = before
        if before is None:
            self.core = _core.Store(gather_threads=_GATHER_THREADS)
            self.settings: list[TableSettings] = []
            self.nests: list[Nest] = []
            self._tables: list[_core.Table] = []
        else:
            self.core, self.settings = before.core, before.settings
            self.nests, self._tables = before.nests, before._tables
        self._settling = threading.Lock()  # so that `settings` are those of the core's tables
        self._error = error
        self._way_out = way_out
        self._anew = anew
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._closed = "" if before is None else "does not serve yet."
        self.is_forked = False
        guard(self)

    @property
    def is_open(self) -> bool:
        """Whether it serves: neither closed nor a forked child's copy."""
        return not (self._closed or self.is_forked)

    def check_open(self) -> None:
        """Raises where nothing can be written or sampled; the caller's thread is known then.

        Raises:
            ReverieError: the store's own error: it was closed.
            ForkedProcessError: see `check_process`.
        """
        met()
        if self._closed or self.is_forked:
            raise self.closed_error()

    def check_process(self) -> None:
        """Raises in a child process that inherited the store by a fork.

        Raises:
            ForkedProcessError: the child's copy must not be touched.
        """
        if self.is_forked:
            raise self.closed_error()

    def closed_error(self) -> ReverieError:
        """The error for a store that is closed or forked, or that the core says is."""
        if self.is_forked:
            return ForkedProcessError(
                f"{self.where} was made before os.fork() and is memory of the parent: no "
                "other process can use it, whether it began by fork or by spawn. "
                f"{self._anew}"
            )
        return self._error(f"{self.where} {self._closed or 'is closed.'} {self._way_out}")

    def close(self, why: str = "is closed.") -> None:
        """Refuses later use and wakes who waits; what is stored can still be looked at."""
        if self.is_open:
            self._closed = why
            self.core.close()

    def reopen(self) -> None:
        """Serves what the store before did. The writers of that one stay closed."""
        self.core.reopen()
        self.before, self._closed = None, ""

    def progress(self) -> object:
        """What is another whenever somebody has added to, sampled or deleted from a table."""
        tables = [table.info() for table in list(self._tables)]
        counts = [[info[name] for name in _MOVES] for info in tables]
        return counts, self.core.info()["num_steps"]

    def create_table(self, settings: TableSettings, seed: int) -> _core.Table:
        """A new, empty table in the core's store; `settings` tells of it from now on."""
        with self._settling:
            table = core_table(self.core, settings, seed)
            self._tables.append(table)
            self.settings.append(settings)
        return table

    def resize_table(self, table: _core.Table, max_size: int) -> None:
        """At most so many items from now on; see the core's `resize`."""
        with self._settling:
            table.resize(max_size)
            self._change(table, max_size=max_size)

    def set_roles(self, table: _core.Table, roles: Roles) -> None:
        """What its keys are from now on."""
        with self._settling:
            self._change(table, roles=roles)

    def _change(self, table: _core.Table, **settings: Any) -> None:
        place = self._tables.index(table)
        self.settings[place] = replace(self.settings[place], **settings)

    def snapshot(self) -> tuple[_core.Snapshot, list[TableSettings], list[Nest]]:
        """A point in time of all tables, their settings then, and all nests."""
        with self._settling:
            snapshot = self.core.snapshot()
            return snapshot, list(self.settings), list(self.nests)

    def watch(self, writer: Watched) -> None:
        """Keeps a forked child from touching the core of `writer`."""
        self._watched.add(writer)

    def know(self, nest: Nest) -> None:
        """Records of this structure will be stored: its paths name their columns on disk."""
        if all(known.record_dtype != nest.record_dtype for known in self.nests):
            self.nests.append(nest)

    def abandon(self) -> Any:
        """In a forked child: refuses all use; see `runtime.leaving`."""
        self.is_forked = True
        return self, [writer.abandon() for writer in list(self._watched)]


def core_table(store: _core.Store, settings: TableSettings, seed: int) -> _core.Table:
    """A new, empty table in a store of the core."""
    limiter = settings.limiter
    exponents = [
        1.0 if selector.exponent is None else selector.exponent
        for selector in (settings.sampler, settings.remover)
    ]
    return store.create_table(
        max_size=min(settings.max_size, MAX_ITEMS),
        sampler=getattr(_core, settings.sampler.kind.upper()),
        remover=getattr(_core, settings.remover.kind.upper()),
        min_size_to_sample=limiter.min_size_to_sample,
        samples_per_insert=limiter.samples_per_insert,
        min_diff=limiter.min_diff,
        max_diff=limiter.max_diff,
        seed=seed,
        sampler_exponent=exponents[0],
        remover_exponent=exponents[1],
        max_times_sampled=max(settings.max_times_sampled, 0),
    )
