"""Forged checkpoints on the disk: small ones that claim to be large, or make much work."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
from tests.golden.reverb_support import framed, masked_crc, records
from tests.hostile.damage_support import both, files_of, forge, put, rewritten

from reverie import ArraySpec, ReplayBufferManager
from reverie.checkpoint.disk.npy import encode_header
from reverie.checkpoint.format.manifest import frame
from reverie.checkpoint.format.rows import ROWS, role_of

MB = 1 << 20
SEGMENT = "segment-00000001-00000.npy"


def manager(root: Path, capacity: int = 10**7) -> ReplayBufferManager:
    spec = {"x": ArraySpec((), np.uint8)}
    return ReplayBufferManager(spec, capacity, root, 2, seed=1)


def saved(root: Path) -> Path:
    """A sound checkpoint of two windows over three steps of one byte."""
    with manager(root) as made:
        _, observer = made.create_replay_buffer()
        for i in range(3):
            observer({"x": np.uint8(i)}, last=False)
        return Path(made.save())


def with_holes(root: Path, name: str, nbytes: int) -> Path:
    """A file of so many bytes, nearly all of them a hole; what is in it is as described."""
    folder = saved(root)
    rows = ROWS.get(role_of(name))
    width = 1 if rows is None else rows.dtype.itemsize
    count = nbytes // width
    head = encode_header("|u1", count) if rows is None else rows.header(count)
    crc = 0 if name == SEGMENT else zlib.crc32(head)
    zeros = bytes(MB)
    for start in range(0, count * width, MB):
        crc = zlib.crc32(zeros[: min(MB, count * width - start)], crc)

    def edit(document: dict, files: dict[str, bytes]) -> None:
        if name == SEGMENT:
            index = np.frombuffer(files["chunks.npy"][-44:], ROWS["chunks"].dtype).copy()
            index["count"], index["crc32"] = count, crc
            files["chunks.npy"] = files["chunks.npy"][:-44] + index.tobytes()
        document["tables"][0]["settings"]["max_size"] = 2**32 - 2

    made = forge(files_of(folder), edit)
    document = json.loads(made["manifest.json"])["manifest"]
    document["files"][name].update(nbytes=len(head) + count * width, count=count)
    if name == SEGMENT:
        index = np.frombuffer(made["chunks.npy"][-44:], ROWS["chunks"].dtype).copy()
        index["crc32"] = crc
        made["chunks.npy"] = made["chunks.npy"][:-44] + index.tobytes()
        document["files"]["chunks.npy"]["crc32"] = f"{zlib.crc32(made['chunks.npy']):08x}"
    else:
        document["files"][name]["crc32"] = f"{crc:08x}"
    made["manifest.json"] = frame(json.dumps(document).encode())
    made[name] = head
    written(folder, made)
    with (folder / name).open("r+b") as file:
        file.truncate(len(head) + count * width)
    return folder


def long_windows(root: Path, num_chunks: int, num_items: int, length: int) -> Path:
    """Windows that all begin in the first of many chunks of one record, and reach far."""
    chunks = np.zeros(num_chunks, ROWS["chunks"].dtype)
    chunks["id"] = np.arange(1, num_chunks + 1)
    chunks["offset"], chunks["count"] = np.arange(num_chunks), 1
    chunks["next"][:-1] = chunks["id"][1:]
    chunks["crc32"] = zlib.crc32(bytes(1))
    items = np.zeros(num_items, ROWS["items"].dtype)
    items["key"] = (1 << 32) + np.arange(num_items, dtype=np.uint64)
    items["chunk"], items["length"], items["priority"] = 1, length, 1

    def edit(document: dict, files: dict[str, bytes]) -> None:
        files[SEGMENT] = encode_header("|u1", num_chunks) + bytes(num_chunks)
        document["files"][SEGMENT]["count"] = num_chunks
        for name in ("ends.npy", "free-0.npy"):
            files.pop(name, None)
            document["files"].pop(name, None)
        document["tables"][0]["free"] = None
        document["tables"][0]["counters"].update(
            inserts=str(num_items), deletes="0", next_slot=str(num_items)
        )

    folder = saved(root)
    edits = both(
        edit,
        rewritten("chunks.npy", lambda _: chunks),
        rewritten("items-0.npy", lambda _: items),
        put("tables", 0, "settings", "sequence_length", value=2),
    )
    made = forge(files_of(folder), edits)
    written(folder, made)
    return folder


def written(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _zeros_record(nbytes: int) -> Iterator[bytes]:
    """One record of zeros, a piece at a time."""
    head, crc = struct.pack("<Q", nbytes), 0
    yield head + masked_crc(head)
    for _ in range(nbytes // MB):
        yield bytes(MB)
        crc = google_crc32c.extend(crc, bytes(MB))
    yield struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _compressed(pieces: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*map(packer.compress, pieces), packer.flush()])


def one_record(folder: Path, name: str, nbytes: int) -> None:
    """A file of one record of zeros, which zlib makes a thousandth of."""
    (folder / name).write_bytes(_compressed(_zeros_record(nbytes)))


def many_records(folder: Path, name: str, nbytes: int) -> None:
    """The records of a sound file, and then the last again and again."""
    found = records(folder / name)
    again = framed(found[-1:] * (MB // len(found[-1])))
    pieces = [framed(found), *[again] * (nbytes // len(again))]
    (folder / name).write_bytes(_compressed(iter(pieces)))
