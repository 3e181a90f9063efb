"""Tables: settings first, and the core's table once a server has taken them."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from typing import Any

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_int
from reverie.table import MAX_ITEMS
from reverie.tables.limiters import Limiter as RateLimiter
from reverie.tables.selectors import (
    FifoSelector,
    HeapSelector,
    ItemSelector,
    LifoSelector,
    PrioritizedSelector,
    SelectorKind,
    UniformSelector,
    selector_of,
)
from reverie.tables.signature import checked_signature
from reverie.tables.store import Host

__all__ = [
    "FifoSelector",
    "HeapSelector",
    "ItemSelector",
    "LifoSelector",
    "PrioritizedSelector",
    "RateLimiter",
    "SelectorKind",
    "Table",
    "TableExtension",
    "UniformSelector",
    "selector_of",
]

_NO_ITEMS = dict.fromkeys(
    (
        "size",
        "inserts",
        "samples",
        "deletes",
        "num_unique_samples",
        "num_episodes",
        "num_deleted_episodes",
        "pending",
    ),
    0,
)


class TableExtension:
    """What Reverb's C++ extensions derive from; there are none here."""


class Table:
    """Items of data, chosen by a sampler and a remover, let pass by a rate limiter.

    Until a server takes it a table is its settings and empty. Then its items live in
    the server's store. Thread-safe; choosing an item is O(1) or O(log n).

    Args:
        name: not empty, unique in its server.
        sampler: chooses what to sample.
        remover: chooses what makes room for a new item in a full table.
        max_size: the most items it holds, > 0.
        max_times_sampled: an item leaves after so many samples; < 1: no limit.
        rate_limiter: when samples and inserts may pass.
        extensions: must be empty.
        signature: nest of anything with a shape and a dtype that describes an item's
            data (an extent may be None); None or an empty nest: anything goes.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: a value is out of range; extensions; or settings by
            which nothing could ever be sampled.
        SpecError: a leaf of the signature describes no array.
    """

    def __init__(
        self,
        name: str,
        sampler: ItemSelector,
        remover: ItemSelector,
        max_size: int,
        max_times_sampled: int,
        rate_limiter: RateLimiter,
        extensions: Sequence[TableExtension] = (),
        signature: Any = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name: found {name!r:.200}, wanted a str.")
        if extensions:
            raise InvalidArgumentError(
                f"extensions of table {name!r:.200}: found {len(extensions)}, wanted none. "
                "Reverb's extensions are C++ code of its own and cannot run here."
            )
        self.name = name
        # An item's key, as its users see it, is the core's key XOR this: so a key of another
        # table is a stale one here, and keys survive a checkpoint.
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self.key_mask = int.from_bytes(digest, "big")
        self._lock = threading.Lock()
        self._host: Host | None = None
        self._core: _core.Table | None = None
        self._set(sampler, remover, max_size, max_times_sampled, rate_limiter, signature)

    def _set(
        self,
        sampler: ItemSelector,
        remover: ItemSelector,
        max_size: int,
        max_times_sampled: int,
        rate_limiter: RateLimiter,
        signature: Any,
    ) -> None:
        for role, selector in (("sampler", sampler), ("remover", remover)):
            if not isinstance(selector, ItemSelector):
                raise TypeError(
                    f"{role} of table {self.name!r:.200}: found {selector!r:.200}, wanted one "
                    "of reverb.selectors, for example Fifo()."
                )
        if not isinstance(rate_limiter, RateLimiter):
            raise TypeError(
                f"rate_limiter of table {self.name!r:.200}: found {rate_limiter!r:.200}, "
                "wanted one of reverb.rate_limiters, for example MinSize(1)."
            )
        size = as_int("max_size", max_size)
        if size <= 0:
            raise InvalidArgumentError(
                f"max_size ({size}) of table {self.name!r:.200} must be a positive integer."
            )
        if rate_limiter.min_size_to_sample > size:
            raise InvalidArgumentError(
                f"Table {self.name!r:.200} would never let a sample pass: its rate limiter "
                f"wants min_size_to_sample ({rate_limiter.min_size_to_sample}) items, above "
                f"max_size ({size}). Raise max_size or lower min_size_to_sample."
            )
        self.sampler = sampler
        self.remover = remover
        self.max_size = size
        self.max_times_sampled = as_int("max_times_sampled", max_times_sampled)
        self.rate_limiter = rate_limiter
        self.signature = checked_signature(signature)

    def attach(self, host: Host) -> None:
        """Gives the table to a server, for good.

        Raises:
            InvalidArgumentError: it had one before.
        """
        with self._lock:
            if self._host is not None:
                self._host.check_process()
                raise InvalidArgumentError(
                    f"Table {self.name!r:.200} cannot be given to a second server: "
                    f"{self._host.where} "
                    + ("serves it. " if self._host.is_open else "had it, and was stopped. ")
                    + "Table.replace() makes a new, empty table of the same settings."
                )
            self._host = host

    def detach(self) -> None:
        """Takes `attach` back, where the server could not be made."""
        with self._lock:
            self._host = self._core = None

    def override(
        self,
        *,
        sampler: tuple[SelectorKind, float | None],
        remover: tuple[SelectorKind, float | None],
        max_size: int,
        max_times_sampled: int,
        min_size_to_sample: int,
        samples_per_insert: float,
        min_diff: float,
        max_diff: float,
        signature: Any,
    ) -> None:
        """Replaces all settings but the name by those of a checkpoint.

        Only before the first use of `core`. Errors as the constructor's.
        """
        with self._lock:
            if self._core is not None:
                raise InvalidArgumentError(
                    f"Table {self.name!r:.200} is in use already; its settings stay."
                )
            self._set(
                selector_of(*sampler),
                selector_of(*remover),
                max_size,
                max_times_sampled,
                RateLimiter(samples_per_insert, min_size_to_sample, min_diff, max_diff),
                signature,
            )

    @property
    def host(self) -> Host:
        """What it hangs on.

        Raises:
            InvalidArgumentError: no server has taken it yet.
        """
        if self._host is None:
            raise InvalidArgumentError(
                f"Table {self.name!r:.200} holds no data yet: give it to a Server first."
            )
        return self._host

    @property
    def store(self) -> _core.Store:
        """The store of its server; errors as `host`'s."""
        return self.host.store

    @property
    def core(self) -> _core.Table:
        """The core's table, made at the first use; errors as `host`'s, ForkedProcessError."""
        core = self._core
        host = self.host
        host.check_process()
        if core is None:
            with self._lock:
                core = self._core = self._core or self._new_core(host)
        return core

    def _new_core(self, host: Host) -> _core.Table:
        limiter = self.rate_limiter
        core = host.store.create_table(
            max_size=min(self.max_size, MAX_ITEMS),
            sampler=getattr(_core, self.sampler.kind.upper()),
            remover=getattr(_core, self.remover.kind.upper()),
            min_size_to_sample=limiter.min_size_to_sample,
            samples_per_insert=limiter.samples_per_insert,
            min_diff=limiter.min_diff,
            max_diff=limiter.max_diff,
            seed=secrets.randbits(64),
            sampler_exponent=1.0 if self.sampler.exponent is None else self.sampler.exponent,
            remover_exponent=1.0 if self.remover.exponent is None else self.remover.exponent,
            max_times_sampled=max(self.max_times_sampled, 0),
        )
        host.cores.append(core)
        return core

    def check_open(self) -> None:
        """Raises UnreachableServerError or ForkedProcessError; see `Host.check_open`."""
        self.host.check_open()

    def can_sample(self, n: int) -> bool:
        """Whether the rate limiter would let `n` samples pass now.

        Raises:
            TypeError: `n` is no integer.
            InvalidArgumentError: `n` < 1.
        """
        n = _positive("num_samples", n)
        if self._host is None:
            return self.rate_limiter.can_sample(n, inserts=0, samples=0, deletes=0)
        return self.core.can_sample(n)

    def can_insert(self, n: int) -> bool:
        """Whether the rate limiter would let `n` inserts pass now; errors as above."""
        n = _positive("num_inserts", n)
        if self._host is None:
            return self.rate_limiter.can_insert(n, inserts=0, samples=0, deletes=0)
        return self.core.can_insert(n)

    def state(self) -> dict[str, Any]:
        """Sizes and counters now: size, inserts, samples, deletes, num_unique_samples, ...

        Also of a stopped server's table.

        Raises:
            ForkedProcessError: see `Host.check_process`.
        """
        return dict(_NO_ITEMS) if self._host is None else self.core.info()

    def __repr__(self) -> str:
        """As Reverb shows it, with the nest itself as the signature."""
        signature = "nullptr" if self.signature is None else repr(self.signature)
        return (
            f"Table(sampler={self.sampler!r}, remover={self.remover!r}, "
            f"max_size={self.max_size}, max_times_sampled={self.max_times_sampled}, "
            f"name={self.name}, rate_limiter={self.rate_limiter!r}, signature={signature})"
        )


def _positive(name: str, value: Any) -> int:
    number = as_int(name, value)
    if number < 1:
        raise InvalidArgumentError(f"{name} ({number}) must be a positive integer.")
    return number
