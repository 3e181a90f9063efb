"""What saving and restoring need of the native core: small protocols.

`reverie._core` fulfils them, and so do the fakes of the tests; the meaning of
every member is said in `_core.pyi`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reverie.nests.nest import Nest
from reverie.tables.settings import TableSettings

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and in all."""


class TableSnapshotLike(Protocol):
    """A table at one point in time."""

    @property
    def items(self) -> Mapping[str, NDArray[Any]]:
        """Its items as columns, in insertion order.

        And `holes`, u8: a bit for each place of that order, the least significant of a byte
        first, set where nothing stands there; empty or missing where all are taken.
        """

    @property
    def free_keys(self) -> NDArray[np.uint64]:
        """Keys last used in its free slots."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Its counters, as `manifest.COUNTERS` names them."""

    @property
    def rng_state(self) -> NDArray[np.uint64]:
        """Its generator, shape (4,)."""


class SnapshotLike(Protocol):
    """A core store at one point in time."""

    @property
    def chunks(self) -> Mapping[str, NDArray[Any]]:
        """Every chunk that an item refers to, as columns, by id."""

    @property
    def layouts(self) -> Sequence[Any]:
        """Their layouts: dtype and shape of each column; None for a cell of any size."""

    @property
    def ends(self) -> Mapping[str, NDArray[Any]]:
        """Where episodes end, as columns, by chunk and step."""

    def data(self, row: int) -> NDArray[np.uint8]:
        """The bytes of a chunk, given its row."""

    @property
    def tables(self) -> Sequence[TableSnapshotLike]:
        """All tables, in the order of their creation."""


class StoreLike(Protocol):
    """A store with its tables, that can be saved."""

    def snapshot(self) -> tuple[SnapshotLike, Sequence[TableSettings], Sequence[Nest]]:
        """A consistent point in time of all tables, and their settings in that order.

        Beside them the nests of the steps that live in it, for the names of columns.
        """

    def check_open(self) -> None:
        """Raises where it was closed, or is a forked child's."""


class FreshCoreLike(Protocol):
    """A fresh core store to restore into."""

    def restore_chunk(
        self, layout: Any, chunk_id: int, count: int, nbytes: int = 0
    ) -> NDArray[np.uint8]:
        """A new chunk's writable bytes, shape (count, record_nbytes)."""

    def link_chunks(self, ids: NDArray[np.uint64], next_ids: NDArray[np.uint64]) -> None:
        """Says where streams go on."""

    def restore_ends(
        self, chunk: NDArray[np.uint64], step: NDArray[np.uint32], how: NDArray[np.uint8]
    ) -> None:
        """Says where episodes end."""
