"""The Reverb fixtures, what Reverb says is in them, and tools to take them apart."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from reverie import errors
from reverie.checkpoint.reverb_files import as_records
from reverie.checkpoint.reverb_files.runs import arrange
from reverie.checkpoint.reverb_files.stored import Stored, read_stored
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec
from reverie.proto import schema
from reverie.tables.settings import TableSettings
from reverie.tables.signature import columns_of

GOLDEN = Path(__file__).resolve().parent
FIXTURES = {path.name: path for path in sorted((GOLDEN / "reverb").iterdir()) if path.is_dir()}
# What no replay buffer can hold, with what the message must hold.
NO_RECORDS = {"strings": "'word'\\) of .* has dtype string", "unlike_items": "float32 \\(3,\\)"}
AS_RECORDS = [name for name in FIXTURES if name not in NO_RECORDS]
FILES = ("tables.tfrecord", "items.tfrecord", "chunks.tfrecord")
# Samplers that give items in a known order: how it follows from that of insertion.
ORDERED: dict[str, Callable[[list[int]], list[int]]] = {
    "fifo": lambda keys: keys,
    "lifo": lambda keys: keys[::-1],
}


@dataclasses.dataclass
class Found:
    """One table as it was read; a test may change it."""

    settings: TableSettings
    counters: dict[str, int]
    keys: list[int]
    priorities: list[float]
    times_sampled: list[int]
    rows: list[list[Any]]


def read(folder: Path, *, max_nbytes: int = 64 << 30) -> list[Found]:
    """All tables of a checkpoint, with their items as Reverb's `sample` gives them."""
    return found_in(read_stored(folder, max_nbytes=max_nbytes))


def found_in(stored: Stored) -> list[Found]:
    """All tables of what was read."""
    return [
        Found(
            table.settings,
            table.record.counters,
            list(table.items.keys),
            list(table.items.priorities),
            list(table.items.times_sampled),
            [columns for _, columns in stored.items(name)],
        )
        for name, table in stored.tables.items()
    ]


def differences(tables: list[Found], expected_file: Path) -> list[str]:
    """Names everything in which the tables differ from what Reverb answered."""
    with np.load(expected_file, allow_pickle=False) as file:
        expected = dict(file)
    infos = {info["name"]: info for info in json.loads(str(expected["infos"]))}
    found = [] if {one.settings.name for one in tables} == set(infos) else ["table names"]
    for table in tables:
        info = infos[table.settings.name]
        ours = described(table.settings, table.counters)
        found += [name for name, value in ours.items() if info[name] != value]
        found += _item_differences(table, info, expected)
    return found


def described(settings: TableSettings, counters: dict[str, int]) -> dict[str, Any]:
    """A table's settings and counters as the infos of the fixtures have them."""
    limiter, signature = settings.limiter, None
    if settings.signature is not None:
        signature = [
            [
                "/".join(map(str, leaf.path)),
                "string" if leaf.dtype == object else leaf.dtype.name,
                None if leaf.shape is None else list(leaf.shape),
            ]
            for leaf in columns_of(settings.signature)
        ]
    return {
        "max_size": settings.max_size,
        "max_times_sampled": settings.max_times_sampled,
        "sampler": [settings.sampler.kind, settings.sampler.exponent],
        "remover": [settings.remover.kind, settings.remover.exponent],
        "samples_per_insert": limiter.samples_per_insert,
        "min_diff": limiter.min_diff,
        "max_diff": limiter.max_diff,
        "min_size_to_sample": limiter.min_size_to_sample,
        "insert_count": counters["inserts"],
        "sample_count": counters["samples"],
        "num_deleted_episodes": counters["num_deleted_episodes"],
        "num_unique_samples": counters["num_unique_samples"],
        "signature": signature,
    }


def _item_differences(
    table: Found, info: dict[str, Any], expected: dict[str, np.ndarray]
) -> list[str]:
    name, found = table.settings.name, []
    keys = expected[f"{name}/keys"].tolist()
    index = {key: position for position, key in enumerate(table.keys)}
    if sorted(index) != sorted(keys) or len(keys) != len(table.keys):
        return [f"{name}: keys"]
    in_order = ORDERED.get(table.settings.sampler.kind, lambda _: keys)(table.keys)
    found += [f"{name}: order"] * (in_order != keys)
    order = [index[key] for key in keys]
    for field in ("priorities", "times_sampled"):
        ours = np.array(getattr(table, field))[order]
        same = np.array_equal(ours, expected[f"{name}/{field}"])
        found += [] if same else [f"{name}: {field}"]
    rows = [table.rows[position] for position in order]
    shapes = [[list(value.shape) for value in row] for row in rows]
    found += [f"{name}: shapes"] * (shapes != info["shapes"])
    for column, parts in enumerate(zip(*rows, strict=True)):
        ours = np.concatenate([part.ravel() for part in parts])
        if ours.dtype == object:
            continue  # the fixtures have no texts: those are compared by a test of their own
        theirs = expected[f"{name}/{column}"]
        if ours.dtype.name == "bfloat16":
            ours = ours.view(np.uint16)
        if ours.dtype != theirs.dtype or ours.tobytes() != theirs.tobytes():
            found.append(f"{name}: column {column}")
    return found


