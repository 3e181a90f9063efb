"""Tables with the arguments, the attributes and the looks that Reverb's engine gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import ItemSelector
from reverie.tables.settings import TableSettings
from reverie.tables.table import Table as _Table


class TableExtension:
    """What Reverb's C++ extensions derive from; there are none here."""


class Table(_Table):
    """A `reverie.tables.table.Table`; arguments are those of its `TableSettings`.

    Args:
        name: not empty, unique in its server.
        sampler: chooses what to sample.
        remover: chooses what makes room for a new item in a full table.
        max_size: the most items it holds, > 0.
        max_times_sampled: an item leaves after so many samples; < 1: no limit.
        rate_limiter: when samples and inserts may pass.
        extensions: must be empty.
        signature: describes an item's data; None or an empty nest: anything goes.

    Raises:
        InvalidArgumentError: extensions; else, as TypeError and SpecError, what
            `TableSettings` raises.
    """

    def __init__(
        self,
        name: str,
        sampler: ItemSelector,
        remover: ItemSelector,
        max_size: int,
        max_times_sampled: int,
        rate_limiter: Limiter,
        extensions: Sequence[TableExtension] = (),
        signature: Any = None,
    ) -> None:
        if isinstance(name, str) and extensions:
            raise InvalidArgumentError(
                f"extensions of table {name!r:.200}: found {len(extensions)}, wanted none. "
                "Reverb's extensions are C++ code of its own and cannot run here."
            )
        super().__init__(
            TableSettings(
                name=name,
                max_size=max_size,
                sampler=sampler,
                remover=remover,
                limiter=rate_limiter,
                max_times_sampled=max_times_sampled,
                signature=signature,
            )
        )

    def __repr__(self) -> str:
        """As Reverb shows it, with the nest itself as the signature."""
        of = self.settings
        signature = "nullptr" if of.signature is None else repr(of.signature)
        return (
            f"Table(sampler={of.sampler!r}, remover={of.remover!r}, max_size={of.max_size}, "
            f"max_times_sampled={of.max_times_sampled}, name={of.name}, "
            f"rate_limiter={of.limiter!r}, signature={signature})"
        )
