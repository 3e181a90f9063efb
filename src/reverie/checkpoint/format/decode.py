"""Reading a manifest that nobody vouches for: every type, range and name is checked."""

from __future__ import annotations

from typing import get_args

from reverie.checkpoint.disk import strict_json as sj
from reverie.checkpoint.disk.npy import MAX_HEADER_NBYTES
from reverie.checkpoint.format.columns import (
    ITEM_NBYTES,
    MAX_RANK,
    MAX_RECORD_NBYTES,
    Column,
    record_nbytes,
)
from reverie.checkpoint.format.decode_cells import (
    decode_cells,
    element_nbytes,
    server_roles,
    trajectory_files,
)
from reverie.checkpoint.format.manifest import (
    COUNTERS,
    ELEMENT_NBYTES,
    FILE_NAME,
    FORMAT_VERSION,
    KIND,
    MAX_SEQUENCE_NUMBER,
    MORE_COUNTERS,
    TRAJECTORY_PARTS,
    ChunkEntry,
    FileEntry,
    FileKind,
    Manifest,
    TableEntry,
    TableSettings,
    frame,
)
from reverie.errors import CheckpointCorruptError, CheckpointVersionError

MAX_NBYTES = sj.MAX_NBYTES + 100  # the frame around the JSON object

_SAFE_INT = (1 << 53) - 1
_TOP = (
    *("kind", "format_version", "library_version", "sequence_number", "saved_at"),
    *("spec", "columns", "tables", "chunks", "files"),
)


def decode_manifest(raw: bytes, where: str) -> Manifest:
    """Parses and validates the bytes of `manifest.json`.

    Types, ranges, names and the agreement of the parts are checked: every file
    is described once and used once, sizes fit shapes. References between
    chunks and items are checked by `references`.

    Args:
        raw: the bytes.
        where: the file, for messages.

    Raises:
        CheckpointCorruptError: the CRC is wrong, or anything is not as the format
            says; the message names the place, what was found and expected.
        CheckpointVersionError: it was written in a later format.
    """
    try:
        return _decode(raw, where)
    except sj.MalformedError as error:
        raise CheckpointCorruptError(f"{where!r} is malformed: {error}.") from error


def _decode(raw: bytes, where: str) -> Manifest:
    inner = raw[len(frame(b"")) - 2 : -2]
    if raw != frame(inner):
        raise CheckpointCorruptError(
            f"{where!r} is damaged or cut: its {len(raw)} bytes do not have the frame and the "
            "CRC-32 of a manifest."
        )
    value = sj.parse(inner)
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise sj.MalformedError("kind", isinstance(value, dict) and value.get("kind"), KIND)
    version = sj.take_int(value.get("format_version"), "format_version", 1, _SAFE_INT)
    if version > FORMAT_VERSION:
        library = repr(value.get("library_version"))[:60]
        raise CheckpointVersionError(
            f"{where!r} has format version {version}, written by library version {library}; "
            f"this library reads format versions up to {FORMAT_VERSION}. Install a newer one."
        )
    top = sj.take_object(value, "the manifest", (*_TOP, *({"cells"} & value.keys())))
    columns = tuple(
        _column(c, f"columns[{i}]")
        for i, c in enumerate(sj.take_list(top["columns"], "columns"))
    )
    if len({c.path for c in columns}) != len(columns):
        raise sj.MalformedError("columns", "the same path twice", "distinct paths")
    nbytes = record_nbytes(columns)
    if columns and not 0 < nbytes <= MAX_RECORD_NBYTES:
        raise sj.MalformedError("columns", f"{nbytes} bytes", f"1 to {MAX_RECORD_NBYTES} bytes")
    cells = decode_cells(top["cells"]) if "cells" in top else None
    manifest = Manifest(
        sequence_number=sj.take_int(
            top["sequence_number"], "sequence_number", 1, MAX_SEQUENCE_NUMBER
        ),
        library_version=sj.take_str(top["library_version"], "library_version", limit=100),
        saved_at=sj.take_str(top["saved_at"], "saved_at", limit=100),
        spec=top["spec"],
        columns=columns,
        tables=tuple(
            _table(t, f"tables[{i}]", i)
            for i, t in enumerate(sj.take_list(top["tables"], "tables"))
        ),
        chunks=tuple(
            _chunk(c, f"chunks[{i}]")
            for i, c in enumerate(sj.take_list(top["chunks"], "chunks"))
        ),
        files=_files(top["files"], nbytes, element_nbytes(cells)),
        cells=cells,
    )
    _check_files_used(manifest)
    return manifest


