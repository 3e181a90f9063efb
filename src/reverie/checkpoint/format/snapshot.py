"""What saving and restoring need of the native core: small protocols.

`reverie._core` fulfils them, and so do the fakes of the tests; the meaning of
every member is said in `_core.pyi`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and in all."""


class ChunkLike(Protocol):
    """A chunk pinned by a snapshot."""

    @property
    def chunk_id(self) -> int:
        """Its id, from 1."""

    @property
    def next_id(self) -> int:
        """The chunk that the stream goes on in, or 0."""

    @property
    def sealed(self) -> bool:
        """Whether it can no longer grow."""

    @property
    def count(self) -> int:
        """Filled records."""

    @property
    def columns(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]] | None:
        """Dtype and shape of each; None for one cell of any size. Asked of cells only."""

    def data(self) -> NDArray[np.uint8]:
        """Its records as bytes, shape (count, record_nbytes)."""


class TableSnapshotLike(Protocol):
    """A table at one point in time."""

    @property
    def items(self) -> Mapping[str, NDArray[Any]]:
        """Its items as columns, in insertion order."""

    @property
    def free_keys(self) -> NDArray[np.uint64]:
        """Keys last used in its free slots."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Its inserts, samples and deletes, and more where the core counts more."""

    @property
    def rng_state(self) -> NDArray[np.uint64]:
        """Its generator, shape (4,)."""


class SnapshotLike(Protocol):
    """A store at one point in time."""

    @property
    def chunks(self) -> Sequence[ChunkLike]:
        """Every chunk that an item refers to."""

    @property
    def tables(self) -> Sequence[TableSnapshotLike]:
        """All tables, in the order of their creation."""


class StoreLike(Protocol):
    """A fresh store to restore into."""

    def restore_chunk(
        self, layout: Any, chunk_id: int, count: int, nbytes: int = 0
    ) -> NDArray[np.uint8]:
        """A new chunk's writable bytes, shape (count, record_nbytes)."""

    def link_chunk(self, chunk_id: int, next_id: int) -> None:
        """Says where a stream goes on."""

    def seal_restore(self) -> None:
        """Ends restoring."""


class TableLike(Protocol):
    """A fresh, empty table to restore into."""

    @property
    def max_size(self) -> int:
        """How many items it may hold."""

    def restore(self, state: dict[str, Any]) -> None:
        """Takes the arrays of a table snapshot, by name."""
