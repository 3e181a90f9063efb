"""Crafted native checkpoints: one declared error each, nothing loaded.

Their checksums are right (`forge`), so only the checks of sizes, types and
references stand in their way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint_support import contents, load, save, snapshot
from tests.hostile.damage_support import (
    Files,
    MemoryFileSystem,
    both,
    chunks,
    columns,
    field,
    files_of,
    forge,
    patched,
    put,
    rewritten,
    swapped,
    trajectories,
    without_row,
)

from reverie.checkpoint import open_source, verify
from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.errors import CheckpointCorruptError, CheckpointError, CheckpointVersionError
from reverie.tables.text_cells import MARK

Edit = Callable[[dict, Files], None]
# Sealed records, open ones, flags, texts: in the order of their layouts.
SEALED, OPEN, FLAGS, TEXTS = (f"segment-00000001-{n:05d}.npy" for n in range(4))
# Rows of the chunks 3, 5, 7 | 9 | 11 | 12, 13 in `chunks.npy`.
C3, C5, C7, C9, C11, C12, C13 = range(7)


def load_files(files: Files) -> dict:
    return load(Path("memory"), fs=MemoryFileSystem(files))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(save(tmp_path_factory.mktemp("good")))


def test_a_forgery_that_changes_nothing_loads(good: Files) -> None:
    assert load_files(forge(good, lambda document, files: None)) == contents(snapshot())


def swapped_rows(file: str, one: int, two: int) -> Edit:
    def change(rows: np.ndarray) -> np.ndarray:
        order = np.arange(len(rows))
        order[[one, two]] = two, one
        return rows[order]

    return rewritten(file, change)


def ends(row: int, name: str, value: object) -> Edit:
    return field("ends.npy", row, name, value)


def items(row: int, name: str, value: object, table: int = 0) -> Edit:
    return field(f"items-{table}.npy", row, name, value)


def pieces(row: int, name: str, value: object) -> Edit:
    return field("pieces-1.npy", row, name, value)


CHUNKS: dict[str, tuple[Edit, str]] = {
    "id 0": (chunks(C3, "id", 0), "row 0: id 0"),
    "id 2**63": (chunks(C3, "id", 2**63), "id 9223372036854775808"),
    "id twice": (chunks(C5, "id", 3), "id 3 a second time"),
    "no segment": (chunks(C13, "segment", 2**32 - 1), "segment 4294967295"),
    "a later segment first": (chunks(C3, "segment", 1), "chunks in the order of the segments"),
    "segment without chunks": (without_row("chunks.npy", C11), "no chunk of segment 2"),
    "overlap": (chunks(C5, "offset", 3), "row 1: offset 3, expected one behind the chunk"),
    "one chunk inside another": (
        both(chunks(C5, "offset", 1), chunks(C5, "count", 1)),
        "row 1: offset 1, expected one behind the chunk",
    ),
    "backwards": (swapped_rows("chunks.npy", C3, C5), "row 1: offset 0, expected one behind"),
    "outside": (chunks(C7, "offset", 9), "row 2: count 3, expected a chunk inside its segment"),
    "offset 2**53": (chunks(C3, "offset", 2**53), "offset 9007199254740992"),
    "offset 2**64 - 1": (chunks(C3, "offset", 2**64 - 1), "offset 1844"),
    "no records": (chunks(C3, "count", 0), "row 0: count 0, expected at least 1"),
    "too long": (chunks(C9, "count", 3), "row 3: count 3, expected a chunk inside"),
    "2**32 records": (chunks(C3, "count", 2**32), "count 4294967296"),
    "2**64 - 1 records": (chunks(C3, "count", 2**64 - 1), "count 1844"),
    "a text of 2**53 bytes": (chunks(C12, "count", 2**53), "count 9007199254740992"),
    "a text too long": (chunks(C12, "count", 100), "row 5: count 100|row 6: offset 6"),
    "next unknown": (chunks(C3, "next", 4), "next 4, an id that does not exist"),
    "next 2**63": (chunks(C3, "next", 2**63), "row 0: next 9223372036854775808"),
    "next itself": (chunks(C3, "next", 3), "next 3, an older chunk"),
    "next older": (chunks(C9, "next", 3), "next 3, an older chunk"),
    "next of two": (chunks(C7, "next", 9), "next 9, a chunk that follows two"),
    "next of another layout": (chunks(C7, "next", 11), "next 11, a chunk of another layout"),
    "next of a text": (chunks(C12, "next", 13), "next 13, a chunk after a variable cell"),
    "stream cut": (chunks(C3, "next", 0), "items-0.npy', row 1: length 2"),
    "end outside": (ends(1, "step", 4), "row 1: step 4, expected one inside its chunk"),
    "end of step 2**32 - 1": (ends(1, "step", 2**32 - 1), "step 4294967295"),
    "end of no kind": (ends(0, "how", 0), "how 0, expected 1 to 4"),
    "end of a fifth kind": (ends(0, "how", 5), "how 5, expected 1 to 4"),
    "end twice": (ends(1, "step", 1), "row 1: step 1, expected rows in ascending order"),
    "ends backwards": (swapped_rows("ends.npy", 0, 1), "row 1: step 1"),
    "ends of chunks backwards": (swapped_rows("ends.npy", 1, 2), "row 2: step 3"),
}

ITEMS: dict[str, tuple[Edit, str]] = {
    "unknown chunk": (items(0, "chunk", 4), "row 0: chunk 4"),
    "chunk 0": (items(0, "chunk", 0), "row 0: chunk 0"),
    "a text": (
        both(items(0, "chunk", 12), items(0, "length", 1)),
        "row 0: chunk 12, expected one of records",
    ),
    "before its chunk": (items(0, "offset", 2**32 - 1), "row 0: offset"),
    "past its chunks": (items(0, "length", 11), "row 0: length 11"),
    "2**32 - 1 steps": (items(0, "length", 2**32 - 1), "row 0: length"),
    "no steps": (items(0, "length", 0), "row 0: length 0"),
    "the row of the file": (items(0, "length", 11, 1), "items-1.npy', row 0: length 11"),
    "key twice": (items(1, "key", 3 << 32), "occurs twice"),
    "key of a dead item": (items(0, "key", 2 << 32), "odd generation"),
    "key of a far slot": (items(0, "key", 1 << 32 | 2**31), "a slot below"),
    "free key in use": (
        rewritten("free-0.npy", lambda rows: rows * 0 + (7 << 32)),
        "free-0.*occurs twice",
    ),
    "priority nan": (items(0, "priority", np.nan), "priority nan, expected a number"),
    "priority inf": (items(0, "priority", np.inf, 1), "priority inf"),
    "priority -1": (items(2, "priority", -1, 1), "priority -1"),
    "times sampled -1": (items(0, "times_sampled", -1), "times_sampled -1"),
    "too many touched": (
        rewritten("touched-1.npy", lambda rows: np.append(rows, rows)),
        "6 elements, expected one for each of 3 items",
    ),
    "trajectory with a chunk": (items(1, "chunk", 3, 1), "row 1: chunk 3, expected no chunk"),
    "trajectory with a length": (items(1, "length", 1, 1), "no chunk"),
    "trajectory of no item": (trajectories(1, "item", 3), "item 3, expected a row below 3"),
    "trajectory of item 2**63": (trajectories(1, "item", 2**63), "item 9223"),
    "trajectory twice": (trajectories(1, "item", 1), "row 1: item 1, expected rows in asc"),
    "run among trajectories": (
        trajectories(0, "item", 0),
        "items-1.npy', row 0: chunk 3, expected no chunk",
    ),
    "episode 2**62": (trajectories(0, "episode", 2**62), "episode 4611"),
    "squeeze 2": (columns(0, "squeeze", 2), "squeeze 2"),
    "squeezed, of three cells": (columns(0, "squeeze", 1), "3 cells, expected one"),
    "field of no column": (columns(2, "field", 3), "row 2: field 3, expected a column of"),
    "field of a cell": (columns(0, "field", 1), "row 0: field 1"),
    "field of a text": (columns(1, "field", 2**32 - 1), "row 1: field 4294967295"),
    "no pieces": (columns(0, "pieces", 0), "pieces 0"),
    "piece of an unknown chunk": (pieces(0, "chunk", 10**6), "chunk 1000000"),
    "piece of chunk 0": (pieces(0, "chunk", 0), "chunk 0"),
    "piece of no cells": (pieces(0, "length", 0), "length 0"),
    "piece past its chunk": (pieces(0, "length", 100), "inside its chunk"),
    "piece overflow": (
        both(pieces(0, "offset", 2**32 - 1), pieces(0, "length", 2**32 - 1)),
        "inside its chunk",
    ),
    "piece of a text's bytes": (pieces(2, "offset", 1), "inside"),
    "pieces of two layouts": (pieces(1, "chunk", 12), "length 1|cells like those of"),
    "pieces of two like layouts": (
        both(pieces(1, "chunk", 3), pieces(1, "offset", 0)),
        "cells like those of its column's first piece",
    ),
}

CONTENTS: dict[str, tuple[Edit, str]] = {
    "bool 255": (patched(SEALED, 0, b"\xff"), "chunk 3, column 'done': a bool"),
    "bool 2": (patched(SEALED, 8 * 21, b"\x02"), "chunk 7, column 'done': a bool"),
    "bool of a cell": (patched(FLAGS, 1, b"\2"), "chunk 11, column '0': a bool"),
    "text of texts": (
        lambda document, files: _longer_text(document, files, MARK + b"\2\1"),
        "chunk 12: an array of texts",
    ),
    "object dtype": (swapped(SEALED, b"'<i8'", b"'|O'"), "expected"),
    "other dtype": (swapped(SEALED, b"'<i8'", b"'<u8'"), "found .*<u8.*expected .*<i8"),
    "big endian": (swapped(SEALED, b"'<i8'", b"'>i8'"), "expected"),
    "zero-sized dtype": (swapped("free-0.npy", b"'<u8'", b"'|S0'"), "expected"),
    "other field": (swapped(SEALED, b"'step'", b"'stop'"), "expected"),
    "fortran order": (swapped(SEALED, b"False", b"True"), "found .*True.*expected .*False"),
    "huge shape": (swapped(SEALED, b"(11,)", b"(%d,)" % 2**62), "expected"),
    "overflowing shape": (swapped(SEALED, b"(11,)", b"(4294967296, 4294967296)"), "expected"),
    "negative shape": (swapped(SEALED, b"(11,)", b"(-1,)"), "expected"),
    "fewer rows": (swapped(SEALED, b"(11,)", b"(10,)"), "expected"),
    "another axis": (swapped(FLAGS, b"(3,)", b"(3, 1)"), "expected"),
    "cells of other cells": (swapped(FLAGS, b"'|b1'", b"'|u1'"), "expected"),
    "padding": (swapped(SEALED, b", }", b",  }"), "another header"),
    "version 2.0": (
        lambda document, files: files.update(
            {SEALED: files[SEALED][:6] + b"\2" + files[SEALED][7:]}
        ),
        "header",
    ),
}


def _longer_text(document: dict, files: Files, cell: bytes) -> None:
    """Another text in place of the one of chunk 12."""
    head, _ = files[TEXTS].split(b"\n", 1)
    wanted = head.replace(b"(6,)", b"(%d,)" % len(cell)).rstrip(b" ").ljust(len(head))
    files[TEXTS] = wanted[: len(head)] + b"\n" + cell
    document["files"][TEXTS]["count"] = len(cell)
    chunks(C12, "count", len(cell))(document, files)
    chunks(C13, "offset", len(cell))(document, files)


def _layout(number: int, *path: object, value: object) -> Edit:
    return put("layouts", number, *path, value=value)


def _signature(value: object) -> Edit:
    return put("tables", 0, "settings", "signature", value=value)


MANIFEST: dict[str, tuple[Edit, str]] = {
    "count 2**40": (put("files", SEALED, "count", value=2**40), "for 1099511627776 elements"),
    "file that nothing uses": (
        lambda document, files: document["files"].update(
            {"items-7.npy": document["files"]["items-0.npy"]}
        ),
        "each file described once",
    ),
    "ends without chunks": (
        lambda document, files: document.update(
            segments=[], files={"ends.npy": document["files"]["ends.npy"]}, tables=[]
        ),
        "each in use|each file described once",
    ),
    "two tables in one file": (put("tables", 1, "items", value="items-0.npy"), "items-1.npy"),
    "no generator": (put("tables", 0, "rng_state", value=["0" * 16] * 4), "not all zeros"),
    "layout dtype": (_layout(1, "columns", 0, 1, value="|O"), "bytes or one of"),
    "layout rank": (_layout(1, "columns", 0, 2, value=[1] * 32), "fewer sizes"),
    "layout of 2**31 bytes": (_layout(1, "columns", 0, 2, value=[2**31 - 1, 2]), "at most"),
    "bytes with a shape": (_layout(2, "columns", 0, 2, value=[1]), "fewer sizes"),
    "bytes among columns": (_layout(0, "columns", 0, 1, value="bytes"), "some, or one of"),
    "no columns": (_layout(0, "columns", value=[]), "some, or one of bytes"),
    "a path twice": (_layout(0, "columns", 0, 0, value="step"), "the same path"),
    "layout twice": (_layout(2, "columns", value=[["0", "|b1", []]]), "distinct ones|elements"),
    "unused layout": (
        lambda document, files: document["layouts"].append(
            {"columns": [["0", "<i8", []]], "nest": None}
        ),
        "each in use",
    ),
    "layout -1": (put("segments", 0, "layout", value=-1), "an integer from 0"),
    "layout 3": (put("segments", 0, "layout", value=3), "an integer from 0"),
    "segment of other cells": (put("segments", 0, "layout", value=1), "elements of 1 bytes"),
    "segment twice": (put("segments", 1, "file", value=SEALED), "file"),
    "segment elsewhere": (put("segments", 0, "file", value="../x.npy"), "a string"),
    "segment of items": (put("segments", 0, "file", value="items-0.npy"), "a string"),
    "segment not sealed": (put("segments", 0, "sealed", value=1), "true or false"),
    "no segments": (put("segments", value=[]), "each file described|file"),
    "crc of a segment": (put("files", SEALED, "crc32", value="0" * 8), "unknown keys"),
    "pieces elsewhere": (put("tables", 1, "pieces", value="pieces-0.npy"), "pieces-1.npy"),
    "no pieces": (put("tables", 1, "pieces", value=None), "trajectories, columns and pieces"),
    "touched elsewhere": (put("tables", 1, "touched", value="/etc/passwd"), "touched-1.npy"),
    "half of the counters": (
        put("tables", 0, "counters", value={"inserts": "1"}),
        "without",
    ),
    "negative counter": (put("tables", 0, "counters", "samples", value="-1"), "a decimal"),
    "odd first generation": (
        put("tables", 0, "counters", "first_generation", value="3"),
        "an even number up to 4294967292",
    ),
    "first generation 2**32": (
        put("tables", 0, "counters", "first_generation", value=str(2**32)),
        "an even number up to 4294967292",
    ),
    "next slot 2**32": (
        put("tables", 0, "counters", "next_slot", value=str(2**32)),
        r"a number below 2\*\*32",
    ),
    "next slot beyond the keys": (
        put("tables", 0, "counters", "next_slot", value="5000"),
        "5000 as the next slot",
    ),
    "free key as of a slot without one": (
        both(
            put("tables", 0, "counters", "first_generation", value="6"),
            rewritten("free-0.npy", lambda rows: rows | np.uint64(5 << 32)),
        ),
        "no generation that a slot without a key has, 6",
    ),
    "counter 2**63": (put("tables", 0, "counters", "inserts", value=str(2**63)), r"2\*\*63"),
    "unknown selector": (put("tables", 0, "settings", "sampler", value="best"), "'best'"),
    "exponent nan": (
        put("tables", 0, "settings", "sampler", value="prioritized:nan"),
        "'prioritized:nan'",
    ),
    "no exponent": (put("tables", 0, "settings", "sampler", value="prioritized"), "exponent"),
    "an exponent too many": (put("tables", 0, "settings", "remover", value="fifo:1"), "fifo:1"),
    "limiter": (put("tables", 0, "settings", "samples_per_insert", value=-1.0), "must be > 0"),
    "never": (put("tables", 0, "settings", "min_size_to_sample", value=101), "never let"),
}

FORGED = {
    f"{kind}: {name}": case
    for kind, cases in {
        "chunk": CHUNKS,
        "item": ITEMS,
        "contents": CONTENTS,
        "manifest": MANIFEST,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", FORGED)
def test_a_crafted_checkpoint_is_refused(good: Files, name: str) -> None:
    edit, message = FORGED[name]
    forged = forge(good, edit)
    with pytest.raises(CheckpointCorruptError, match=message):
        load_files(forged)
    with pytest.raises(CheckpointCorruptError, match=message):
        verify(Path("memory"), fs=MemoryFileSystem(forged))


NESTS: dict[str, tuple[Edit, str]] = {
    "malformed": (_layout(0, "nest", value=["spec"]), "malformed nest"),
    "no list": (_layout(0, "nest", value={}), "malformed nest"),
    "of no leaf": (_layout(0, "nest", value=["none"]), "no spec of a step"),
    "fewer leaves": (
        _layout(0, "nest", value=["dict", "step", ["spec", "int64", [], ""]]),
        "nest of a layout",
    ),
    "other dtype": (_layout(0, "nest", 4, 1, value="uint8"), "nest of a layout"),
    "other shape": (_layout(0, "nest", 2, 2, 2, value=[4]), "nest of a layout"),
    "other path": (_layout(0, "nest", 5, value="stop"), "nest of a layout"),
    "unknown extent": (_layout(0, "nest", 2, 2, 2, value=[None]), "no spec of a step"),
    "texts": (_layout(0, "nest", 2, 2, 1, value="object"), "no spec of a step"),
    "of cells of any size": (_layout(2, "nest", value=["spec", "int8", [], ""]), "nest of a"),
    "signature": (_signature(["spec"]), "malformed nest"),
    "signature of nothing": (_signature(["dict", "a", ["none"]]), "no signature"),
    "signature without order": (
        _signature(["dict", 1, ["spec", "int8", [], ""], "a", ["spec", "int8", [], ""]]),
        "no signature",
    ),
}


@pytest.mark.parametrize("name", NESTS)
def test_a_crafted_nest_is_refused_by_verify_and_by_who_asks_for_it(
    good: Files, name: str
) -> None:
    edit, message = NESTS[name]
    fs = MemoryFileSystem(forge(good, edit))
    with pytest.raises(CheckpointCorruptError, match=message):
        verify(Path("memory"), fs=fs)
    source = open_source(Path("memory"), fs=fs)
    if name.startswith("signature"):
        with pytest.raises(CheckpointCorruptError, match=message):
            _ = source.settings
    elif name != "of cells of any size":
        with pytest.raises(CheckpointCorruptError, match=message):
            source.nest("windows")


@pytest.mark.parametrize(
    "edit",
    [
        _layout(0, "columns", 1, 2, value=[0]),
        _layout(0, "columns", 1, 2, value=[]),
        _layout(0, "columns", 1, 1, value="<f8"),
        _layout(0, "columns", 1, 1, value="<i4"),
        _layout(0, "columns", 1, 0, value="observation/velocity"),
    ],
)
def test_columns_that_the_files_do_not_have_are_refused(good: Files, edit: Edit) -> None:
    files = forge(good, both(edit, _layout(0, "nest", value=None)))
    with pytest.raises(CheckpointCorruptError, match=r"another header|elements of"):
        verify(Path("memory"), fs=MemoryFileSystem(files))


def test_a_crafted_newer_version_says_so(good: Files) -> None:
    with pytest.raises(CheckpointVersionError, match=r"format version 2.*up to 1"):
        load_files(forge(good, put("format_version", value=2)))


@pytest.mark.parametrize("counter", ["inserts", "samples", "deletes", "num_unique_samples"])
@pytest.mark.parametrize("value", [0, 7, 2**62, 2**63 - 1])
def test_counters_are_given_to_the_core_as_they_are(
    good: Files, counter: str, value: int
) -> None:
    edit = put("tables", 0, "counters", counter, value=str(value))
    (first, *_) = load_files(forge(good, edit))["tables"].values()
    assert first["counters"][counter] == value


@pytest.mark.parametrize(
    ("check", "case"),
    [
        ("check_pieces", "item: piece past its chunk"),
        ("check_runs", "item: past its chunks"),
        ("check_ends", "chunk: end outside"),
        ("_check_places", "chunk: overlap"),
    ],
)
def test_without_a_check_the_crafted_checkpoint_is_read(
    good: Files, monkeypatch: pytest.MonkeyPatch, check: str, case: str
) -> None:
    forged = forge(good, FORGED[case][0])
    monkeypatch.setattr(ChunkIndex, check, lambda *_: None)
    try:
        assert load_files(forged) != contents(snapshot())
    except CheckpointError as error:
        assert "CRC-32" in str(error)  # noqa: PT017  (chunks that overlap)
