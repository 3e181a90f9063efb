"""Reading the files that a manifest describes, each once, and believing none."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import BLOCK_NBYTES, CheckedFile, crc32_of, reading
from reverie.checkpoint.disk.files import (
    FILE_SYSTEM,
    FileSystem,
    OpenFolder,
    failing_path,
    opened_folder,
)
from reverie.checkpoint.disk.limits import holes_limit, stored_nbytes
from reverie.checkpoint.disk.scratch import BLOCK, blocks, scratch
from reverie.checkpoint.folder.names import (
    CHUNKS_NAME,
    ENDS_NAME,
    MANIFEST_NAME,
    sequence_number_of,
)
from reverie.checkpoint.format.chunks import ChunkIndex, together
from reverie.checkpoint.format.decode import MAX_NBYTES, decode_manifest
from reverie.checkpoint.format.items import TableArrays
from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.manifest import FileEntry, Manifest, TableEntry
from reverie.checkpoint.format.rows import ROWS, Columns, role_of
from reverie.errors import CheckpointCorruptError, CheckpointLimitError
from reverie.tables.text_cells import MARK, check_text

Target = Callable[[int, int, int], NDArray[np.uint8]]
"""Given a chunk's layout, id and elements: its writable bytes, of that size in all."""


def read_manifest(folder: Path, *, fs: FileSystem = FILE_SYSTEM) -> Manifest:
    """Reads and validates the manifest of one checkpoint folder.

    Raises:
        CheckpointNotFoundError: there is no such folder.
        CheckpointCorruptError: there is no manifest in it, or no sound one.
        CheckpointVersionError: it was written in a later format.
        CheckpointReadError: the system refused to read it.
    """
    folder = Path(folder)
    with reading(fs, folder), opened_folder(fs, folder) as opened:
        return manifest_in(opened, fs)


def manifest_in(folder: OpenFolder, fs: FileSystem) -> Manifest:
    """The same of a folder that is open. Raises OSError, too."""
    with CheckedFile(fs, folder, MANIFEST_NAME) as file:
        file.check_size(1, MAX_NBYTES)
        manifest = decode_manifest(bytes(file.read(file.nbytes)), file.where)
        number = sequence_number_of(folder.path.name)
        if number not in (None, manifest.sequence_number):
            raise CheckpointCorruptError(
                f"{file.where!r} has sequence number {manifest.sequence_number}, expected "
                f"{number}: the folder was renamed. Give it back its name."
            )
        return manifest


