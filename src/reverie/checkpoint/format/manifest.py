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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reverie.checkpoint.folder.names import TABLE_FILES
from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.settings import PRIORITIES, ROLES, priorities_json, settings_json
from reverie.tables.settings import TableSettings

KIND = "reverie-checkpoint"
FORMAT_VERSION = 1

COUNTERS = (
    "inserts",
    "samples",
    "deletes",
    "num_unique_samples",
    "num_deleted_episodes",
    "first_generation",
    "next_slot",
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file.

    Attributes:
        name: of the file, which says its role.
        nbytes: of the whole file.
        count: its elements; None where only a named part knows what they are.
        crc32: over the whole file; None for a segment, whose chunks have their own.
    """

    name: str
    nbytes: int
    count: int | None
    crc32: int | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of chunks: its name, the number of their layout, whether none can grow."""

    file: str
    layout: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table: settings (the signature apart, as JSON), its files by role, its state."""

    settings: TableSettings
    signature: object
    files: Mapping[str, str]
    counters: Mapping[str, int]
    rng_state: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NamedPart:
    """Something that a later library may have put beside all else.

    Attributes:
        required: whether a reader that does not know it must give up.
        files: names of its files.
        data: any JSON.
    """

    required: bool
    files: tuple[str, ...]
    data: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole manifest. `decode.decode_manifest` gives only sound ones."""

    sequence_number: int
    library_version: str
    saved_at: str
    layouts: tuple[Layout, ...]
    segments: tuple[Segment, ...]
    tables: tuple[TableEntry, ...]
    parts: Mapping[str, NamedPart]
    files: Mapping[str, FileEntry]

    @property
    def nbytes(self) -> int:
        """Bytes of all files, without the manifest."""
        return sum(file.nbytes for file in self.files.values())


def parts_of(tables: Sequence[TableSettings]) -> dict[str, NamedPart]:
    """What is saved of tables beside all else, where there is anything to say."""
    said = priorities_json(tables)
    parts = {PRIORITIES: NamedPart(False, (), said)} if said else {}
    roles = {one.name: one.roles.as_json() for one in tables if one.roles is not None}
    if roles:  # who does not know them would misread the steps
        parts[ROLES] = NamedPart(True, (), roles)
    return parts


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`; equal manifests give equal bytes."""
    document: dict[str, object] = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "library_version": manifest.library_version,
        "sequence_number": manifest.sequence_number,
        "saved_at": manifest.saved_at,
        "layouts": [
            {
                "columns": [[c.path, c.dtype, list(c.shape)] for c in layout.columns],
                "nest": layout.nest,
            }
            for layout in manifest.layouts
        ],
        "segments": [
            {"file": s.file, "layout": s.layout, "sealed": s.sealed} for s in manifest.segments
        ],
        "tables": [_table_json(table) for table in manifest.tables],
        "parts": {
            name: {"required": part.required, "files": list(part.files), "data": part.data}
            for name, part in manifest.parts.items()
        },
        "files": {file.name: _file_json(file) for file in manifest.files.values()},
    }
    inner = json.dumps(
        document, sort_keys=True, allow_nan=False, separators=(",", ":")
    ).encode()
    return frame(inner)


def frame(inner: bytes) -> bytes:
    """The whole file around the inner object. This frame stays for all later versions."""
    return b'{"crc32":"%08x","manifest":%s}\n' % (zlib.crc32(inner), inner)


def _table_json(table: TableEntry) -> dict[str, object]:
    return {
        "settings": {**settings_json(table.settings), "signature": table.signature},
        **{role: table.files.get(role) for role in TABLE_FILES},
        "counters": {name: str(value) for name, value in table.counters.items()},
        "rng_state": [f"{word:016x}" for word in table.rng_state],
    }


def _file_json(file: FileEntry) -> dict[str, object]:
    entry: dict[str, object] = {"nbytes": file.nbytes}
    if file.count is not None:
        entry["count"] = file.count
    if file.crc32 is not None:
        entry["crc32"] = f"{file.crc32:08x}"
    return entry
