"""Reading a manifest that nobody vouches for: every type, range and name is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from reverie.checkpoint.disk import strict_json as sj
from reverie.checkpoint.folder.names import (
    CHUNKS_NAME,
    ENDS_NAME,
    FILE_NAME,
    MAX_SEQUENCE_NUMBER,
    PART_NAME,
    SEGMENT_NAME,
    TABLE_FILES,
)
from reverie.checkpoint.format.layouts import (
    BYTES,
    ITEM_NBYTES,
    MAX_PATH_LENGTH,
    MAX_RANK,
    MAX_RECORD_NBYTES,
    Column,
    Layout,
    problem_of,
)
from reverie.checkpoint.format.manifest import (
    COUNTERS,
    FORMAT_VERSION,
    KIND,
    FileEntry,
    Manifest,
    NamedPart,
    Segment,
    TableEntry,
    frame,
)
from reverie.checkpoint.format.rows import ROWS, role_of
from reverie.checkpoint.format.settings import (
    KEYS,
    PRIORITIES,
    ROLES,
    SAFE_INT,
    decode_settings,
    with_priorities,
)
from reverie.errors import CheckpointCorruptError, CheckpointVersionError

MAX_NBYTES = sj.MAX_NBYTES + 100  # the frame around the JSON object
MAX_FIRST_GENERATION = 2**32 - 4  # such a slot is used once
KNOWN_PARTS = frozenset({PRIORITIES, ROLES})

_TOP = (
    *("kind", "format_version", "library_version", "sequence_number", "saved_at"),
    *("layouts", "segments", "tables", "parts", "files"),
)


def decode_manifest(raw: bytes, where: str) -> Manifest:
    """Parses and validates the bytes of `manifest.json`.

    Types, ranges, names and the agreement of the parts are checked: every file
    is described once and used once, sizes fit counts. Chunks, items and what they
    refer to are checked by `chunks` and `items`, nests by who asks for them.

    Args:
        raw: the bytes.
        where: the file, for messages.

    Raises:
        CheckpointCorruptError: the CRC is wrong, or anything is not as the format
            says; the message names the place, what was found and expected.
        CheckpointVersionError: it was written in a later format, or with a part that
            must be understood and is not known here.
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
    version = sj.take_int(value.get("format_version"), "format_version", 1, SAFE_INT)
    library = repr(value.get("library_version"))[:60]
    if version > FORMAT_VERSION:
        raise CheckpointVersionError(
            f"{where!r} has format version {version}, written by library version {library}; "
            f"this library reads format versions up to {FORMAT_VERSION}. Install a newer one."
        )
    top = sj.take_object(value, "the manifest", _TOP)
    parts = _parts(top["parts"])
    for name, part in parts.items():
        if part.required and name not in KNOWN_PARTS:
            raise CheckpointVersionError(
                f"{where!r} has a part {name!r}, written by library version {library}, which "
                "must be understood and is not known to this library. Install a newer one."
            )
    layouts = tuple(
        _layout(layout, f"layouts[{i}]")
        for i, layout in enumerate(sj.take_list(top["layouts"], "layouts"))
    )
    segments = tuple(
        _segment(segment, f"segments[{i}]", len(layouts))
        for i, segment in enumerate(sj.take_list(top["segments"], "segments"))
    )
    tables = tuple(
        _table(t, f"tables[{i}]", i)
        for i, t in enumerate(sj.take_list(top["tables"], "tables"))
    )
    manifest = Manifest(
        sequence_number=sj.take_int(
            top["sequence_number"], "sequence_number", 1, MAX_SEQUENCE_NUMBER
        ),
        library_version=sj.take_str(top["library_version"], "library_version", limit=100),
        saved_at=sj.take_str(top["saved_at"], "saved_at", limit=100),
        layouts=layouts,
        segments=segments,
        tables=_with_priorities(tables, parts),
        parts=parts,
        files=_files(top["files"], layouts, segments),
    )
    _check_layouts(manifest)
    _check_files(manifest)
    return manifest


def _parts(value: object) -> dict[str, NamedPart]:
    if not isinstance(value, dict):
        raise sj.MalformedError("parts", value, "an object")
    parts = {}
    for name, inner in value.items():
        path = f"parts[{name[:80]!r}]"
        if not PART_NAME.fullmatch(name):
            raise sj.MalformedError("parts", name, f"names matching {PART_NAME.pattern}")
        part = sj.take_object(inner, path, ("required", "files", "data"))
        files = tuple(
            sj.take_str(file, f"{path}.files", limit=200)
            for file in sj.take_list(part["files"], f"{path}.files")
        )
        for file in files:
            if not file.startswith(f"part-{name}-") or not FILE_NAME.fullmatch(file):
                raise sj.MalformedError(f"{path}.files", file, f"names part-{name}-<text>.npy")
        if len(set(files)) != len(files):
            raise sj.MalformedError(f"{path}.files", "the same file twice", "distinct files")
        parts[name] = NamedPart(sj.take_bool(part["required"], path), files, part["data"])
    return parts