class Reader:
    """Reads the files of one checkpoint, each once, against its manifest."""

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

    def check_sizes(self, folder: OpenFolder, max_nbytes: int | None) -> None:
        """Compares every file's size with the manifest, before anything is allocated."""
        if max_nbytes is not None:
            self._check_limit(max_nbytes, "the limit")
        for file in self._manifest.files.values():
            where = self.where(file.name)
            with failing_path(where):
                status = self._fs.lstat_in(folder, file.name)
            if not stat.S_ISREG(status.st_mode) or status.st_size != file.nbytes:
                kind = "" if stat.S_ISREG(status.st_mode) else "not a regular file, "
                raise CheckpointCorruptError(
                    f"{where!r} is {kind}{status.st_size} bytes, expected {file.nbytes}."
                )
        if max_nbytes is None and self._manifest.nbytes > holes_limit(0):
            stored = stored_nbytes(self._fs, folder, self._manifest.files)
            self._check_limit(
                holes_limit(stored), f"the limit for {stored} bytes without holes"
            )

    def _check_limit(self, limit: int, what: str) -> None:
        if self._manifest.nbytes > limit:
            raise CheckpointLimitError(
                f"The checkpoint {str(self.path)!r} has {self._manifest.nbytes} bytes, and "
                f"{what} is {limit}. If you trust it, raise max_nbytes."
            )

    def where(self, name: str) -> str:
        """A file, for messages."""
        return str(self.path / name)

    def chunks(self, folder: OpenFolder) -> ChunkIndex:
        """Where the chunks stand; checked."""
        manifest = self._manifest
        return ChunkIndex(
            self._columns(folder, CHUNKS_NAME),
            manifest.layouts,
            [segment.layout for segment in manifest.segments],
            [manifest.files[segment.file].count or 0 for segment in manifest.segments],
            self.where(CHUNKS_NAME if manifest.segments else MANIFEST_NAME),
        )

    def ends(self, folder: OpenFolder, chunks: ChunkIndex) -> Columns:
        """Where episodes end, chunk by chunk; checked."""
        ends = self._columns(folder, ENDS_NAME)
        chunks.check_ends(ends, self.where(ENDS_NAME), self.where(CHUNKS_NAME))
        return ends

    def table(self, folder: OpenFolder, entry: TableEntry, chunks: ChunkIndex) -> TableArrays:
        """One table's files; checked."""
        arrays = TableArrays.read(
            entry,
            lambda name: self._columns(folder, name),
            lambda name: self._vector(folder, name),
        )
        arrays.check(
            chunks,
            entry,
            lambda role: self.where(entry.files.get(role, MANIFEST_NAME)),
        )
        return arrays

    def segments(self, folder: OpenFolder, chunks: ChunkIndex, target: Target) -> None:
        """Reads all chunks, each into the array that `target` gives, checked.

        Small ones that touch are read together, so that their number costs few calls.
        """
        room = scratch(BLOCK_NBYTES, np.uint8)
        for number, segment in enumerate(self._manifest.segments):
            entry = self._manifest.files[segment.file]
            layout, rows = self._manifest.layouts[segment.layout], chunks.segment(number)
            header = layout.header(entry.count or 0)
            end = at = 0
            with self._open(folder, entry, header) as file:
                for low, high in _batches(rows, layout.nbytes):
                    gap = (int(rows["offset"][low]) - end) * layout.nbytes
                    file.skip(gap)
                    part = rows.part(low, high)
                    self._read_chunks(file, segment.layout, part, target, room)
                    end = int(rows["offset"][high - 1] + rows["count"][high - 1])
                    self._tell(end * layout.nbytes - at)
                    at = end * layout.nbytes
            self._tell(entry.nbytes - len(header) - at)

    def leave_parts(self) -> None:
        """Leaves out the files of named parts: nobody here knows any."""
        for entry in self._part_files():
            self._tell(entry.nbytes)

    def parts(self, folder: OpenFolder) -> None:
        """Reads the files of named parts, for their CRC-32 alone."""
        for entry in self._part_files():
            with self._open(folder, entry, b"") as file:
                for start in range(0, entry.nbytes, BLOCK_NBYTES):
                    file.read(min(BLOCK_NBYTES, entry.nbytes - start))
                file.check_crc(entry.crc32 or 0)
            self._tell(entry.nbytes)

    def _part_files(self) -> Iterator[FileEntry]:
        for part in self._manifest.parts.values():
            for name in part.files:
                yield self._manifest.files[name]

    def _read_chunks(
        self,
        file: CheckedFile,
        layout_number: int,
        rows: Columns,
        target: Target,
        room: NDArray[np.uint8],
    ) -> None:
        """Reads neighbours, several of them by way of `room`."""
        layout = self._manifest.layouts[layout_number]
        ids, counts = rows["id"].tolist(), rows["count"].tolist()
        if len(rows) == 1:
            elements = target(layout_number, ids[0], counts[0])
            elements = elements.reshape(counts[0], layout.nbytes)
        else:
            nbytes = sum(counts) * layout.nbytes
            elements = room[:nbytes].reshape(sum(counts), layout.nbytes)
        view = elements.reshape(-1).data
        file.read_into(view, checksum=False)
        _check_crcs(view, rows, layout.nbytes, file.where)
        _check_values(layout, elements, rows, file.where)
        for chunk_id, count, start in zip(ids, counts, _starts(rows), strict=True):
            if len(ids) > 1:
                into = target(layout_number, chunk_id, count)
                into.reshape(count, layout.nbytes)[:] = elements[start : start + count]

    def _columns(self, folder: OpenFolder, name: str) -> Columns:
        """The rows of a small file of several fields; none where there is no such file."""
        role, entry = role_of(name), self._manifest.files.get(name)
        found = Columns.empty(role, 0 if entry is None else entry.count or 0)
        if entry is not None:
            block = scratch(min(len(found), BLOCK), ROWS[role].dtype)

            def read(file: CheckedFile, low: int, high: int) -> None:
                part = block[: high - low]
                file.read_into(part.view(np.uint8).data)
                for field, values in found.fields.items():
                    values[low:high] = part[field]

            self._read_rows(folder, entry, read)
        return found

    def _vector(self, folder: OpenFolder, name: str) -> NDArray[Any]:
        """The rows of a small file of one field."""
        entry = self._manifest.files[name]
        found = scratch(entry.count or 0, ROWS[role_of(name)].dtype)
        data = found.view(np.uint8).data
        width = found.itemsize
        self._read_rows(
            folder,
            entry,
            lambda file, low, high: file.read_into(data[low * width : high * width]),
        )
        return found

    def _read_rows(
        self,
        folder: OpenFolder,
        entry: FileEntry,
        read: Callable[[CheckedFile, int, int], None],
    ) -> None:
        """Has `read` take the rows of a small file, block by block."""
        rows, count = ROWS[role_of(entry.name)], entry.count or 0
        with self._open(folder, entry, rows.header(count)) as file:
            for low, high in blocks(count):
                read(file, low, high)
            file.check_crc(entry.crc32 or 0)
        self._tell(count * rows.dtype.itemsize)

    def _open(self, folder: OpenFolder, entry: FileEntry, header: bytes) -> CheckedFile:
        """Opens a file and reads its header; what is left to read is exactly its data."""
        with failing_path(self.path / entry.name):
            file = CheckedFile(self._fs, folder, entry.name)
        try:
            file.check_size(entry.nbytes, entry.nbytes)
            file.expect(header)
        except BaseException:
            file.close()
            raise
        self._tell(len(header))
        return file

    def _tell(self, nbytes: int) -> None:
        self._done += nbytes
        if nbytes and self._progress is not None:
            self._progress(self._done, self._manifest.nbytes)