def same(ours: list[Found], theirs: list[Found]) -> bool:
    """Whether two readings are equal, bit for bit."""
    return _flat(ours) == _flat(theirs)


def _flat(tables: list[Found]) -> list[Any]:
    flat: list[Any] = []
    for table in tables:
        flat += [table.settings.name, described(table.settings, table.counters), table.keys]
        flat += [np.array(table.priorities).tobytes(), table.times_sampled]
        flat += [
            (
                value.dtype,
                value.shape,
                value.tolist() if value.dtype == object else value.tobytes(),
            )
            for row in table.rows
            for value in row
        ]
    return flat


# As records ------------------------------------------------------------------------------


class Chunks:
    """Stands for a core's store: chunks of records, and how they follow each other."""

    def __init__(self) -> None:
        self.raw: dict[int, np.ndarray] = {}
        self.next: dict[int, int] = {}

    def restore_chunk(
        self, layout: Any, number: int, count: int, nbytes: int = 0
    ) -> np.ndarray:
        assert number not in self.raw
        width = nbytes if layout is None else layout.record_nbytes
        self.raw[number] = np.full((count, width), 0xAB, np.uint8)  # whatever was there
        return self.raw[number]

    def link_chunks(self, ids: np.ndarray, next_ids: np.ndarray) -> None:
        assert ids.dtype == next_ids.dtype == np.uint64
        self.next.update(zip(ids.tolist(), next_ids.tolist(), strict=True))


def nest_of(stored: Stored, name: str) -> Nest:
    """A step spec that fits a table's items; any, where there are none."""
    columns = as_records.columns_of(stored, name) or [(np.dtype(np.int64), ())]
    return Nest([ArraySpec(shape, dtype) for dtype, shape in columns])


def run_lengths(stored: Stored, name: str) -> list[int]:
    """The steps of each run that a table's items become."""
    table = stored.tables[name]
    assert table.slices is not None
    return np.diff(
        arrange(table.slices, len(table), table.items.num_columns[0]).run_base
    ).tolist()


def rows_of(state: dict[str, Any], chunks: Chunks, nest: Nest) -> list[list[np.ndarray]]:
    """The columns of every item that `fill_records` has described."""
    pieces: list[list[list[tuple[int, int, int]]]] = []
    width = [column.path for column in nest.columns]
    for chunk, offset, length in zip(
        *(state[key].tolist() for key in ("chunk", "offset", "length")), strict=True
    ):
        run = []
        while length:
            count = min(length, len(chunks.raw[chunk]) - offset)
            run.append((chunk, offset, count))
            length, offset = length - count, 0
            chunk = chunks.next[chunk] if length else 0
        pieces.append([run for _ in width])
    for item in state.get("traj_item", np.zeros(0)).tolist():
        assert pieces[item] == [[] for _ in width]
        pieces[item] = []
    left = list(
        zip(
            *(
                state.get(f"piece_{k}", np.zeros(0)).tolist()
                for k in ("chunk", "offset", "length")
            ),
            strict=True,
        )
    )
    columns = ("item", "field", "squeeze", "pieces")
    for item, field, squeeze, count in zip(
        *(state.get(f"column_{key}", np.zeros(0)).tolist() for key in columns), strict=True
    ):
        assert (field, squeeze) == (len(pieces[item]), 0)
        pieces[item].append(left[:count])
        del left[:count]
    assert not left
    return [
        [
            np.concatenate(
                [
                    chunks.raw[chunk].view(nest.record_dtype)[path][offset : offset + count, 0]
                    for chunk, offset, count in column
                ]
            )
            for path, column in zip(width, row, strict=True)
        ]
        for row in pieces
    ]


# Files -----------------------------------------------------------------------------------


def copy(case: str, to: Path) -> Path:
    """A copy of a fixture that a test may damage."""
    to.mkdir()
    for name in (*FILES, "DONE"):
        shutil.copyfile(FIXTURES[case] / name, to / name)
    return to


def message(name: str, payload: bytes) -> Any:
    """A record of an undamaged file as a message that a test may change."""
    return schema.parse(name, payload, errors.CheckpointCorruptError)


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
