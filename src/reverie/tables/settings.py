"""What a table is: one value, wherever tables are made, saved, loaded or described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_int, check_int
from reverie.tables.limiters import Limiter, MinSize, Staleness
from reverie.tables.roles import Roles
from reverie.tables.selectors import FifoSelector, ItemSelector, UniformSelector
from reverie.tables.signature import checked_signature

MAX_ITEMS = 2**32 - 2

Sampler = ItemSelector
"""Chooses what to sample: one of `reverie.samplers`."""

Remover = ItemSelector
"""Chooses what makes room in a full table: one of `reverie.removers`."""


_PRIORITIZED = (
    "Give the manager that creates or loads it sampler=reverie.samplers.Prioritized() "
    "(MinHeap() and MaxHeap() read priorities, too, all three also as remover=), or leave "
    "update_priorities() out."
)
_UNIFORM, _FIFO, _NO_LIMIT = UniformSelector(), FifoSelector(), MinSize(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """One table as it is configured. Equal settings are equal values.

    Attributes:
        name: unique in its store.
        max_size: the most items it holds, > 0; above `MAX_ITEMS` means that many.
        sampler: chooses what to sample.
        remover: chooses what makes room for a new item in a full table.
        limiter: when samples and inserts may pass.
        max_times_sampled: an item leaves after so many samples; < 1: no limit.
        signature: nest of anything with a shape and a dtype that describes an item's
            data, the time axis included (an extent may be None); None, as for an empty
            nest: anything goes.
        roles: of the keys of its steps, of a table that views are made for.
        sequence_length: steps of the windows that go in, of a table whose items are
            runs of steps; None: any.

    Raises:
        TypeError: an attribute is of another type.
        InvalidArgumentError: a number is out of range, or by the settings nothing
            could ever be sampled.
        SpecError: a leaf of the signature describes no array.
    """

    name: str
    max_size: int
    sampler: Sampler = _UNIFORM
    remover: Remover = _FIFO
    limiter: Limiter = _NO_LIMIT
    max_times_sampled: int = 0
    signature: Any = None
    sequence_length: int | None = None
    roles: Roles | None = None

    def __post_init__(self) -> None:
        """Checks, and brings numbers and the signature into their canonical form."""
        if not isinstance(self.name, str):
            raise TypeError(f"name: found {self.name!r:.200}, wanted a str.")
        for role, selector in (("sampler", self.sampler), ("remover", self.remover)):
            if not isinstance(selector, ItemSelector):
                raise TypeError(
                    f"{role} of table {self.name!r:.200}: found {selector!r:.200}, wanted one "
                    f"of reverie.{role}s or reverb.selectors, for example Fifo()."
                )
        if self.sampler.removes_alone:
            raise InvalidArgumentError(
                f"sampler of table {self.name!r:.200}: found {self.sampler!r}, which says what "
                "leaves; wanted one of reverie.samplers, such as Uniform()."
            )
        if not isinstance(self.limiter, Limiter):
            raise TypeError(
                f"rate_limiter of table {self.name!r:.200}: found {self.limiter!r:.200}, "
                "wanted one of reverie.limiters or reverb.rate_limiters, such as MinSize(1)."
            )
        if isinstance(self.limiter, Staleness) and (self.roles is None or not self.roles.use):
            raise InvalidArgumentError(
                f"limiter of table {self.name!r:.200}: found {self.limiter!r}, which is for a "
                "reverie.ReplayBuffer(view=reverie.views.Episodes(), version=...)."
            )
        size = as_int("max_size", self.max_size)
        if size <= 0:
            raise InvalidArgumentError(
                f"max_size ({size}) of table {self.name!r:.200} must be a positive integer."
            )
        if self.limiter.min_size_to_sample > size:
            raise InvalidArgumentError(
                f"Table {self.name!r:.200} would never let a sample pass: its rate limiter "
                f"wants min_size_to_sample ({self.limiter.min_size_to_sample}) items, above "
                f"max_size ({size}). Raise max_size or lower min_size_to_sample."
            )
        times = as_int("max_times_sampled", self.max_times_sampled)
        length = self.sequence_length
        if length is not None:
            length = check_int("sequence_length", length, 1, 2**32 - 1)
        for name, value in (
            ("max_size", size),
            ("max_times_sampled", times),
            ("sequence_length", length),
            ("signature", checked_signature(self.signature)),
        ):
            object.__setattr__(self, name, value)

    @property
    def prioritized(self) -> bool:
        """Whether a selector draws in proportion to priorities: they must be weights."""
        return "prioritized" in (self.sampler.kind, self.remover.kind)

    @property
    def may_run_ahead(self) -> bool:
        """Whether samples that are chosen long before they are read mean the same.

        Not where the limiter or a bound counts them, nor where they depend on priorities
        or on age.
        """
        return (
            self.max_times_sampled < 1
            and isinstance(self.limiter, MinSize)
            and self.sampler.kind == "uniform"
        )

    def check_updates(self, way_out: str = _PRIORITIZED) -> None:
        """Raises where new priorities would change nothing, whatever they are.

        Args:
            way_out: how to come by a table that reads them, in a sentence.

        Raises:
            InvalidArgumentError: neither the sampler nor the remover reads priorities.
        """
        if not (self.sampler.reads_priorities or self.remover.reads_priorities):
            raise InvalidArgumentError(
                f"update_priorities() of table {self.name!r:.200}: found the sampler "
                f"{self.sampler!r} and the remover {self.remover!r}, wanted one of the two to "
                f"read priorities: an update would change nothing. {way_out}"
            )

    def check_weighted(self) -> None:
        """Raises where importance weights correct for nothing.

        Raises:
            InvalidArgumentError: the sampler is not prioritized.
        """
        if self.sampler.kind != "prioritized":
            raise InvalidArgumentError(
                f"beta: found the sampler {self.sampler!r}, wanted a prioritized one: "
                "importance weights correct for its choice. Leave beta out, or make the buffer "
                "with sampler=reverie.samplers.Prioritized()."
            )
