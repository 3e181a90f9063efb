"""The Reverb fixtures, what Reverb says is in them, and tools to take them apart."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from reverie.checkpoint.reverb_files import ReverbTable

GOLDEN = Path(__file__).resolve().parent
FIXTURES = {path.name: path for path in sorted((GOLDEN / "reverb").iterdir()) if path.is_dir()}
# What Reverie refuses, with what the message must hold.
REFUSED = {"strings": "'word' has dtype string", "unlike_items": "float32 \\(3,\\)"}
READABLE = [name for name in FIXTURES if name not in REFUSED]
FILES = ("tables.tfrecord", "items.tfrecord", "chunks.tfrecord")
# Samplers that give items in a known order: how it follows from that of insertion.
ORDERED: dict[str, Callable[[list[int]], list[int]]] = {
    "fifo": lambda keys: keys,
    "lifo": lambda keys: keys[::-1],
}


def differences(tables: list[ReverbTable], expected_file: Path) -> list[str]:
    """Names everything in which the tables differ from what Reverb answered."""
    with np.load(expected_file, allow_pickle=False) as file:
        expected = dict(file)
    infos = {info["name"]: info for info in json.loads(str(expected["infos"]))}
    found = [] if {table.name for table in tables} == set(infos) else ["table names"]
    for table in tables:
        settings = _settings(table)
        info = infos[table.name]
        found += [name for name, value in settings.items() if info[name] != value]
        found += _item_differences(table, info, expected)
    return found


def _settings(table: ReverbTable) -> dict[str, Any]:
    limiter = table.rate_limiter
    signature = table.signature and [
        [path, dtype.name, None if shape is None else list(shape)]
        for path, dtype, shape in table.signature
    ]
    return {
        "max_size": table.max_size,
        "max_times_sampled": table.max_times_sampled,
        "sampler": [table.sampler.kind, table.sampler.exponent],
        "remover": [table.remover.kind, table.remover.exponent],
        "samples_per_insert": limiter.samples_per_insert,
        "min_diff": limiter.min_diff,
        "max_diff": limiter.max_diff,
        "min_size_to_sample": limiter.min_size_to_sample,
        "insert_count": limiter.insert_count,
        "sample_count": limiter.sample_count,
        "num_deleted_episodes": table.num_deleted_episodes,
        "num_unique_samples": table.num_unique_samples,
        "signature": signature,
    }


def _item_differences(
    table: ReverbTable, info: dict[str, Any], expected: dict[str, np.ndarray]
) -> list[str]:
    name, found = table.name, []
    keys = expected[f"{name}/keys"].tolist()
    index = {key: position for position, key in enumerate(table.keys.tolist())}
    if sorted(index) != sorted(keys) or len(keys) != len(table):
        return [f"{name}: keys"]
    in_order = ORDERED.get(table.sampler.kind, lambda _: keys)(table.keys.tolist())
    found += [f"{name}: order"] * (in_order != keys)
    order = [index[key] for key in keys]
    for field in ("priorities", "times_sampled"):
        same = np.array_equal(getattr(table, field)[order], expected[f"{name}/{field}"])
        found += [] if same else [f"{name}: {field}"]
    rows = [table.item_columns(position) for position in order]
    shapes = [[list(value.shape) for value in row] for row in rows]
    found += [f"{name}: shapes"] * (shapes != info["shapes"])
    for column in range(len(table.columns)):
        ours = np.concatenate([row[column].ravel() for row in rows])
        theirs = expected[f"{name}/{column}"]
        if ours.dtype.name == "bfloat16":
            ours = ours.view(np.uint16)
        if ours.dtype != theirs.dtype or ours.tobytes() != theirs.tobytes():
            found.append(f"{name}: column {column}")
    return found


def same(ours: list[ReverbTable], theirs: list[ReverbTable]) -> bool:
    """Whether two readings are equal, bit for bit."""
    return _flat(ours) == _flat(theirs)


def _flat(tables: list[ReverbTable]) -> list[Any]:
    flat: list[Any] = []
    for table in tables:
        flat += [table.name, _settings(table), table.columns, table.spans, table.squeezed]
        arrays = (table.keys, table.run, table.start, table.length, table.priorities)
        flat += [array.tobytes() for array in (*arrays, table.times_sampled)]
        flat += [[column.tobytes() for column in run] for run in table.runs]
    return flat


def copy(case: str, to: Path) -> Path:
    """A copy of a fixture that a test may damage."""
    to.mkdir()
    for name in (*FILES, "DONE"):
        shutil.copyfile(FIXTURES[case] / name, to / name)
    return to


def records(path: Path) -> list[bytes]:
    """The payloads of an undamaged file, unchecked."""
    inflated, payloads = zlib.decompress(path.read_bytes()), []
    while inflated:
        end = 12 + struct.unpack_from("<Q", inflated)[0]
        payloads.append(inflated[12:end])
        inflated = inflated[end + 4 :]
    return payloads


def framed(payloads: Iterable[bytes]) -> bytes:
    """An uncompressed file of these records, with sound checksums."""
    out = bytearray()
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        out += length + masked_crc(length) + payload + masked_crc(payload)
    return bytes(out)


def rewrite(path: Path, payloads: Iterable[bytes]) -> None:
    """A sound compressed file of these records."""
    path.write_bytes(zlib.compress(framed(payloads)))


def masked_crc(data: bytes) -> bytes:
    """The checksum as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
