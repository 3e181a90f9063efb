"""Reading the files that a manifest describes, each once, and believing none."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import BLOCK_NBYTES, CheckedFile
from reverie.checkpoint.disk.files import FileSystem, OpenFolder, failing_path
from reverie.checkpoint.disk.npy import Descr, read_header
from reverie.checkpoint.format.cells import CHUNK_DTYPE, CHUNK_FIELDS, CellLayout, CellMap
from reverie.checkpoint.format.columns import bad_bools
from reverie.checkpoint.format.manifest import (
    ELEMENT_NBYTES,
    MANIFEST_NAME,
    ChunkEntry,
    FileEntry,
    Manifest,
    TableEntry,
)
from reverie.checkpoint.format.references import ChunkMap
from reverie.checkpoint.format.table_arrays import TableArrays
from reverie.errors import CheckpointCorruptError, CheckpointLimitError
from reverie.tables.text_cells import MARK, check_text

CellTarget = Callable[[int, CellLayout, int], NDArray[np.uint8]]
"""Given a chunk's id, layout and elements: its writable bytes, of that size in all."""


class Reader:
    """Reads the files of one checkpoint, each once, against its manifest.

    Raises CheckpointCorruptError where the manifest's own references do not fit.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        fs: FileSystem,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.path = path
        self._manifest = manifest
        self._fs = fs
        self._progress = progress
        self._done = 0
        self._cells: CellMap | None = None
        rows = {f.name: f.count for f in manifest.files.values() if f.dtype == "record"}
        self._chunks = ChunkMap(manifest.chunks, rows, str(path / MANIFEST_NAME))

    def check_sizes(self, folder: OpenFolder, max_nbytes: int) -> None:
        """Compares every file's size with the manifest, before anything is allocated."""
        if self._manifest.nbytes > max_nbytes:
            raise CheckpointLimitError(
                f"The checkpoint {str(self.path)!r} has {self._manifest.nbytes} bytes, more "
                f"than the limit of {max_nbytes}. If you trust it, raise max_nbytes."
            )
        for file in self._manifest.files.values():
            where = str(self.path / file.name)
            with failing_path(where):
                status = self._fs.lstat_in(folder, file.name)
            if not stat.S_ISREG(status.st_mode) or status.st_size != file.nbytes:
                kind = "" if stat.S_ISREG(status.st_mode) else "not a regular file, "
                raise CheckpointCorruptError(
                    f"{where!r} is {kind}{status.st_size} bytes, expected {file.nbytes}."
                )

    def table(self, folder: OpenFolder, entry: TableEntry) -> dict[str, Any]:
        """One table's state, by the names that the core uses."""
        arrays = TableArrays.read(entry, lambda *what: self._array(folder, *what))
        arrays.check(
            entry,
            self._chunks,
            self.cell_map(folder),
            len(self._manifest.columns),
            lambda name: str(self.path / name),
        )
        return arrays.state(entry)

    def cell_map(self, folder: OpenFolder) -> CellMap:
        """Where the chunks of cells stand; their file is read once."""
        if self._cells is None:
            cells, files = self._manifest.cells, self._manifest.files
            rows, layouts, counts, name = np.empty(0, CHUNK_DTYPE), [], [], MANIFEST_NAME
            if cells is not None:
                name = cells.chunks
                rows = self._array(folder, name, CHUNK_DTYPE, CHUNK_FIELDS)
                layouts = [cells.layouts[segment.layout] for segment in cells.segments]
                counts = [files[segment.name].count for segment in cells.segments]
            where = str(self.path / name)
            self._cells = CellMap(rows, layouts, counts, where)
            both = np.intersect1d(self._cells.ids, self._chunks.ids)
            if len(both):
                raise CheckpointCorruptError(
                    f"{where!r}: chunk {both[0]} is one of records as well, expected another."
                )
        return self._cells

    def cells(self, folder: OpenFolder, target: CellTarget) -> None:
        """Reads all cells, each chunk into the array that `target` gives.

        Small chunks are read together, so that their number costs few calls.
        """
        cells, bounds = self._manifest.cells, self.cell_map(folder).bounds
        chunks = self.cell_map(folder).chunks
        for number, segment in enumerate(cells.segments if cells is not None else ()):
            layout = cells.layouts[segment.layout]  # type: ignore[union-attr]
            entry, rows = self._manifest.files[segment.name], bounds[number : number + 2]
            of_segment = chunks[rows[0] : rows[1]]
            ids, counts = of_segment["id"].tolist(), of_segment["count"].tolist()
            with self._open(folder, entry, layout.descr, layout.shape, layout.nbytes) as file:
                for low, high in _batches(counts, layout.nbytes):
                    self._read_cells(file, layout, ids[low:high], counts[low:high], target)
                file.check_crc(entry.crc32)

    def _read_cells(
        self,
        file: CheckedFile,
        layout: CellLayout,
        ids: list[int],
        counts: list[int],
        target: CellTarget,
    ) -> None:
        raw = None
        if len(ids) > 1:
            raw = np.empty((sum(counts), layout.nbytes), np.uint8)
            file.read_into(raw.reshape(-1).data)
        at = 0
        for chunk_id, count in zip(ids, counts, strict=True):
            into = target(chunk_id, layout, count).reshape(count, layout.nbytes)
            if raw is None:
                file.read_into(into.reshape(-1).data)
            else:
                into[:] = raw[at : at + count]
            at += count
            if layout.variable:
                _check_text(into, f"{file.where!r}, chunk {chunk_id}")
            if bad_bools(into, (layout.column,)):
                raise CheckpointCorruptError(
                    f"{file.where!r}, chunk {chunk_id}: a bool is neither 0 nor 1."
                )
        self._tell(at * layout.nbytes)

    def segments(
        self, folder: OpenFolder, target: Callable[[ChunkEntry], NDArray[np.uint8]]
    ) -> None:
        """Reads all segments, each chunk straight into the array that `target` gives."""
        columns = self._manifest.columns
        descr = tuple(column.field for column in columns)
        for name, chunks in self._chunks.by_segment.items():
            entry, width = self._manifest.files[name], self._manifest.record_nbytes
            with self._open(folder, entry, descr, (), width) as file:
                for chunk in chunks:
                    records = target(chunk)
                    file.read_into(records.reshape(-1).data)
                    self._tell(records.nbytes)
                    if path := bad_bools(records, columns):
                        raise CheckpointCorruptError(
                            f"{file.where!r}, chunk {chunk.chunk_id}, column {path[:200]!r}: a "
                            "bool is neither 0 nor 1."
                        )
                file.check_crc(self._manifest.files[name].crc32)

    def _array(
        self, folder: OpenFolder, name: str, dtype: np.dtype[Any], descr: Descr
    ) -> NDArray[Any]:
        entry = self._manifest.files[name]
        with self._open(folder, entry, descr, (), ELEMENT_NBYTES[entry.dtype]) as file:
            raw = np.empty(entry.count * dtype.itemsize, np.uint8)
            file.read_into(raw.data)
            file.check_crc(entry.crc32)
        self._tell(raw.nbytes)
        return raw.view(dtype)

    def _open(
        self,
        folder: OpenFolder,
        entry: FileEntry,
        descr: Descr,
        shape: tuple[int, ...],
        itemsize: int,
    ) -> CheckedFile:
        """Opens a file and reads its header; what is left to read is exactly its data."""
        with failing_path(self.path / entry.name):
            file = CheckedFile(self._fs, folder, entry.name)
        try:
            file.check_size(entry.nbytes, entry.nbytes)
            header = read_header(file.read, file.where, entry.nbytes)
            wanted = (entry.count, *shape)
            if header.descr != descr or header.shape != wanted:
                found = f"{header.descr} of shape {header.shape}"[:200]
                raise CheckpointCorruptError(
                    f"{file.where!r} holds {found}, expected {str(descr)[:200]} of shape "
                    f"{wanted}."
                )
            if header.nbytes + entry.count * itemsize != entry.nbytes:
                raise CheckpointCorruptError(
                    f"{file.where!r}: a header of {header.nbytes} bytes and {entry.count} "
                    f"elements of {itemsize} are not its {entry.nbytes} bytes."
                )
        except BaseException:
            file.close()
            raise
        self._tell(header.nbytes)
        return file

    def _tell(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._manifest.nbytes)


def _check_text(cell: NDArray[np.uint8], where: str) -> None:
    """Refuses a cell that claims to be an array of texts and is none."""
    if cell.size and cell.flat[0] == MARK[0]:
        try:
            check_text(cell.tobytes())
        except ValueError as error:
            raise CheckpointCorruptError(f"{where}: {str(error)[:200]}.") from error


def _batches(counts: list[int], width: int) -> Iterator[tuple[int, int]]:
    """Neighbours to be read together: a large chunk alone, small ones up to a block."""
    low, nbytes = 0, 0
    for at, count in enumerate(counts):
        if at > low and nbytes + count * width > BLOCK_NBYTES:
            yield low, at
            low, nbytes = at, 0
        nbytes += count * width
    if counts:
        yield low, len(counts)
