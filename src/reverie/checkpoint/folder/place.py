"""The folder of checkpoints that a caller names: where it is, and what it must not be."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, exists
from reverie.checkpoint.folder.names import MANIFEST_NAME, sequence_number_of
from reverie.errors import InvalidArgumentError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def folder_of(argument: str, path: Any) -> Path:
    """The absolute path of a folder, `~` expanded. Looks at nothing.

    Args:
        argument: its name, for messages.
        path: what the caller passed.

    Raises:
        InvalidArgumentError: it is no path, empty, of an unknown user's home, or a URL,
            whose scheme would become a folder of this machine.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(
            f"{argument}: found {path!r:.200}, wanted the path of a folder."
        )
    if _URL.match(text):
        raise InvalidArgumentError(
            f"{argument}: found the URL {text!r:.200}, wanted a folder of this machine. Mount "
            "the bucket and pass the folder, or save into a local folder and copy it there."
        )
    home = os.path.expanduser(text)
    if home == text and text.startswith("~") and not os.path.lexists(text):
        raise InvalidArgumentError(
            f"{argument}: found {text!r:.200}, which is nobody's home folder here. Pass "
            f"{os.path.join('.', text)!r:.200} for a folder of that name."
        )
    return Path(os.path.abspath(home))


def folder_to_save_into(argument: str, path: Any) -> Path:
    """The same of a folder that is to hold checkpoints; it need not be there yet.

    Raises:
        InvalidArgumentError: as `folder_of`; or it is a file, or itself a checkpoint.
        CheckpointReadError: the system refused to look at it.
    """
    folder = folder_of(argument, path)
    with reading(FILE_SYSTEM, folder):
        if exists(FILE_SYSTEM, folder) and not is_folder(folder):
            raise InvalidArgumentError(
                f"{argument}: {str(folder)!r:.200} is not and cannot become a folder."
            )
        check_is_no_checkpoint(folder)
    return folder


def is_folder(path: Path) -> bool:
    """Whether it is one. Where the system does not tell, that is no "no": OSError."""
    return stat.S_ISDIR(_mode_of(path))


def is_file(path: Path) -> bool:
    """Whether it is a regular file; OSError as `is_folder`."""
    return stat.S_ISREG(_mode_of(path))


def _mode_of(path: Path) -> int:
    """Of what stands there, links followed; 0 of nothing."""
    # Not pathlib's questions: those take errors of the system for a "no".
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return 0


def check_is_no_checkpoint(path: Path, fs: FileSystem = FILE_SYSTEM) -> None:
    """Refuses a checkpoint's own folder as one to save into: no later save would see it.

    Raises:
        InvalidArgumentError: it is one; names the folder to pass.
        OSError: the folder cannot be looked at.
    """
    if sequence_number_of(path.name) and exists(fs, path / MANIFEST_NAME):
        raise InvalidArgumentError(
            f"{str(path)!r:.200} is a checkpoint itself, and none is saved inside another: "
            f"pass the folder that holds it, {str(path.parent)!r:.200}. reverie.open() reads "
            "it by itself."
        )
