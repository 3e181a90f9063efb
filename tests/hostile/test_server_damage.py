"""Damaged and crafted checkpoints of servers: one declared error each, nothing loaded."""

from __future__ import annotations

import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.golden import reverb_support
from tests.hostile.damage_support import (
    Files,
    MemoryFileSystem,
    both,
    forge,
    patched,
    put,
    swapped,
    u4,
    u8,
)
from tests.server_support import draws, fill, server, table

from reverie import errors
from reverie.checkpoint import verify
from reverie.checkpoint.format import reader
from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.budget import Place
from reverie.checkpoint.reverb_files.stored import read_stored
from reverie.errors import CheckpointCorruptError, CheckpointError, CheckpointLimitError
from reverie.proto import schema
from reverie.proto.data_types import STRING
from reverie.tables.text_cells import MARK, check_text, pack_texts, unpack_texts

Edit = Callable[[dict, Files], None]
# In the order of their first chunks that an item refers to.
POSITIONS, FLAGS, TEXTS = (f"cells-00000001-{n:05d}.npy" for n in range(3))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two tables of two items each; one of a heap."""
    made = server(
        tmp_path_factory.mktemp("good"), [table("u", "prioritized"), table("h", "max_heap")]
    )
    feeder = fill(made, 2)
    feeder.writer.close()
    folder = Path(made.checkpoint())
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {POSITIONS, TEXTS, FLAGS} < set(files)
    return files


def write(root: Path, files: Files) -> Path:
    folder = root / "ckpt-00000001"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return root


def check(files: Files) -> None:
    verify(Path("memory"), fs=MemoryFileSystem(files))


def test_the_undamaged_files_load(good: Files, tmp_path: Path) -> None:
    check(good)
    made = server(write(tmp_path, good), [table("u"), table("h")])
    assert len(draws(made.table("u"), 1)) == 4


def damages(good: Files) -> Iterator[Files]:
    rng = random.Random(1)
    for name, data in good.items():
        for _ in range(60):
            raw = bytearray(data)
            raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
            yield {**good, name: bytes(raw)}
        for _ in range(20):
            yield {**good, name: data[: rng.randrange(len(data))]}
        yield {**good, name: data + b"\0"}
        yield {other: data for other, data in good.items() if other != name}


def undetected(good: Files) -> int:
    found = 0
    for files in damages(good):
        try:
            check(files)
            found += 1
        except CheckpointError:
            pass
    return found


def test_every_changed_byte_and_every_cut_is_refused(good: Files) -> None:
    assert undetected(good) == 0


def test_without_the_checksums_damage_passes(
    good: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader.CheckedFile, "check_crc", lambda *_: None)
    assert undetected(good) > 0


def appended(name: str, data: bytes, rows: int) -> Edit:
    """More rows at the end of a file; its header keeps its length."""

    def edit(document: dict, files: Files) -> None:
        count = document["files"][name]["shape"][0]
        swapped(name, b"(%d," % count, b"(%d," % (count + rows))(document, files)
        files[name] += data
        document["files"][name]["shape"] = [count + rows]

    return edit


def without(*path: object) -> Edit:
    def edit(document: dict, files: Files) -> None:
        at = document
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]

    return edit


FORGED: dict[str, tuple[Edit, str]] = {
    "chunk 0": (patched("chunks.npy", 0, u8(0)), "id 0"),
    "chunk 2**63": (patched("chunks.npy", 0, u8(2**63)), "id 9223372036854775808"),
    "chunk twice": (
        lambda document, files: patched("chunks.npy", 28, chunk_id(files))(document, files),
        "a second time",
    ),
    "chunk of no segment": (patched("chunks.npy", 8, u4(2**32 - 1)), "segment 4294967295"),
    "chunk of a later segment first": (patched("chunks.npy", 8, u4(1)), "segment"),
    "chunk offset": (patched("chunks.npy", 12, u8(1)), "offset 1"),
    "chunk offset 2**63": (patched("chunks.npy", 12, u8(2**63)), "offset"),
    "chunk of no cells": (patched("chunks.npy", 20, u8(0)), "count 0"),
    "chunk of 2**32 cells": (patched("chunks.npy", 20, u8(2**32)), "count 4294967296"),
    "chunk of 2**64-1 cells": (patched("chunks.npy", 20, u8(2**64 - 1)), "count 1844"),
    "chunk too long": (patched("chunks.npy", 20, u8(100)), "expected"),
    "piece of an unknown chunk": (patched("pieces-0.npy", 0, u8(10**6)), "chunk 1000000"),
    "piece of no cells": (patched("pieces-0.npy", 12, u4(0)), "length 0"),
    "piece past its chunk": (patched("pieces-0.npy", 12, u4(100)), "inside its chunk"),
    "piece overflow": (patched("pieces-0.npy", 8, b"\xff" * 8), "inside its chunk"),
    "piece of a text's bytes": (patched("pieces-0.npy", 16 * 2 + 8, u4(1)), "inside"),
    "pieces of two layouts": (
        lambda document, files: patched("pieces-0.npy", 16, files["pieces-0.npy"][-16:-8])(
            document, files
        ),
        "cells like those of",
    ),
    "column of no pieces": (patched("columns-0.npy", 9, u4(0)), "pieces 0"),
    "column of too many pieces": (patched("columns-0.npy", 9, u4(3)), "pieces in all"),
    "column of 2**32-1 pieces": (patched("columns-0.npy", 9, u4(2**32 - 1)), "in all"),
    "squeeze 2": (patched("columns-0.npy", 8, b"\2"), "squeeze 2"),
    "squeezed, of three cells": (patched("columns-0.npy", 8, b"\1"), "3 cells, expected one"),
    "columns of no trajectory": (patched("columns-0.npy", 13 * 5, u8(7)), "of other items"),
    "columns out of order": (patched("columns-0.npy", 0, u8(1)), "ascending"),
    "trajectory of no item": (patched("trajectories-0.npy", 16, u8(2)), "item 2"),
    "trajectory of item 2**63": (patched("trajectories-0.npy", 16, u8(2**63)), "item 9223"),
    "trajectory twice": (patched("trajectories-0.npy", 16, u8(0)), "ascending"),
    "episode 2**62": (patched("trajectories-0.npy", 8, u8(2**62)), "episode 4611"),
    "trajectory with a chunk": (patched("items-0.npy", 8, u8(1)), "no chunk"),
    "trajectory with a length": (patched("items-0.npy", 20, u4(1)), "no chunk"),
    "priority nan of a heap": (
        patched("items-1.npy", 24, np.float64("nan").tobytes()),
        "priority nan",
    ),
    "negative priority": (patched("items-0.npy", 24, np.float64(-1).tobytes()), "priority -1"),
    "infinite priority": (
        patched("items-0.npy", 24, np.float64("inf").tobytes()),
        "priority inf",
    ),
    "too many touched": (appended("touched-1.npy", bytes(8), 1), "one for each of 2 items"),
    "bool 2": (patched(FLAGS, 0, b"\2"), "a bool is neither"),
    "other dtype": (swapped(POSITIONS, b"'<f4'", b"'<i4'"), "expected <f4"),
    "objects": (swapped(POSITIONS, b"'<f4'", b"'|O'"), "expected <f4"),
    "other shape": (swapped(POSITIONS, b", 2)", b", 3)"), "expected"),
    "no second axis": (swapped(POSITIONS, b", 2)", b",)"), "expected"),
    "layout dtype": (put("cells", "layouts", 0, "dtype", value="|O"), "a dtype of a column"),
    "layout rank": (put("cells", "layouts", 0, "shape", value=[1] * 32), "fewer sizes"),
    "layout of 2**31 bytes": (put("cells", "layouts", 0, "shape", value=[2**30]), "at most"),
    "bytes with a shape": (put("cells", "layouts", 2, "shape", value=[1]), "fewer sizes"),
    "layout twice": (
        both(
            put("cells", "layouts", 0, value={"dtype": "|b1", "shape": []}),
            put("cells", "layouts", 1, value={"dtype": "|b1", "shape": []}),
        ),
        "distinct ones",
    ),
    "unused layout": (
        lambda document, files: document["cells"]["layouts"].append(
            {"dtype": "<i8", "shape": []}
        ),
        "each in use",
    ),
    "layout -1": (put("cells", "segments", 0, "layout", value=-1), "an integer from 0"),
    "layout 3": (put("cells", "segments", 0, "layout", value=3), "an integer from 0"),
    "segment twice": (put("cells", "segments", 1, "file", value=POSITIONS), "same file twice"),
    "segment elsewhere": (put("cells", "segments", 0, "file", value="../x.npy"), "a string"),
    "segment of items": (put("cells", "segments", 0, "file", value="items-0.npy"), "a string"),
    "segment not sealed": (put("cells", "segments", 0, "sealed", value=1), "true or false"),
    "segment of text as cells": (put("files", POSITIONS, "dtype", value="item"), "expected"),
    "no segments": (put("cells", "segments", value=[]), "each in use"),
    "other chunks": (put("cells", "chunks", value="chunks-1.npy"), "expected chunks.npy"),
    "no cells": (without("cells"), "cells in a segment|each file described"),
    "pieces of another table": (
        put("tables", 0, "pieces", value="pieces-1.npy"),
        "expected pieces-0.npy",
    ),
    "no pieces": (without("tables", 0, "pieces"), "without"),
    "touched elsewhere": (put("tables", 1, "touched", value="/etc/passwd"), "touched-1.npy"),
    "half of the counters": (without("tables", 0, "counters", "num_unique_samples"), "without"),
    "negative counter": (
        put("tables", 0, "counters", "num_unique_samples", value="-1"),
        "a decimal string",
    ),
}


def chunk_id(files: Files) -> bytes:
    """The id of the first chunk."""
    return files["chunks.npy"].split(b"\n", 1)[1][:8]


@pytest.mark.parametrize("name", FORGED)
def test_a_crafted_checkpoint_is_refused(good: Files, name: str) -> None:
    edit, message = FORGED[name]
    with pytest.raises(CheckpointCorruptError, match=message):
        check(forge(good, edit))


SETTINGS: dict[str, tuple[Edit, str]] = {
    "unknown selector": (put("tables", 0, "settings", "sampler", value="best"), "'best'"),
    "exponent nan": (put("tables", 0, "settings", "sampler", value="prioritized:nan"), "nan"),
    "no exponent": (put("tables", 0, "settings", "sampler", value="prioritized"), "exponent"),
    "limiter": (put("tables", 0, "settings", "samples_per_insert", value=-1.0), "settings"),
    "never": (put("tables", 0, "settings", "min_size_to_sample", value=101), "never let"),
    "no signatures": (put("spec", value={}), "signatures"),
    "signature of no table": (put("spec", "signatures", "x", value=None), "signatures"),
    "signature": (put("spec", "signatures", "u", value=["spec"]), "malformed signature"),
    "counter 2**63": (put("tables", 0, "counters", "inserts", value=str(2**63)), "2\\*\\*63"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_crafted_settings_are_refused_by_the_server(
    good: Files, tmp_path: Path, name: str
) -> None:
    edit, message = SETTINGS[name]
    root = write(tmp_path, forge(good, edit))
    with pytest.raises(CheckpointError, match=message):
        server(root, [table("u"), table("h")])


@pytest.mark.parametrize("counter", ["inserts", "samples", "deletes"])
@pytest.mark.parametrize("value", [0, 7, 2**62, 2**63 - 1])
def test_counters_that_cannot_be_do_no_harm(
    good: Files, tmp_path: Path, counter: str, value: int
) -> None:
    edit = put("tables", 0, "counters", counter, value=str(value))
    try:
        made = server(write(tmp_path, forge(good, edit)), [table("u"), table("h")])
    except CheckpointError:
        return
    made.table("u").core.sample_items(5)
    fill(made, 3)


def test_random_forgeries_end_in_a_declared_error_or_in_tables_that_can_be_drawn_from(
    good: Files, tmp_path: Path
) -> None:
    rng, loaded = random.Random(7), 0
    small = [name for name in good if name.endswith(".npy")]
    for number in range(400):
        name = rng.choice(small)
        size = len(good[name].split(b"\n", 1)[1])
        value = rng.choice([u4(0), u4(1), u4(2**32 - 1), u8(2**63), rng.randbytes(4), b"\1"])
        at = rng.randrange(max(1, size - len(value)))
        root = write(tmp_path / str(number), forge(good, patched(name, at, value[:size])))
        try:
            made = server(root, [table("u"), table("h")])
        except CheckpointError as error:
            assert len(str(error)) < 1000  # noqa: PT017
        else:
            loaded += 1
            for one in made.tables.values():
                draws(one, 2)
        shutil.rmtree(root)
    assert 0 < loaded < 400


def test_without_the_checks_of_pieces_the_core_still_refuses_them(
    good: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reverie.checkpoint.format.cells import CellMap

    monkeypatch.setattr(CellMap, "check_pieces", lambda *_: None)
    root = write(tmp_path, forge(good, FORGED["piece past its chunk"][0]))
    with pytest.raises(CheckpointCorruptError, match="core refused"):
        server(root, [table("u"), table("h")])


def test_declared_sizes_cost_no_memory_before_they_are_compared(good: Files) -> None:
    def edit(document: dict, files: Files) -> None:
        count = 1 << 34
        document["files"][POSITIONS].update(shape=[count], nbytes=count * 8 + 128)
        document["files"]["pieces-0.npy"].update(shape=[count], nbytes=count * 16 + 128)

    files = forge(good, edit)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        check(files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


_LONG = MARK + b"\2" + u8(2) + u8(3)
_BAD_TEXTS = [
    MARK,
    MARK + b"\x40" + bytes(8 * 64),
    MARK + b"\2" + u8(1),
    MARK + b"\1" + u8(2**62),
    MARK + b"\2" + u8(2**63) + u8(2),
    MARK + b"\2" + u8(2**63) + u8(0),
    MARK + b"\1" + u8(1) + u8(2**64 - 1),
    MARK + b"\1" + u8(1) + u8(1),
    MARK + b"\1" + u8(1) + u8(1) + b"xy",
    MARK + b"\1" + u8(2) + u8(2**63) + u8(2**63),
    _LONG,
]


@pytest.mark.parametrize("cell", _BAD_TEXTS)
def test_malformed_arrays_of_texts_are_refused(cell: bytes) -> None:
    for function in (check_text, unpack_texts):
        with pytest.raises(ValueError, match="texts"):
            function(cell)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (1,) * 31])
def test_sound_arrays_of_texts_pass(shape: tuple[int, ...]) -> None:
    texts = np.full(shape, b"ab", object)
    check_text(pack_texts(texts))
    assert unpack_texts(pack_texts(texts)).tolist() == texts.tolist()
    marked = np.array(MARK + b"\1", object)
    assert unpack_texts(pack_texts(marked)).item() == marked.item()


def test_a_malformed_array_of_texts_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    made = server(tmp_path, [table("t")])
    writer = made.store.create_trajectory_writer()
    writer.add_column(None, 1)
    one, zero = np.ones(1, np.uint32), np.zeros(1, np.uint64)
    assert writer.append([_LONG]) == -1
    squeeze = np.ones(1, np.uint8)
    writer.create_item(made.table("t").core, 1.0, one * 0, zero, one, one, squeeze)
    made.checkpoint()
    with pytest.raises(CheckpointCorruptError, match="array of 6 texts"):
        server(tmp_path, [table("t")])


# Reverb's files, read as they are stored.

REFUSALS = (
    errors.CheckpointCorruptError,
    errors.CheckpointLimitError,
    errors.CheckpointMismatchError,
    errors.MissingDependencyError,
)


@pytest.mark.parametrize("case", reverb_support.FIXTURES)
def test_altered_reverb_messages_with_sound_checksums_never_crash(
    case: str, tmp_path: Path
) -> None:
    folder, rng = reverb_support.copy(case, tmp_path / "checkpoint"), random.Random(case)
    names = list(read_stored(folder).tables)
    for name in reverb_support.FILES:
        path = folder / name
        payloads, whole = reverb_support.records(path), path.read_bytes()
        for _ in range(40 if payloads else 0):
            forged = list(payloads)
            victim = rng.randrange(len(forged))
            raw = bytearray(forged[victim])
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            forged[victim] = bytes(raw)
            path.write_bytes(reverb_support.framed(forged))
            try:
                made = server(tmp_path / "none", [table(one) for one in names], folder)
            except REFUSALS as error:
                assert len(str(error)) < 2000  # noqa: PT017
            else:
                for one in made.tables.values():
                    one.core.sample_items(3)
        path.write_bytes(whole)


def _texts(rows: int, shape: list[int], content: bytes) -> tensors.Packed:
    message = schema.message_class("TensorProto")()
    message.dtype = STRING
    message.tensor_content = content
    for size in [rows, *shape]:
        message.tensor_shape.dim.add(size=size)
    return tensors.packed(message, Place(Path("chunks"), 0, 0))


@pytest.mark.parametrize(
    ("rows", "shape", "content"),
    [
        (2**31, [], b"\0"),
        (2**31, [0], b""),
        (1, [2**40], b"\0"),
        (2, [], b"\1\1a"),
        (2, [], b"\1\1abc"),
        (1, [], b"\xff" * 12),
        (1, [], b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ],
)
def test_malformed_texts_of_reverb_are_refused(
    rows: int, shape: list[int], content: bytes
) -> None:
    with pytest.raises(CheckpointCorruptError):
        tensors.unpack_texts(_texts(rows, shape, content), Place(Path("chunks"), 0, 0))


def test_sound_texts_of_reverb_are_read() -> None:
    place = Place(Path("chunks"), 0, 0)
    assert tensors.unpack_texts(_texts(2, [], b"\1\2abc"), place) == [b"a", b"bc"]


def test_the_limit_holds_for_reverbs_files() -> None:
    case = reverb_support.FIXTURES["resent"]
    read_stored(case)
    with pytest.raises(CheckpointLimitError, match="max_nbytes"):
        read_stored(case, max_nbytes=5000)
