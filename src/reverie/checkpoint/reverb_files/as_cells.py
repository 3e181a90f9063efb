"""Items as a server has them: chunks of cells, and columns that are pieces of those.

Every column of every chunk that an item refers to is a chunk of cells. So the items of
one table may differ, columns may be squeezed or hold texts, and what several tables
share is there once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie import _core
from reverie.checkpoint.reverb_files.budget import shown
from reverie.checkpoint.reverb_files.runs import Bools, Ints, Slices, changes
from reverie.checkpoint.reverb_files.stored import Stored, StoredTable
from reverie.checkpoint.reverb_files.tensors import Array
from reverie.errors import CheckpointLimitError
from reverie.proto.data_types import STRING

# Long items that share texts have far more pieces than the file has bytes.
_MAX_PIECES = 1 << 24


def fill_cells(
    stored: Stored, names: list[str], store: _core.Store
) -> tuple[dict[str, dict[str, Any]], int]:
    """Fills a fresh store with the cells of some tables.

    Returns:
        By table, what the core's `restore` takes, and the number of the next chunk.

    Raises:
        CheckpointError: As `read_stored`.
    """
    used = stored.used(names)
    numbers, following = _first_numbers(stored, used)
    texts = stored.chunks.texts()
    states = {}
    for name in names:
        table = stored.tables[name]
        states[name] = table.state()
        if table.slices is not None:
            tensor = table.slices.tensor
            first = numbers[np.searchsorted(used, tensor)]
            states[name] |= _pieces(table, table.slices, first, texts[tensor])
    for tensor, number in zip(used.tolist(), numbers.tolist(), strict=True):
        cells = stored.chunks.unpack(tensor)
        if isinstance(cells, list):
            for at, text in enumerate(cells, number):
                target = store.restore_chunk(None, at, 1, len(text))
                target.reshape(-1)[:] = np.frombuffer(text, np.uint8)
        else:
            _fill(store, number, cells)
    return states, following


def _fill(store: _core.Store, number: int, cells: Array) -> None:
    layout = _core.RecordLayout([(cells.dtype, cells.shape[1:])])
    target = store.restore_chunk(layout, number, len(cells))
    raw = np.ascontiguousarray(cells).reshape(-1)
    target.reshape(-1)[:] = raw.view(np.uint8) if raw.size else raw.astype(np.uint8)


def _first_numbers(stored: Stored, used: Ints) -> tuple[Ints, int]:
    """The number of each column's first chunk, and the next: every text has its own."""
    counts = np.ones(len(used), np.int64)
    for at, tensor in enumerate(used.tolist()):
        stored.take(tensor)
        packed = stored.chunks.tensors[tensor]
        if packed.code == STRING:
            counts[at] = packed.rows
    return np.cumsum(counts) - counts + 1, int(counts.sum()) + 1


def _pieces(table: StoredTable, of: Slices, number: Ints, texts: Bools) -> dict[str, Any]:
    """The arrays of trajectories; `number` and `texts` are of each slice."""
    length = of.length
    # A text is a chunk of its own, so a slice of texts is as many pieces.
    pieces = np.where(texts, length, 1)
    count = int(pieces.sum())
    if count > _MAX_PIECES + 64 * len(pieces):
        raise CheckpointLimitError(
            f"Table {shown(table.settings.name)}: {count} texts in {len(table)} items, and at "
            f"most {_MAX_PIECES} and 64 for each slice can be read."
        )
    within = np.arange(count) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    is_text = np.repeat(texts, pieces)
    offset, number = np.repeat(of.offset, pieces), np.repeat(number, pieces)
    starts = np.flatnonzero(changes(of.item, of.column))
    squeezed = table.items.squeezed
    pairs = zip(of.item[starts].tolist(), of.column[starts].tolist(), strict=True)
    return {
        "traj_item": np.arange(len(table), dtype=np.uint64),
        "traj_episode": (of.episode[changes(of.item)] + 1).astype(np.uint64),
        "column_item": of.item[starts].astype(np.uint64),
        "column_field": np.zeros(len(starts), np.uint32),
        "column_squeeze": np.array(
            [i in squeezed and squeezed[i][c] for i, c in pairs], np.uint8
        ),
        "column_pieces": np.add.reduceat(pieces, starts).astype(np.uint32),
        "piece_chunk": np.where(is_text, number + offset + within, number).astype(np.uint64),
        "piece_offset": np.where(is_text, 0, offset).astype(np.uint32),
        "piece_length": np.where(is_text, 1, np.repeat(length, pieces)).astype(np.uint32),
    }
