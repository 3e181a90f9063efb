"""A table: its settings first, and the core's table once a store has taken it."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from reverie import _core
from reverie.errors import InvalidArgumentError, UnstackableError
from reverie.nests.nest import Nest
from reverie.runtime.checks import as_int
from reverie.runtime.handle import Handle
from reverie.tables.roles import Roles
from reverie.tables.settings import TableSettings
from reverie.tables.signature import step_spec
from reverie.tables.store import Store

_COUNTERS = (
    *("size", "inserts", "samples", "deletes", "pending"),
    *("num_unique_samples", "num_episodes", "num_deleted_episodes"),
)


class EpisodeOwner(Protocol):
    """What adds steps to a table's episodes."""

    def drop_episode(self) -> None:
        """Forgets the open episodes' steps."""


class Table(Handle):
    """Items of data, chosen by a sampler and a remover, let pass by a limiter.

    Until a store takes it a table is its settings and empty. Thread-safe; choosing an
    item is O(1) or O(log n).

    Args:
        settings: of the table; `configure` replaces them before the first use.
        nest: structure of the steps that its items are runs of. None: the signature's,
            if that describes such items.
        seed: of the selectors, 0 to 2**64 - 1; None draws one. Two tables with the same
            seed and the same calls choose the same items.

    Attributes:
        settings: what it was made with, or a checkpoint has put in their place.
        name: the settings'.
        key_mask: an item's key, as Reverb's users see it, is the core's key XOR this: so
            a key of another table is a stale one here, and keys survive a checkpoint.
        seed: of the selectors.
        cleared_at: by `time.monotonic()`, when it was cleared last; None: never.
    """

    def __init__(
        self, settings: TableSettings, *, nest: Nest | None = None, seed: int | None = None
    ) -> None:
        self.settings = settings
        self.name = settings.name
        digest = hashlib.blake2b(self.name.encode("utf-8", "surrogatepass"), digest_size=8)
        self.key_mask = int.from_bytes(digest.digest(), "big")
        self.seed = secrets.randbits(64) if seed is None else seed
        self.cleared_at: float | None = None
        self._nest = nest
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._core: _core.Table | None = None
        self._owners: weakref.WeakSet[EpisodeOwner] = weakref.WeakSet()

    def __repr__(self) -> str:
        """`Table('replay', 49 of 50000 items)`."""
        return f"{type(self).__name__}({self.name!r}, {self.describe()})"

    def describe(self) -> str:
        """How many items it holds, or why that cannot be said, in words. Never raises."""
        store = self._store
        if store is None:
            return "not served yet"
        if not store.is_open:
            return "of the parent process" if store.is_forked else "closed"
        return f"{self.core.size} of {self.settings.max_size} items"

    @property
    def signature(self) -> Any:
        """The settings': a nest that describes an item's data, or None."""
        return self.settings.signature

    @property
    def nest(self) -> Nest | None:
        """Structure of the steps that its items are runs of, where that is known.

        Raises:
            SpecError: the signature's steps cannot be stored in fixed-width records.
        """
        if self._nest is None and self.signature is not None:
            spec = step_spec(self.signature)
            self._nest = None if spec is None else Nest(spec)
        return self._nest

    def know(self, nest: Nest) -> None:
        """Its items are runs of these steps, where nobody has said what they are runs of."""
        self._nest = self._nest or nest
        self.store.know(nest)

    def configure(self, settings: TableSettings) -> None:
        """Replaces all settings but the name by those of a checkpoint.

        Raises:
            InvalidArgumentError: the table is in use already.
        """
        with self._lock:
            if self._core is not None:
                raise InvalidArgumentError(
                    f"Table {self.name!r:.200} is in use already; its settings stay."
                )
            self.settings = settings
            self._nest = None

    def attach(self, store: Store) -> None:
        """Gives the table to a store: its first, or the one that goes on with its own.

        Raises:
            InvalidArgumentError: another one has it.
        """
        with self._lock:
            if self._store is not None and store.before is not self._store:
                self._store.check_process()
                raise InvalidArgumentError(
                    f"Table {self.name!r:.200} cannot be given to a second server: "
                    f"{self._store.where} "
                    + (
                        "serves it. "
                        if self._store.is_open
                        else "had it, and was stopped: it is served with the tables of that "
                        "one alone, whose steps it shares. "
                    )
                    + "Table.replace() makes a new, empty table of the same settings."
                )
            self._store = store

    @property
    def served_before(self) -> Store | None:
        """The store that it hangs on, where that is closed and what it holds is not lost.

        Raises:
            ForkedProcessError: see `Store.check_process`.
        """
        store = self._store
        if store is not None:
            store.check_process()
        return None if store is None or store.is_open else store

    def mark(self) -> Callable[[], None]:
        """What takes the table back to as it is now, where a server could not be made."""
        with self._lock:
            state = self.settings, self._nest, self._store, self._core

        def take_back() -> None:
            with self._lock:
                self.settings, self._nest, self._store, self._core = state

        return take_back

    @property
    def store(self) -> Store:
        """What it hangs on.

        Raises:
            InvalidArgumentError: no server has taken it yet.
        """
        if self._store is None:
            raise InvalidArgumentError(
                f"Table {self.name!r:.200} holds no data yet: give it to a Server first."
            )
        return self._store

    @property
    def core(self) -> _core.Table:
        """The core's table, made at the first use; errors as `store`'s, ForkedProcessError."""
        core = self._core
        store = self.store
        store.check_process()
        if core is None:
            with self._lock:
                core = self._core = self._core or store.create_table(self.settings, self.seed)
        return core

    def check_open(self) -> None:
        """Raises where it cannot be used; see `Store.check_open`."""
        self.store.check_open()

    def owned_by(self, owner: EpisodeOwner) -> None:
        """`owner` adds steps: it is told when the table is cleared."""
        self._owners.add(owner)

    def resize(self, max_size: int) -> None:
        """Holds at most so many items from now on; the remover chooses who leaves for it."""
        self.check_open()
        self.store.resize_table(self.core, max_size)
        self.settings = replace(self.settings, max_size=max_size)

    def set_roles(self, roles: Roles) -> None:
        """What the keys of its steps are from now on."""
        self.store.set_roles(self.core, roles)
        self.settings = replace(self.settings, roles=roles)

    def clear(self) -> None:
        """Deletes all items, drops the open episodes' steps, resets the limiter."""
        self.check_open()
        for owner in list(self._owners):
            owner.drop_episode()
        self.core.clear()
        self.cleared_at = time.monotonic()

    def can_sample(self, n: int) -> bool:
        """Whether the rate limiter would let `n` samples pass now.

        Raises:
            TypeError: `n` is no integer.
            InvalidArgumentError: `n` < 1.
        """
        n = _positive("num_samples", n)
        if self._store is None:
            return self.settings.limiter.can_sample(n, inserts=0, samples=0, deletes=0)
        return self.core.can_sample(n)

    def can_insert(self, n: int) -> bool:
        """Whether the rate limiter would let `n` inserts pass now; errors as above."""
        n = _positive("num_inserts", n)
        if self._store is None:
            return self.settings.limiter.can_insert(n, inserts=0, samples=0, deletes=0)
        return self.core.can_insert(n)

    def state(self) -> dict[str, Any]:
        """Sizes and counters now: size, inserts, samples, deletes, num_unique_samples, ...

        Also of a stopped server's table.

        Raises:
            ForkedProcessError: see `Store.check_process`.
        """
        return dict.fromkeys(_COUNTERS, 0) if self._store is None else self.core.info()

    def describe_sample_wait(self, what: str = "", needs: str = "") -> str:
        """What sampling `what` waits for, with the numbers; what an item `needs`."""
        info, limiter = self.core.info(), self.settings.limiter
        return (
            f"to sample {what}from table {self.name!r:.200}: it holds {info['size']} "
            f"items and wants at least {limiter.min_size_to_sample} {needs}".rstrip()
            + f"; after {info['inserts']} inserts and {info['samples']} samples its limiter "
            f"({limiter.in_words()}) {'lets' if self.core.can_sample(1) else 'does not let'} "
            "one more sample pass"
        )

    def describe_insert_wait(self) -> str:
        """Why items may wait for its limiter, with the numbers; "" where none does."""
        info = self.core.info()
        if not info["pending"]:
            return ""
        return (
            f"table {self.name!r} ({info['inserts']} inserted, {info['samples']} sampled; its "
            f"rate limiter wants {self.settings.limiter.in_words()})"
        )


