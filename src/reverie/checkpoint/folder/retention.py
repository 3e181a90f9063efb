"""What is removed, and when: leftovers of interrupted saves, and old checkpoints.

Nothing foreign is ever touched: not by its name, not through a link, not
inside one of our own folders.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reverie.checkpoint.disk.files import FileSystem, OpenFolder, is_real_folder, opened_folder
from reverie.checkpoint.folder.names import FILE_NAME, MANIFEST_NAME, entries

_log = logging.getLogger("reverie.checkpoint")
_LEFTOVER = re.compile(r"\.(tmp|trash)-[0-9a-f]{32}")


def remove_folder(path: Path, fs: FileSystem) -> bool:
    """Removes a folder of ours, unless it holds anything that no checkpoint holds.

    Links are neither followed nor removed. Returns whether the folder is gone.
    Raises OSError.
    """
    with opened_folder(fs, path) as folder:
        names = fs.names_in(folder)
        if not all(_is_ours(name) for name in names):
            return False
        if not all(stat.S_ISREG(fs.lstat_in(folder, name).st_mode) for name in names):
            return False
        # The manifest first: from then on nothing can take the rest for a checkpoint.
        for name in sorted(names, key=lambda name: name != MANIFEST_NAME):
            fs.remove_in(folder, name)
    fs.rmdir(path)
    return True


def _is_ours(name: str) -> bool:
    return name == MANIFEST_NAME or FILE_NAME.fullmatch(name) is not None


def sweep(root: Path, fs: FileSystem) -> None:
    """Removes what an interrupted save or removal left. Under the exclusive lock only.

    Errors are logged: leftovers do no harm but the space they take.
    """
    with logged(root, "sweeping leftovers"):
        for name in fs.names(root):
            path = root / name
            if not _LEFTOVER.fullmatch(name) or not is_real_folder(fs.lstat(path)):
                continue
            with logged(path, "removing a leftover"):
                remove_folder(path, fs)


def prune(
    newest: Path,
    keep: int,
    *,
    files_of: Callable[[OpenFolder, FileSystem], Mapping[str, int] | None],
    fs: FileSystem,
) -> None:
    """Removes checkpoints that are older than `newest`, and than the newest `keep` whole ones.

    Whole means: a sound manifest, and every file there in its size; reading all
    bytes at each save would cost too much. Only a real folder with our name and
    a sound manifest is ever removed, and only where it holds nothing beyond the
    manifest's files; anything else stays. A checkpoint is first renamed to
    `.trash-<uuid>`, so that no half-removed one is ever seen under its name.
    Errors are logged, not raised: the save itself has succeeded by then.

    Args:
        newest: the one that was just saved, known to be whole; older ones stand beside it.
        keep: how many whole ones to keep, this one included; at least 1.
        files_of: names and sizes of all files that a checkpoint's manifest describes;
            None where there is no sound manifest.
        fs: the file system.
    """
    root = newest.parent
    with logged(root, "removing old checkpoints"):
        whole = 1
        older = itertools.takewhile(lambda path: path != newest, entries(root, fs))
        for path in reversed(list(older)):
            if not is_real_folder(fs.lstat(path)):
                continue
            with opened_folder(fs, path) as folder:
                sizes = files_of(folder, fs)
                if sizes is None:
                    continue
                names = set(fs.names_in(folder))
                if whole < keep:
                    whole += names >= sizes.keys() and all(
                        fs.lstat_in(folder, name).st_size == size
                        for name, size in sizes.items()
                    )
                    continue
            if names <= {*sizes, MANIFEST_NAME}:
                trash = root / f".trash-{uuid.uuid4().hex}"
                fs.rename(path, trash)
                # Or a power cut might bring the old name back with half of its files.
                fs.fsync_dir(root)
                remove_folder(trash, fs)
            else:
                _log.warning(
                    "The old checkpoint %r stays, because it holds files that are not its own.",
                    str(path),
                )


@contextlib.contextmanager
def logged(path: Path, act: str) -> Iterator[None]:
    """Says in the log what failed; what must not fail for it goes on."""
    try:
        yield
    except OSError as error:
        _log.warning("%s in %r failed: %s", act, str(path), error)