def _column(value: object, path: str) -> Column:
    column = sj.take_object(value, path, ("path", "dtype", "shape"))
    dtype = sj.take_str(column["dtype"], f"{path}.dtype", limit=40)
    if dtype not in ITEM_NBYTES:
        raise sj.MalformedError(f"{path}.dtype", dtype, f"one of {', '.join(ITEM_NBYTES)}")
    shape = sj.take_list(column["shape"], f"{path}.shape")
    if len(shape) > MAX_RANK:
        raise sj.MalformedError(f"{path}.shape", len(shape), f"at most {MAX_RANK} sizes")
    sizes = tuple(sj.take_int(s, f"{path}.shape", 0, MAX_RECORD_NBYTES) for s in shape)
    name = sj.take_str(column["path"], f"{path}.path", pattern="(?s:.+)", limit=10_000)
    return Column(name, dtype, sizes)


def _chunk(value: object, path: str) -> ChunkEntry:
    chunk = sj.take_object(value, path, ("id", "segment", "offset", "count", "next", "sealed"))
    return ChunkEntry(
        chunk_id=_signed(chunk["id"], f"{path}.id"),
        segment=sj.take_str(chunk["segment"], f"{path}.segment", limit=64),
        offset=sj.take_int(chunk["offset"], f"{path}.offset", 0, _SAFE_INT),
        count=sj.take_int(chunk["count"], f"{path}.count", 1, (1 << 32) - 1),
        next_id=_signed(chunk["next"], f"{path}.next"),
        sealed=sj.take_bool(chunk["sealed"], f"{path}.sealed"),
    )


def _files(
    value: object, nbytes_of_record: int, nbytes_of_cell: dict[str, int]
) -> dict[str, FileEntry]:
    if not isinstance(value, dict):
        raise sj.MalformedError("files", value, "an object")
    files: dict[str, FileEntry] = {}
    nbytes_of = {"record": nbytes_of_record, **ELEMENT_NBYTES}
    for name, inner in value.items():
        path = f"files[{name[:80]!r}]"
        if not FILE_NAME.fullmatch(name):
            raise sj.MalformedError("files", name, f"names matching {FILE_NAME.pattern}")
        entry = sj.take_object(inner, path, ("nbytes", "crc32", "dtype", "shape"))
        dtype = sj.take_str(entry["dtype"], f"{path}.dtype", limit=10)
        shape = sj.take_list(entry["shape"], f"{path}.shape")
        if dtype not in get_args(FileKind) or len(shape) != 1:
            raise sj.MalformedError(path, (dtype, shape), "a known dtype and one size")
        file = FileEntry(
            name=name,
            nbytes=sj.take_int(entry["nbytes"], f"{path}.nbytes", 0, _SAFE_INT),
            crc32=int(sj.take_str(entry["crc32"], f"{path}.crc32", pattern="[0-9a-f]{8}"), 16),
            dtype=dtype,  # type: ignore[arg-type]
            count=sj.take_int(shape[0], f"{path}.shape", 0, _SAFE_INT),
        )
        width = nbytes_of_cell.get(name, -1) if dtype == "cell" else nbytes_of[dtype]
        if width < 0:
            raise sj.MalformedError(f"{path}.dtype", dtype, "cells in a segment of cells")
        if not 0 < file.nbytes - file.count * width <= MAX_HEADER_NBYTES:
            found = f"{file.nbytes} for {file.count} elements of {width} bytes"
            raise sj.MalformedError(f"{path}.nbytes", found, "a header and that many elements")
        files[name] = file
    return files