def _starts(rows: Columns) -> NDArray[np.int64]:
    """Where each of these neighbours begins, from the first on."""
    starts: NDArray[np.int64] = (rows["offset"] - rows["offset"][:1]).astype(np.int64)
    return starts


def _check_crcs(data: memoryview, rows: Columns, width: int, where: str) -> None:
    """Refuses chunks whose bytes are not those that were written."""
    start = 0
    for row, (count, wanted) in enumerate(
        zip(rows["count"].tolist(), rows["crc32"].tolist(), strict=True)
    ):
        end = start + count * width
        found = crc32_of(data[start:end])
        if found != wanted:
            raise CheckpointCorruptError(
                f"{where!r}, chunk {rows['id'][row]}, is damaged: its CRC-32 is {found:08x}, "
                f"expected {wanted:08x}."
            )
        start = end


def _check_values(
    layout: Layout, elements: NDArray[np.uint8], rows: Columns, where: str
) -> None:
    """Refuses bools that are none, and arrays of texts that are none."""
    bad = layout.bad_bools(elements)
    if bad is not None:
        row = int(np.searchsorted(_starts(rows), bad[0], side="right")) - 1
        raise CheckpointCorruptError(
            f"{where!r}, chunk {rows['id'][row]}, column {bad[1][:200]!r}: a bool is "
            "neither 0 nor 1."
        )
    if not layout.variable:
        return
    starts, cells = _starts(rows), elements.reshape(-1)
    filled = np.flatnonzero(rows["count"] != 0)
    for row in filled[cells[starts[filled]] == MARK[0]].tolist():
        cell = cells[starts[row] : starts[row] + int(rows["count"][row])]
        try:
            check_text(cell.tobytes())
        except ValueError as error:
            raise CheckpointCorruptError(
                f"{where!r}, chunk {rows['id'][row]}: {str(error)[:200]}."
            ) from error


def _batches(rows: Columns, width: int) -> Iterator[tuple[int, int]]:
    """Neighbours to be read together: a large chunk alone, small ones up to a block."""
    for start, stop in blocks(len(rows)):
        part = rows.part(start, stop)
        touching = part["offset"][1:] == (part["offset"] + part["count"])[:-1]
        gaps = [0, *(np.flatnonzero(~touching) + 1).tolist(), len(part)]
        nbytes = part["count"].astype(np.int64) * width
        for first, last in itertools.pairwise(gaps):
            for low, high in together(nbytes[first:last], BLOCK_NBYTES):
                yield start + first + low, start + first + high
