"""Reading a native checkpoint back: checked as if an enemy had written it.

Nothing is executed, nothing outside the folder is opened, nothing is allocated
before sizes were compared with the files. What is filled must be fresh and
private: on any error the caller drops it and keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import CheckedFile, reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, opened_folder
from reverie.checkpoint.folder.names import sequence_number_of
from reverie.checkpoint.format.columns import columns_of
from reverie.checkpoint.format.decode import MAX_NBYTES, decode_manifest
from reverie.checkpoint.format.manifest import MANIFEST_NAME, ChunkEntry, Manifest
from reverie.checkpoint.format.reader import Reader
from reverie.checkpoint.format.snapshot import StoreLike, TableLike
from reverie.errors import CheckpointCorruptError, CheckpointMismatchError

DEFAULT_MAX_NBYTES = 64 << 30


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a sound checkpoint holds.

    `num_cells` are those of trajectories, bytes where cells are variable;
    `extra_files` are names that are not its own.
    """

    sequence_number: int
    library_version: str
    saved_at: str
    nbytes: int
    num_files: int
    num_chunks: int
    num_steps: int
    num_items: Mapping[str, int]
    num_cells: int
    extra_files: tuple[str, ...]


def read_manifest(folder: Path, *, fs: FileSystem = FILE_SYSTEM) -> Manifest:
    """Reads and validates the manifest of one checkpoint folder.

    Raises:
        CheckpointNotFoundError: there is no such folder.
        CheckpointCorruptError: there is no manifest in it, or no sound one.
        CheckpointVersionError: it was written in a later format.
        CheckpointReadError: the system refused to read it.
    """
    folder = Path(folder)
    with (
        reading(fs, folder),
        opened_folder(fs, folder) as opened,
        CheckedFile(fs, opened, MANIFEST_NAME) as file,
    ):
        file.check_size(1, MAX_NBYTES)
        manifest = decode_manifest(bytes(file.read(file.nbytes)), file.where)
        number = sequence_number_of(folder.name)
        if number not in (None, manifest.sequence_number):
            raise CheckpointCorruptError(
                f"{file.where!r} has sequence number {manifest.sequence_number}, expected "
                f"{number}: the folder was renamed. Give it back its name."
            )
        return manifest