def _check_files_used(manifest: Manifest) -> None:
    """Every file is there once, under the name of its role, and belongs to something."""
    roles = server_roles(manifest)
    names = [table.settings.name for table in manifest.tables]
    if len(set(names)) != len(names):
        raise sj.MalformedError("tables", names, "distinct names")
    for index, table in enumerate(manifest.tables):
        parts: tuple[tuple[str, str | None, FileKind], ...] = (
            ("items", table.items, "item"),
            ("spans", table.spans, "span"),
            ("free", table.free, "key"),
            ("touched", table.touched, "touched"),
        )
        for part, name, kind in parts:
            if name is None:
                continue
            if name != f"{part}-{index}.npy":
                raise sj.MalformedError(f"tables[{index}].{part}", name, f"{part}-{index}.npy")
            roles[name] = kind
    for chunk in manifest.chunks:
        if not chunk.segment.startswith("segment-"):
            raise sj.MalformedError(f"chunk {chunk.chunk_id}", chunk.segment, "a segment")
        roles[chunk.segment] = "record"
    if roles.keys() != manifest.files.keys():
        odd = sorted(roles.keys() ^ manifest.files.keys())
        raise sj.MalformedError("files", odd, "each file described once and used")
    for name, kind in roles.items():
        if manifest.files[name].dtype != kind:
            raise sj.MalformedError(f"files[{name!r}].dtype", manifest.files[name].dtype, kind)
    for table in manifest.tables:
        count = manifest.files[table.items].count
        if count > table.settings.max_size:
            raise sj.MalformedError(
                table.items, count, f"at most {table.settings.max_size} items"
            )


def _table(value: object, path: str, index: int) -> TableEntry:
    keys = ("settings", "items", "spans", "free", "counters", "rng_state")
    parts = TRAJECTORY_PARTS if _has(value, TRAJECTORY_PARTS) else ()
    touched = ("touched",) if _has(value, ("touched",)) else ()
    table = sj.take_object(value, path, (*keys, *parts, *touched))
    more = MORE_COUNTERS if _has(table["counters"], MORE_COUNTERS) else ()
    counters = sj.take_object(table["counters"], f"{path}.counters", (*COUNTERS, *more))
    words = sj.take_list(table["rng_state"], f"{path}.rng_state")
    if len(words) != 4:
        raise sj.MalformedError(f"{path}.rng_state", len(words), "4 words")
    rng_state = tuple(
        int(sj.take_str(word, f"{path}.rng_state", pattern="[0-9a-f]{16}"), 16)
        for word in words
    )
    if not any(rng_state):  # the one state that the generator cannot leave
        raise sj.MalformedError(f"{path}.rng_state", words, "not all zeros")
    return TableEntry(
        settings=_settings(table["settings"], f"{path}.settings"),
        items=sj.take_str(table["items"], f"{path}.items", limit=64),
        spans=sj.take_optional(table["spans"], f"{path}.spans", sj.take_str),
        free=sj.take_optional(table["free"], f"{path}.free", sj.take_str),
        counters={
            name: _signed(counters[name], f"{path}.{name}") for name in (*COUNTERS, *more)
        },
        rng_state=rng_state,
        trajectories=trajectory_files(table, path, index),
        touched=sj.take_str(table["touched"], f"{path}.touched", limit=64) if touched else None,
    )


def _has(value: object, keys: tuple[str, ...]) -> bool:
    """Whether an object has any of these keys, all of which it must have then."""
    return isinstance(value, dict) and not value.keys().isdisjoint(keys)


def _settings(value: object, path: str) -> TableSettings:
    s = sj.take_object(value, path, tuple(TableSettings.__dataclass_fields__))
    return TableSettings(
        name=sj.take_str(s["name"], f"{path}.name"),
        max_size=sj.take_int(s["max_size"], f"{path}.max_size", 1, _SAFE_INT),
        sampler=sj.take_str(s["sampler"], f"{path}.sampler", limit=100),
        remover=sj.take_str(s["remover"], f"{path}.remover", limit=100),
        min_size_to_sample=sj.take_int(
            s["min_size_to_sample"], f"{path}.min_size_to_sample", 0, _SAFE_INT
        ),
        samples_per_insert=sj.take_float(s["samples_per_insert"], f"{path}.samples_per_insert"),
        min_diff=sj.take_float(s["min_diff"], f"{path}.min_diff"),
        max_diff=sj.take_float(s["max_diff"], f"{path}.max_diff"),
        max_times_sampled=sj.take_int(
            s["max_times_sampled"], f"{path}.max_times_sampled", 0, _SAFE_INT
        ),
    )


def _signed(value: object, path: str) -> int:
    number = sj.take_u64(value, path)
    if number >= 1 << 63:
        raise sj.MalformedError(path, value, "a decimal string below 2**63")
    return number