def _with_priorities(
    tables: tuple[TableEntry, ...], parts: dict[str, NamedPart]
) -> tuple[TableEntry, ...]:
    if PRIORITIES not in parts:
        return tables
    part, path = parts[PRIORITIES], f"parts[{PRIORITIES!r}]"
    if not isinstance(part.data, dict) or part.files:
        raise sj.MalformedError(path, part, "an object as data, and no files")
    unknown = part.data.keys() - {table.settings.name for table in tables}
    if unknown:
        raise sj.MalformedError(path, min(unknown), "the name of a table")
    return tuple(
        dataclasses.replace(
            table,
            settings=with_priorities(
                table.settings,
                part.data[table.settings.name],
                f"{path}[{table.settings.name[:80]!r}]",
            ),
        )
        if table.settings.name in part.data
        else table
        for table in tables
    )


def _layout(value: object, path: str) -> Layout:
    layout = sj.take_object(value, path, ("columns", "nest"))
    columns = [
        _column(column, f"{path}.columns[{i}]")
        for i, column in enumerate(sj.take_list(layout["columns"], f"{path}.columns"))
    ]
    if not columns or (len(columns) > 1 and any(c.dtype == BYTES for c in columns)):
        raise sj.MalformedError(f"{path}.columns", layout["columns"], "some, or one of bytes")
    found = Layout(tuple(columns), layout["nest"])
    problem = problem_of(found)
    if problem:
        raise sj.MalformedError(path, problem, "a layout that a file can have")
    return found


def _column(value: object, path: str) -> Column:
    column = sj.take_list(value, path)
    if len(column) != 3:
        raise sj.MalformedError(path, column, "a path, a dtype and a shape")
    name = sj.take_str(column[0], path, pattern="(?s:.+)", limit=MAX_PATH_LENGTH)
    dtype = sj.take_str(column[1], path, limit=40)
    shape = sj.take_list(column[2], path)
    if dtype not in ITEM_NBYTES and dtype != BYTES:
        raise sj.MalformedError(path, dtype, f"{BYTES} or one of {', '.join(ITEM_NBYTES)}")
    if len(shape) > (0 if dtype == BYTES else MAX_RANK):
        raise sj.MalformedError(path, len(shape), "fewer sizes")
    return Column(name, dtype, tuple(sj.take_int(s, path, 0, MAX_RECORD_NBYTES) for s in shape))


def _segment(value: object, path: str, num_layouts: int) -> Segment:
    segment = sj.take_object(value, path, ("file", "layout", "sealed"))
    return Segment(
        sj.take_str(segment["file"], f"{path}.file", pattern=SEGMENT_NAME.pattern, limit=64),
        sj.take_int(segment["layout"], f"{path}.layout", 0, num_layouts - 1),
        sj.take_bool(segment["sealed"], f"{path}.sealed"),
    )


def _table(value: object, path: str, index: int) -> TableEntry:
    keys = ("settings", "counters", "rng_state", *TABLE_FILES)
    table = sj.take_object(value, path, keys)
    settings = sj.take_object(table["settings"], f"{path}.settings", KEYS)
    counters = sj.take_object(table["counters"], f"{path}.counters", COUNTERS)
    words = sj.take_list(table["rng_state"], f"{path}.rng_state")
    if len(words) != 4:
        raise sj.MalformedError(f"{path}.rng_state", len(words), "4 words")
    rng_state = tuple(
        int(sj.take_str(word, f"{path}.rng_state", pattern="[0-9a-f]{16}"), 16)
        for word in words
    )
    if not any(rng_state):  # the one state that the generator cannot leave
        raise sj.MalformedError(f"{path}.rng_state", words, "not all zeros")
    files = {}
    for role in TABLE_FILES:
        if table[role] is None and role != "items":
            continue
        wanted = f"{role}-{index}.npy"
        if table[role] != wanted:
            raise sj.MalformedError(f"{path}.{role}", table[role], wanted)
        files[role] = wanted
    trajectories = [role in files for role in ("trajectories", "columns", "pieces")]
    if any(trajectories) and not all(trajectories):
        raise sj.MalformedError(path, list(files), "trajectories, columns and pieces, or none")
    return TableEntry(
        settings=decode_settings(settings, f"{path}.settings"),
        signature=settings["signature"],
        files=files,
        counters=_counters(counters, path),
        rng_state=rng_state,
    )


