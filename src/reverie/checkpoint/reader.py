"""Reading the files that a manifest describes, each once, and believing none."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.columns import bad_bools
from reverie.checkpoint.files import FileSystem, OpenFolder, failing_path
from reverie.checkpoint.manifest import (
    MANIFEST_NAME,
    ChunkEntry,
    FileEntry,
    Manifest,
    TableEntry,
)
from reverie.checkpoint.npy import Descr, read_header
from reverie.checkpoint.references import (
    ITEM_DTYPE,
    ITEM_FIELDS,
    KEY_DTYPE,
    SPAN_DTYPE,
    SPAN_FIELDS,
    ChunkMap,
    check_keys,
    check_spans,
)
from reverie.checkpoint.streams import CheckedFile
from reverie.errors import CheckpointCorruptError, CheckpointLimitError


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
        items = self._array(folder, entry.items, ITEM_DTYPE, ITEM_FIELDS)
        self._chunks.check_items(items, str(self.path / entry.items))
        spans = np.empty(0, SPAN_DTYPE)
        if entry.spans is not None:
            spans = self._array(folder, entry.spans, SPAN_DTYPE, SPAN_FIELDS)
            columns = len(self._manifest.columns)
            check_spans(spans, items, columns, str(self.path / entry.spans))
        free = np.empty(0, KEY_DTYPE)
        if entry.free is not None:
            free = self._array(folder, entry.free, KEY_DTYPE, KEY_DTYPE.str)
        check_keys(items, free, str(self.path / (entry.free or entry.items)))
        return {
            **{name: np.ascontiguousarray(items[name]) for name, _, _ in ITEM_FIELDS},
            **{f"span_{name}": np.ascontiguousarray(spans[name]) for name, _, _ in SPAN_FIELDS},
            "free_keys": free,
            "counters": dict(entry.counters),
            "rng_state": np.array(entry.rng_state, np.uint64),
        }

    def segments(
        self, folder: OpenFolder, target: Callable[[ChunkEntry], NDArray[np.uint8]]
    ) -> None:
        """Reads all segments, each chunk straight into the array that `target` gives."""
        columns = self._manifest.columns
        descr = tuple(column.field for column in columns)
        for name, chunks in self._chunks.by_segment.items():
            with self._open(folder, self._manifest.files[name], descr) as file:
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
        with self._open(folder, entry, descr) as file:
            raw = np.empty(entry.count * dtype.itemsize, np.uint8)
            file.read_into(raw.data)
            file.check_crc(entry.crc32)
        self._tell(raw.nbytes)
        return raw.view(dtype)

    def _open(self, folder: OpenFolder, entry: FileEntry, descr: Descr) -> CheckedFile:
        """Opens a file and reads its header; what is left to read is exactly its data."""
        with failing_path(self.path / entry.name):
            file = CheckedFile(self._fs, folder, entry.name)
        try:
            file.check_size(entry.nbytes, entry.nbytes)
            header = read_header(file.read, file.where, entry.nbytes)
            if header.descr != descr or header.shape != (entry.count,):
                found = f"{header.descr} of shape {header.shape}"[:200]
                raise CheckpointCorruptError(
                    f"{file.where!r} holds {found}, expected {str(descr)[:200]} of shape "
                    f"({entry.count},)."
                )
            width = self._manifest.record_nbytes if entry.dtype == "record" else None
            itemsize = width or {"item": 36, "span": 20, "key": 8}[entry.dtype]
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
