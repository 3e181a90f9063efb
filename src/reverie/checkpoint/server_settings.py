"""What a server's tables look like to checkpoints, and their settings as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reverie.checkpoint.format.manifest import TableSettings
from reverie.checkpoint.format.snapshot import SnapshotLike, StoreLike, TableLike
from reverie.errors import CheckpointCorruptError

SELECTORS = ("fifo", "lifo", "uniform", "prioritized", "min_heap", "max_heap")
Selector = tuple[Any, float | None]


class SelectorLike(Protocol):
    """A strategy that chooses items."""

    @property
    def kind(self) -> str:
        """One of SELECTORS."""

    @property
    def exponent(self) -> float | None:
        """Of a prioritized one, else None."""


class LimiterLike(Protocol):
    """A rate limiter's settings."""

    @property
    def min_size_to_sample(self) -> int:
        """Items that must be there before sampling starts."""

    @property
    def samples_per_insert(self) -> float:
        """Samples that an insert stands for."""

    @property
    def min_diff(self) -> float:
        """Lower bound of inserts * samples_per_insert - samples."""

    @property
    def max_diff(self) -> float:
        """Upper bound of the same."""


class ServerStoreLike(StoreLike, Protocol):
    """The store of a server."""

    def snapshot(self) -> SnapshotLike:
        """A consistent point in time of all its tables."""


class ServerTableLike(Protocol):
    """A table of a server: settings, and the core's table behind them."""

    @property
    def name(self) -> str:
        """Unique in its server."""

    @property
    def sampler(self) -> SelectorLike:
        """Chooses what to sample."""

    @property
    def remover(self) -> SelectorLike:
        """Chooses what makes room."""

    @property
    def max_size(self) -> int:
        """The most items it holds."""

    @property
    def max_times_sampled(self) -> int:
        """Samples after which an item leaves; < 1: no limit."""

    @property
    def rate_limiter(self) -> LimiterLike:
        """When samples and inserts may pass."""

    @property
    def signature(self) -> Any:
        """A nest of specs, or None."""

    @property
    def store(self) -> Any:
        """The core's store, a ServerStoreLike, the same for all tables of a server."""

    @property
    def core(self) -> TableLike:
        """The core's table; made at the first use."""

    @property
    def host(self) -> Any:
        """What knows all the core's tables of the store, in order, as `cores`."""

    def override(
        self,
        *,
        sampler: Selector,
        remover: Selector,
        max_size: int,
        max_times_sampled: int,
        min_size_to_sample: int,
        samples_per_insert: float,
        min_diff: float,
        max_diff: float,
        signature: Any,
    ) -> None:
        """Replaces all settings but the name, before the first use of `core`."""


def settings_of(table: ServerTableLike) -> TableSettings:
    """A table's settings as the manifest has them."""
    limiter = table.rate_limiter
    return TableSettings(
        name=table.name,
        max_size=min(table.max_size, (1 << 53) - 1),
        sampler=_text(table.sampler),
        remover=_text(table.remover),
        min_size_to_sample=limiter.min_size_to_sample,
        samples_per_insert=float(limiter.samples_per_insert),
        min_diff=float(limiter.min_diff),
        max_diff=float(limiter.max_diff),
        max_times_sampled=max(0, table.max_times_sampled),
    )


def overrides(settings: TableSettings, signature: Any, where: str) -> Mapping[str, Any]:
    """The keywords of `override` for settings that a manifest holds.

    Raises:
        CheckpointCorruptError: a selector is none that exists.
    """
    return {
        "sampler": _selector(settings.sampler, where),
        "remover": _selector(settings.remover, where),
        "max_size": settings.max_size,
        "max_times_sampled": settings.max_times_sampled,
        "min_size_to_sample": settings.min_size_to_sample,
        "samples_per_insert": settings.samples_per_insert,
        "min_diff": settings.min_diff,
        "max_diff": settings.max_diff,
        "signature": signature,
    }


def current(table: ServerTableLike) -> Mapping[str, Any]:
    """The keywords of `override` that change nothing."""
    limiter = table.rate_limiter
    return {
        "sampler": (table.sampler.kind, table.sampler.exponent),
        "remover": (table.remover.kind, table.remover.exponent),
        "max_size": table.max_size,
        "max_times_sampled": table.max_times_sampled,
        "min_size_to_sample": limiter.min_size_to_sample,
        "samples_per_insert": limiter.samples_per_insert,
        "min_diff": limiter.min_diff,
        "max_diff": limiter.max_diff,
        "signature": table.signature,
    }


def names_of(tables: Sequence[ServerTableLike]) -> str:
    """The tables' names, for messages."""
    return repr([table.name for table in tables])[:200]


def _text(selector: SelectorLike) -> str:
    if selector.kind != "prioritized":
        return selector.kind
    exponent = 1.0 if selector.exponent is None else float(selector.exponent)
    return f"prioritized:{exponent!r}"


def _selector(text: str, where: str) -> Selector:
    kind, colon, number = text.partition(":")
    exponent = None
    sound = kind in SELECTORS and (bool(colon) == (kind == "prioritized"))
    if sound and colon:
        try:
            exponent = float(number)
        except ValueError:
            sound = False
        else:
            sound = math.isfinite(exponent)
    if not sound:
        raise CheckpointCorruptError(
            f"{where}: selector {text!r:.100}, expected one of {', '.join(SELECTORS)}, where "
            "prioritized is followed by a colon and a finite exponent."
        )
    return kind, exponent
