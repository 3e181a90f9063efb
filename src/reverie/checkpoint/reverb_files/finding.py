"""Reverb's checkpoints in a folder: which there are, the newest first."""

from __future__ import annotations

import re
from pathlib import Path

from reverie.checkpoint.folder.place import is_file, is_folder

TABLES, ITEMS, CHUNKS = DATA_FILES = ("tables.tfrecord", "items.tfrecord", "chunks.tfrecord")
DONE = "DONE"

# Of a manager on Reverb that saves into the folder at this moment, see `backends.reverb`.
STAGE = re.compile(r"\.reverb-(\d{1,10})-[0-9a-f]{32}")
TRASH = re.compile(r"\.reverb-trash-[0-9a-f]{32}")


def checkpoints(root: Path) -> list[Path]:
    """Reverb's checkpoints in `root`, newest first: by name, as Reverb itself orders them.

    `root` alone where it is one itself. A checkpoint has a file DONE, which Reverb
    writes last, and at least one of Reverb's others; whether it is sound, only reading
    shows. Whatever else is in `root` is ignored. Only names are looked at; nothing is
    opened, and nothing is ever changed. Raises OSError.
    """
    if not is_folder(root):
        return []
    if _is_checkpoint(root):
        return [root]
    found = [path for path in root.iterdir() if _is_checkpoint(path)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def find_newest(root: Path) -> Path | None:
    """The checkpoint that Reverb itself would load from `root`; see `checkpoints`."""
    return next(iter(checkpoints(root)), None)


def _is_checkpoint(path: Path) -> bool:
    if STAGE.fullmatch(path.name) or TRASH.fullmatch(path.name):
        return False
    if path.name == "lost+found" or not is_folder(path):  # the file system's own, closed to us
        return False
    return is_file(path / DONE) and any(is_file(path / name) for name in DATA_FILES)