def restore(
    folder: Path,
    manifest: Manifest,
    store: StoreLike,
    tables: Mapping[str, TableLike],
    *,
    layout: Any,
    record_dtype: np.dtype[Any],
    max_nbytes: int = DEFAULT_MAX_NBYTES,
    fs: FileSystem = FILE_SYSTEM,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fills a fresh store and its fresh tables from a checkpoint.

    Records are read straight into the store's chunks. Every file's size, header,
    CRC and references are checked. On any error the store is half filled: drop it.

    Args:
        folder: the checkpoint.
        manifest: what `read_manifest(folder)` gave; the files are held against it.
        store: takes the chunks; nobody else may use it meanwhile.
        tables: by name, empty; exactly the tables of the manifest.
        layout: the core's record layout, given to `store.restore_chunk`.
        record_dtype: the packed structured dtype of that layout.
        max_nbytes: refuse a checkpoint with more bytes than this in its files.
        fs: the file system.
        progress: called with bytes read so far and in all.

    Raises:
        CheckpointMismatchError: other columns, other tables, or too small a table.
        CheckpointLimitError: it is larger than `max_nbytes`.
        CheckpointCorruptError: a file, value or reference is not as it must be.
        CheckpointNotFoundError, CheckpointReadError: as for `read_manifest`.
    """
    _check_fit(manifest, tables, record_dtype)
    reader = Reader(Path(folder), manifest, fs, progress)
    with reading(fs, reader.path), opened_folder(fs, reader.path) as opened:
        reader.check_sizes(opened, max_nbytes)
        states = [reader.table(opened, table) for table in manifest.tables]

        def chunk_bytes(chunk: ChunkEntry) -> NDArray[np.uint8]:
            return store.restore_chunk(layout, chunk.chunk_id, chunk.count)

        reader.segments(opened, chunk_bytes)
    try:
        for chunk in manifest.chunks:
            if chunk.next_id:
                store.link_chunk(chunk.chunk_id, chunk.next_id)
        for entry, state in zip(manifest.tables, states, strict=True):
            tables[entry.settings.name].restore(state)
        store.seal_restore()
    except ValueError as error:
        raise CheckpointCorruptError(
            f"{str(reader.path)!r}: the core refused what the files hold: {str(error)[:200]}"
        ) from error


def verify(
    folder: Path, *, max_nbytes: int = DEFAULT_MAX_NBYTES, fs: FileSystem = FILE_SYSTEM
) -> VerifyReport:
    """Reads every byte of a checkpoint and checks it as `restore` does, without a store.

    What only the core and the caller know is left out: whether the columns are
    the wanted ones, and whether the items fit a table. Memory: the items of one
    table, and one chunk at a time.

    Raises:
        CheckpointError: as `read_manifest` and `restore` do.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, fs=fs)
    reader = Reader(folder, manifest, fs, None)
    with reading(fs, folder), opened_folder(fs, folder) as opened:
        reader.check_sizes(opened, max_nbytes)
        for table in manifest.tables:
            reader.table(opened, table)
        width = manifest.record_nbytes
        reader.cells(
            opened, lambda _, layout, count: np.empty((count, layout.nbytes), np.uint8)
        )
        reader.segments(opened, lambda chunk: np.empty((chunk.count, width), np.uint8))
        extra = set(fs.names_in(opened)) - manifest.files.keys() - {MANIFEST_NAME}
    return VerifyReport(
        sequence_number=manifest.sequence_number,
        library_version=manifest.library_version,
        saved_at=manifest.saved_at,
        nbytes=manifest.nbytes,
        num_files=len(manifest.files) + 1,
        num_chunks=len(manifest.chunks) + sum(_counts(manifest, "chunk")),
        num_steps=sum(chunk.count for chunk in manifest.chunks),
        num_items={t.settings.name: manifest.files[t.items].count for t in manifest.tables},
        num_cells=sum(_counts(manifest, "cell")),
        extra_files=tuple(sorted(extra)),
    )


def _counts(manifest: Manifest, kind: str) -> list[int]:
    return [file.count for file in manifest.files.values() if file.dtype == kind]


def _check_fit(
    manifest: Manifest, tables: Mapping[str, TableLike], record_dtype: np.dtype[Any]
) -> None:
    wanted = columns_of(record_dtype)
    if any(table.trajectories is not None for table in manifest.tables):
        raise CheckpointMismatchError(
            "The checkpoint holds trajectories, as a server's tables have them, and not the "
            "records of a data spec. Load it with Server(..., checkpointer="
            "DefaultCheckpointer(path)) of reverie.reverb."
        )
    for found, want in zip(manifest.columns, wanted, strict=False):
        if found != want:
            raise CheckpointMismatchError(
                f"The checkpoint's column {found.path[:200]!r} is {found.dtype} of shape "
                f"{found.shape}, but the data spec wants {want.path[:200]!r}, {want.dtype} of "
                f"shape {want.shape}, in its place. Load it with the spec it was saved with."
            )
    if len(manifest.columns) != len(wanted):
        raise CheckpointMismatchError(
            f"The checkpoint has {len(manifest.columns)} columns, the data spec {len(wanted)}."
        )
    names = {table.settings.name for table in manifest.tables}
    if names != tables.keys():
        raise CheckpointMismatchError(
            f"The checkpoint holds the tables {repr(sorted(names))[:200]}, but "
            f"{repr(sorted(tables))[:200]} are there to take them."
        )
    for entry in manifest.tables:
        name, count = entry.settings.name, manifest.files[entry.items].count
        if count > tables[name].max_size:
            raise CheckpointMismatchError(
                f"The checkpoint's table {name[:200]!r} holds {count} items, but at most "
                f"{tables[name].max_size} fit. Use a larger capacity."
            )