def _files(
    value: object, layouts: tuple[Layout, ...], segments: tuple[Segment, ...]
) -> dict[str, FileEntry]:
    """All files; their sizes are those that their headers and elements make."""
    if not isinstance(value, dict):
        raise sj.MalformedError("files", value, "an object")
    of_segment = {segment.file: layouts[segment.layout] for segment in segments}
    files = {}
    for name, inner in value.items():
        path = f"files[{name[:80]!r}]"
        if not FILE_NAME.fullmatch(name):
            raise sj.MalformedError("files", name, f"names matching {FILE_NAME.pattern}")
        role = role_of(name)
        keys = {"segment": ("nbytes", "count"), "part": ("nbytes", "crc32")}
        entry = sj.take_object(inner, path, keys.get(role, ("nbytes", "count", "crc32")))
        nbytes = sj.take_int(entry["nbytes"], f"{path}.nbytes", 0, SAFE_INT)
        count, crc32 = None, None
        if "count" in entry:
            count = sj.take_int(entry["count"], f"{path}.count", 0, SAFE_INT)
            layout = of_segment.get(name)
            if role == "segment" and layout is None:
                raise sj.MalformedError("files", name, "each file described once and used")
            header = layout.header(count) if layout else ROWS[role].header(count)
            width = layout.nbytes if layout else ROWS[role].dtype.itemsize
            wanted = len(header) + count * width
            if nbytes != wanted:
                raise sj.MalformedError(
                    f"{path}.nbytes", nbytes, f"{wanted} for {count} elements of {width} bytes"
                )
        if "crc32" in entry:
            text = sj.take_str(entry["crc32"], f"{path}.crc32", pattern="[0-9a-f]{8}")
            crc32 = int(text, 16)
        files[name] = FileEntry(name, nbytes, count, crc32)
    return files


def _check_layouts(manifest: Manifest) -> None:
    """Layouts are distinct, and each is in use or named by a nest."""
    layouts, used = manifest.layouts, {segment.layout for segment in manifest.segments}
    idle = [i for i, one in enumerate(layouts) if i not in used and one.nest is None]
    if len({layout.columns for layout in layouts}) != len(layouts) or idle:
        raise sj.MalformedError("layouts", len(layouts), "distinct ones, each in use")


def _check_files(manifest: Manifest) -> None:
    """Every file is described once and used once; tables hold no more than they may.

    A file of holes is there only where a table has some.
    """
    names = [table.settings.name for table in manifest.tables]
    if len(set(names)) != len(names):
        raise sj.MalformedError("tables", names, "distinct names")
    used = [segment.file for segment in manifest.segments]
    used += [CHUNKS_NAME] if used else []
    used += [ENDS_NAME] if ENDS_NAME in manifest.files and used else []
    used += [file for table in manifest.tables for file in table.files.values()]
    used += [file for part in manifest.parts.values() for file in part.files]
    if len(set(used)) != len(used):
        raise sj.MalformedError("segments", "the same file twice", "distinct files")
    if set(used) != manifest.files.keys():
        odd = sorted(set(used) ^ manifest.files.keys())
        raise sj.MalformedError("files", odd, "each file described once and used")
    for table in manifest.tables:
        count = manifest.files[table.files["items"]].count or 0
        if count > table.settings.max_size:
            wanted = f"at most {table.settings.max_size} items"
            raise sj.MalformedError(table.files["items"], count, wanted)
        holes = table.files.get("holes")
        if holes is not None and not manifest.files[holes].count:
            raise sj.MalformedError(holes, 0, "at least one byte, or no such file")


def num_items(manifest: Manifest) -> Mapping[str, int]:
    """Items of each table, by its name."""
    return {
        table.settings.name: manifest.files[table.files["items"]].count or 0
        for table in manifest.tables
    }


def _counters(values: Mapping[str, object], path: str) -> dict[str, int]:
    counters = {name: _signed(values[name], f"{path}.{name}") for name in COUNTERS}
    first = counters["first_generation"]
    if first % 2 or first > MAX_FIRST_GENERATION:
        wanted = f"an even number up to {MAX_FIRST_GENERATION}"
        raise sj.MalformedError(f"{path}.first_generation", first, wanted)
    if counters["next_slot"] >= 2**32:
        raise sj.MalformedError(
            f"{path}.next_slot", counters["next_slot"], "a number below 2**32"
        )
    return counters


def _signed(value: object, path: str) -> int:
    number = sj.take_u64(value, path)
    if number >= 1 << 63:
        raise sj.MalformedError(path, value, "a decimal string below 2**63")
    return number
