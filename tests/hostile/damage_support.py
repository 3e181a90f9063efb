"""Checkpoints in memory, damaged and forged, shared by the tests of this folder."""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from reverie.checkpoint.disk.files import FileSystem, OpenFolder
from reverie.checkpoint.format.manifest import frame
from reverie.checkpoint.format.rows import ROWS, role_of

Files = dict[str, bytes]


class MemoryFileSystem(FileSystem):
    """One checkpoint folder in memory, so that thousands of damages cost no disk."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.at: dict[int, list] = {}

    def lstat(self, path: Path) -> os.stat_result:
        return SimpleNamespace(st_mode=stat.S_IFDIR)

    def open_folder(self, path: Path) -> OpenFolder:
        return OpenFolder(path, None)

    def close_folder(self, folder: OpenFolder) -> None:
        pass

    def names_in(self, folder: OpenFolder) -> list[str]:
        return sorted(self.files)

    def open_in(self, folder: OpenFolder, name: str) -> int:
        if name not in self.files:
            raise FileNotFoundError(2, "No such file", name)
        self.at[len(self.at)] = [self.files[name], 0]
        return len(self.at) - 1

    def _status(self, data: bytes) -> os.stat_result:
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=len(data))

    def lstat_in(self, folder: OpenFolder, name: str) -> os.stat_result:
        if name not in self.files:
            raise FileNotFoundError(2, "No such file", name)
        return self._status(self.files[name])

    def fstat(self, fd: int) -> os.stat_result:
        return self._status(self.at[fd][0])

    def read_into(self, fd: int, buffer: memoryview) -> int:
        data, start = self.at[fd]
        piece = data[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self.at[fd][1] += len(piece)
        return len(piece)

    def skip(self, fd: int, nbytes: int) -> None:
        self.at[fd][1] += nbytes

    def close(self, fd: int) -> None:
        pass


def files_of(folder: Path) -> Files:
    """A checkpoint's files, in memory."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def forge(files: Files, edit: Callable[[dict, Files], None]) -> Files:
    """The files after `edit(document, files)`, with sizes and checksums made right."""
    document = json.loads(files["manifest.json"])["manifest"]
    made = {name: data for name, data in files.items() if name != "manifest.json"}
    before = dict(made)
    edit(document, made)
    changed = {name for name, data in made.items() if before.get(name) != data}
    if "chunks.npy" in made:
        made["chunks.npy"] = _with_right_crcs(document, made, changed)
        changed.add("chunks.npy")
    for name in changed & document["files"].keys():
        document["files"][name]["nbytes"] = len(made[name])
        if "crc32" in document["files"][name]:
            document["files"][name]["crc32"] = f"{zlib.crc32(made[name]):08x}"
    made["manifest.json"] = frame(json.dumps(document).encode())
    return made


def _with_right_crcs(document: dict, files: Files, changed: set[str]) -> bytes:
    """`chunks.npy` with the checksums of the chunks in segments that were changed."""
    head, raw = split(files["chunks.npy"])
    rows = np.frombuffer(raw, ROWS["chunks"].dtype).copy()
    for number, segment in enumerate(document["segments"]):
        if segment["file"] in changed & files.keys():
            data = split(files[segment["file"]])[1]
            width = len(data) // max(1, document["files"][segment["file"]]["count"])
            for row in rows[rows["segment"] == number]:
                at, end = int(row["offset"]) * width, int(row["offset"] + row["count"]) * width
                rows["crc32"][rows["id"] == row["id"]] = zlib.crc32(data[at:end])
    return head + rows.tobytes()


def split(data: bytes) -> tuple[bytes, bytes]:
    """The header of a `.npy` file, its newline included, and the rest."""
    at = data.index(b"\n") + 1
    return data[:at], data[at:]


def patched(name: str, at: int, data: bytes) -> Callable[[dict, Files], None]:
    """Writes `data` over a file's data section from byte `at` on."""

    def edit(document: dict, files: Files) -> None:
        raw = bytearray(files[name])
        start = raw.index(b"\n") + 1 + at
        raw[start : start + len(data)] = data
        files[name] = bytes(raw)

    return edit


def swapped(name: str, old: bytes, new: bytes) -> Callable[[dict, Files], None]:
    """Replaces text of a header, keeping its length by its padding."""

    def edit(document: dict, files: Files) -> None:
        head, data = files[name].split(b"\n", 1)
        assert old in head
        head = head.replace(old, new).rstrip(b" ")
        files[name] = head.ljust(len(files[name]) - len(data) - 1) + b"\n" + data

    return edit


def put(*path: object, value: object) -> Callable[[dict, Files], None]:
    """Puts a value into the manifest."""

    def edit(document: dict, files: Files) -> None:
        at = document
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return edit


def both(*edits: Callable[[dict, Files], None]) -> Callable[[dict, Files], None]:
    def edit(document: dict, files: Files) -> None:
        for one in edits:
            one(document, files)

    return edit


def field(file: str, row: int, name: str, value: object) -> Callable[[dict, Files], None]:
    """Sets one field of one row of a small file."""

    def edit(document: dict, files: Files) -> None:
        head, raw = split(files[file])
        rows = np.frombuffer(raw, ROWS[role_of(file)].dtype).copy()
        rows[name][row] = value
        files[file] = head + rows.tobytes()

    return edit


def rewritten(file: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """Puts other rows into a small file."""

    def edit(document: dict, files: Files) -> None:
        rows = ROWS[role_of(file)]
        made = change(np.frombuffer(split(files[file])[1], rows.dtype))
        files[file] = rows.header(len(made)) + made.tobytes()
        document["files"][file]["count"] = len(made)

    return edit


def without_row(file: str, row: int) -> Callable[[dict, Files], None]:
    return rewritten(file, lambda rows: np.delete(rows, row))


def u4(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u8(value: int) -> bytes:
    return value.to_bytes(8, "little")


def chunks(row: int, name: str, value: object) -> Callable[[dict, Files], None]:
    """Sets a field of a chunk."""
    return field("chunks.npy", row, name, value)


def trajectories(row: int, name: str, value: object) -> Callable[[dict, Files], None]:
    """Sets a field of a trajectory of the second table."""
    return field("trajectories-1.npy", row, name, value)


def columns(row: int, name: str, value: object) -> Callable[[dict, Files], None]:
    """Sets a field of a column of one of its trajectories."""
    return field("columns-1.npy", row, name, value)
