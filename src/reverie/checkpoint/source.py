"""Checkpoints to load: which ones a folder holds, and one of them opened.

A source says what is in a checkpoint and fills a fresh store with it, whoever wrote
it: this library, or dm-reverb. It is checked as if an enemy had written it. Nothing is
executed, nothing outside the folder is opened, nothing is allocated before sizes were
compared with the files. What is filled must be fresh and private: on any error the
caller drops it and keeps what it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, exists
from reverie.checkpoint.disk.limits import check_limit
from reverie.checkpoint.folder.names import MANIFEST_NAME, list_checkpoints, sequence_number_of
from reverie.checkpoint.folder.place import is_folder
from reverie.checkpoint.format.native_source import NativeSource
from reverie.checkpoint.format.reader import read_manifest
from reverie.checkpoint.format.report import VerifyReport
from reverie.checkpoint.format.snapshot import Progress
from reverie.nests.nest import Nest
from reverie.nests.specs import Column
from reverie.tables.settings import TableSettings


class Source(Protocol):
    """One checkpoint, opened. Methods raise `CheckpointError`, as `open_source`."""

    @property
    def path(self) -> Path:
        """Its own folder."""

    @property
    def settings(self) -> Mapping[str, TableSettings]:
        """Of its tables, by name, in their order."""

    @property
    def foreign(self) -> bool:
        """Whether another system wrote it, with names of its own."""

    @property
    def max_references(self) -> int:
        """How often its items may refer to chunks, each window once to each it touches."""

    def columns(self, table: str) -> Sequence[Sequence[Column]]:
        """The columns of the records that a table's items are runs of, of each kind.

        Of an empty table those that were written for it. None where there are none, and
        where they are to be had column by column. The path of a column is "" where nobody
        wrote it down.
        """

    def nest(self, table: str) -> Nest | None:
        """The structure of a step of a table whose items are runs, leaves `ArraySpec`s.

        None where nobody wrote it down: a table of trajectories, of runs of several
        kinds, or of steps whose nest JSON cannot express.
        """

    def read(
        self, store: _core.Store, rows: Mapping[str, Nest] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Fills a fresh store with all chunks; nothing refers to them yet.

        The caller makes the tables, gives each core table its state, and seals the
        store. On any error the store is half filled: drop it.

        Args:
            store: takes the chunks; nobody else may use it meanwhile.
            rows: tables whose items are wanted as runs of these steps, where the
                checkpoint (one of Reverb's) holds them column by column.

        Returns:
            By table, what the `restore` of its core takes.
        """

    def verify(self) -> VerifyReport:
        """Reads every byte and checks it as `read` does, without a store.

        What only the core and the caller know is left out: whether columns are the
        wanted ones, and whether the items fit a table. Memory: the items of one table,
        and one chunk at a time.
        """


def candidates(root: Path) -> list[Path]:
    """The checkpoints that could be loaded from a folder, newest first, sound or not.

    A checkpoint's own folder is one, after any that were saved into it. Native ones come
    before Reverb's newest, whose names are wall-clock text and cannot be compared with
    ours. [] where there is no such folder.

    Raises:
        CheckpointReadError: the folder cannot be listed.
    """
    # Here, so that `import reverie` is quick.
    from reverie.checkpoint.reverb_files import finding

    with reading(FILE_SYSTEM, root):
        if not is_folder(root):
            return []
        found = list_checkpoints(root)[::-1]
        newest = finding.find_newest(root)
        claims = sequence_number_of(root.name) and not (found or newest)
        if claims or exists(FILE_SYSTEM, root / MANIFEST_NAME):
            found.append(root)
    return found if newest is None else [*found, newest]


def open_source(
    path: Path,
    *,
    progress: Progress | None = None,
    max_nbytes: int | None = None,
    fs: FileSystem = FILE_SYSTEM,
) -> Source:
    """Opens a checkpoint's own folder, native or Reverb's.

    Args:
        path: the folder.
        progress: called with bytes read so far and in all; native ones only.
        max_nbytes: refuse one that takes more: of ours the bytes of its files, of
            Reverb's what they unpack to. None: what is in proportion to the bytes on the
            medium, which what was saved is; see `disk.limits`. Only one that is mostly
            zeros may need it, where the file system leaves those out, or nearly all
            zeros, in Reverb's compressed files.
        fs: the file system; native ones only.

    Raises:
        InvalidArgumentError: `max_nbytes` is no number of bytes.
        CheckpointNotFoundError: there is no such folder.
        CheckpointCorruptError: there is no manifest in it, or no sound one; or
            anything else is not as it must be.
        CheckpointVersionError: it was written in a later format.
        CheckpointReadError: the system refused to read it.
        CheckpointLimitError: it takes more than `max_nbytes`, or than there is.
        CheckpointMismatchError, MissingDependencyError: what it holds needs a package
            that is not there.
    """
    path = Path(path)
    max_nbytes = check_limit(max_nbytes)
    with reading(fs, path):
        if not _is_native(path, fs) and exists(fs, path):
            from reverie.checkpoint.reverb_files.source import reverb_source

            source: Source = reverb_source(path, max_nbytes=max_nbytes)
            return source
    return NativeSource(path, read_manifest(path, fs=fs), progress, max_nbytes, fs)


def _is_native(path: Path, fs: FileSystem) -> bool:
    """Whether a folder is, or claims to be, a native checkpoint itself."""
    return bool(sequence_number_of(path.name)) or exists(fs, path / MANIFEST_NAME)


def verify(
    path: Path, *, max_nbytes: int | None = None, fs: FileSystem = FILE_SYSTEM
) -> VerifyReport:
    """Reads every byte of a checkpoint's folder and checks it; see `Source.verify`.

    Raises:
        CheckpointError: as `open_source`, and as reading it would.
    """
    return open_source(path, max_nbytes=max_nbytes, fs=fs).verify()
