"""The manifest: what a checkpoint says about itself, as values and as bytes.

The file is one line of JSON, `{"crc32":"<8 hex digits>","manifest":{...}}`. The
CRC-32 runs over the bytes of the inner object as they stand, so it can be
checked before anything is parsed, and by any later version. Keys are sorted
and nothing depends on a clock but `saved_at`, which the caller gives: the same
contents make the same bytes. 64-bit values stand as decimal strings (generator
states as hexadecimal ones), because JSON numbers above 2**53 are not safe.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reverie.checkpoint.format.cells import CellLayout
from reverie.checkpoint.format.columns import Column, record_nbytes

KIND = "reverie-checkpoint"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_SEQUENCE_NUMBER = 10**15 - 1  # below 2**53, and whole in decimal

FILE_NAME = re.compile(
    r"(segment|cells)-[0-9]{8,16}-[0-9]{5,9}\.npy|chunks\.npy"
    r"|(items|spans|free|touched|trajectories|columns|pieces)-(0|[1-9][0-9]{0,5})\.npy"
)
FileKind = Literal[
    "record",
    "item",
    "span",
    "key",
    "touched",
    "cell",
    "chunk",
    "trajectory",
    "column",
    "piece",
]
# Bytes of an element; those of records and cells are the manifest's to say.
ELEMENT_NBYTES = {
    **{"item": 36, "span": 20, "key": 8, "touched": 8, "chunk": 28},
    **{"trajectory": 16, "column": 13, "piece": 16},
}

CHUNKS_NAME = "chunks.npy"
TRAJECTORY_PARTS = ("trajectories", "columns", "pieces")

COUNTERS = ("inserts", "samples", "deletes")
MORE_COUNTERS = ("num_unique_samples", "num_deleted_episodes")  # where the core counts them


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """One table as it was configured; what a load needs to build it anew.

    `sampler` and `remover` are selector names. `min_diff` and `max_diff` may be
    infinite; `max_times_sampled` 0 means without end.
    """

    name: str
    max_size: int
    sampler: str
    remover: str
    min_size_to_sample: int
    samples_per_insert: float
    min_diff: float
    max_diff: float
    max_times_sampled: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its name, size, CRC-32, what its elements are, and how many."""

    name: str
    nbytes: int
    crc32: int
    dtype: FileKind
    count: int


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """Where a chunk's records stand: `count` of them from record `offset` of a segment."""

    chunk_id: int
    segment: str
    offset: int
    count: int
    next_id: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table: settings, files (None where there would be nothing in it), state.

    `trajectories` are the files of the items that are trajectories, of their
    columns and of their pieces; none where no item is. `touched` is there where a
    heap needs the order of the last updates.
    """

    settings: TableSettings
    items: str
    spans: str | None
    free: str | None
    counters: Mapping[str, int]
    rng_state: tuple[int, ...]
    trajectories: tuple[str, str, str] | None = None
    touched: str | None = None

    @property
    def prioritized(self) -> bool:
        """Whether a selector draws in proportion to priorities."""
        selectors = (self.settings.sampler, self.settings.remover)
        return any(selector.startswith("prioritized") for selector in selectors)


@dataclass(frozen=True, slots=True)
class CellSegment:
    """A file of cells: its name, the number of their layout, whether it can still grow."""

    name: str
    layout: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Cells:
    """All cells of trajectories: the file of their chunks, their layouts, their segments."""

    chunks: str
    layouts: tuple[CellLayout, ...]
    segments: tuple[CellSegment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole manifest. `decode.decode_manifest` gives only sound ones."""

    sequence_number: int
    library_version: str
    saved_at: str
    spec: object
    columns: tuple[Column, ...]
    tables: tuple[TableEntry, ...]
    chunks: tuple[ChunkEntry, ...]
    files: Mapping[str, FileEntry]
    cells: Cells | None = None

    @property
    def record_nbytes(self) -> int:
        """Bytes of one record."""
        return record_nbytes(self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes of all files, without the manifest."""
        return sum(file.nbytes for file in self.files.values())


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`; equal manifests give equal bytes.

    Raises:
        ValueError: `spec` or a string in it is no JSON.
    """
    document: dict[str, object] = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "library_version": manifest.library_version,
        "sequence_number": manifest.sequence_number,
        "saved_at": manifest.saved_at,
        "spec": manifest.spec,
        "columns": [
            {"path": c.path, "dtype": c.dtype, "shape": list(c.shape)} for c in manifest.columns
        ],
        "tables": [_table_json(table) for table in manifest.tables],
        "chunks": [
            {
                "id": str(c.chunk_id),
                "segment": c.segment,
                "offset": c.offset,
                "count": c.count,
                "next": str(c.next_id),
                "sealed": c.sealed,
            }
            for c in manifest.chunks
        ],
        "files": {
            f.name: {
                "nbytes": f.nbytes,
                "crc32": f"{f.crc32:08x}",
                "dtype": f.dtype,
                "shape": [f.count],
            }
            for f in manifest.files.values()
        },
    }
    if manifest.cells is not None:
        document["cells"] = _cells_json(manifest.cells)
    inner = json.dumps(
        document, sort_keys=True, allow_nan=False, separators=(",", ":")
    ).encode()
    return frame(inner)


def frame(inner: bytes) -> bytes:
    """The whole file around the inner object. This frame stays for all later versions."""
    return b'{"crc32":"%08x","manifest":%s}\n' % (zlib.crc32(inner), inner)


def _table_json(table: TableEntry) -> dict[str, object]:
    s = table.settings
    names = dict(zip(TRAJECTORY_PARTS, table.trajectories or (), strict=False))
    if table.touched is not None:
        names["touched"] = table.touched
    return {
        **names,
        "settings": {
            "name": s.name,
            "max_size": s.max_size,
            "sampler": s.sampler,
            "remover": s.remover,
            "min_size_to_sample": s.min_size_to_sample,
            "samples_per_insert": _float_json(s.samples_per_insert),
            "min_diff": _float_json(s.min_diff),
            "max_diff": _float_json(s.max_diff),
            "max_times_sampled": s.max_times_sampled,
        },
        "items": table.items,
        "spans": table.spans,
        "free": table.free,
        "counters": {name: str(value) for name, value in table.counters.items()},
        "rng_state": [f"{word:016x}" for word in table.rng_state],
    }


def _cells_json(cells: Cells) -> dict[str, object]:
    return {
        "chunks": cells.chunks,
        "layouts": [{"dtype": la.dtype, "shape": list(la.shape)} for la in cells.layouts],
        "segments": [
            {"file": seg.name, "layout": seg.layout, "sealed": seg.sealed}
            for seg in cells.segments
        ],
    }


def _float_json(value: float) -> float | str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)