def unstackable(
    table: str,
    key: int,
    column: str | None,
    found: int | None = None,
    wanted: int | None = None,
) -> UnstackableError:
    """That a batch cannot be made of items that differ.

    Args:
        table: its name.
        key: of the item at fault.
        column: path of the only column concerned.
        found: its steps, -1: without a time axis; None: it holds other data.
        wanted: steps of the others, or of the batch.
    """
    where = "" if column is None else f" in column {column!r}"
    if found is None:
        return UnstackableError(
            f"Item {key} of table {table!r} has other columns than this buffer's{where}: it "
            "cannot be stacked with them, nor take their structure. Use the spec it was "
            "written with, or a Server of reverie.reverb, which reads items of all kinds."
        )
    return UnstackableError(
        f"Item {key} of table {table!r} has {_steps(found)}{where}, wanted {_steps(wanted)}: "
        "items of unequal length cannot be stacked into [N, T, ...]. Read them one by one "
        "with iter_items(), or use the sequence_length they were written with."
    )


def _steps(length: int | None) -> str:
    return "no time axis" if length == -1 else f"{length} steps"


def _positive(name: str, value: Any) -> int:
    number = as_int(name, value)
    if number < 1:
        raise InvalidArgumentError(f"{name} ({number}) must be a positive integer.")
    return number
