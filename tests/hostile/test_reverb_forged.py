"""Altered messages and malformed texts in Reverb's files: declared errors only."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.golden import reverb_support as support
from tests.golden.reverb_support import FILES, FIXTURES
from tests.server_support import server, table

from reverie import errors
from reverie.checkpoint.reverb_files import as_records, tensors
from reverie.checkpoint.reverb_files.budget import Place
from reverie.checkpoint.reverb_files.stored import read_stored
from reverie.errors import CheckpointCorruptError, CheckpointLimitError
from reverie.proto import schema
from reverie.proto.data_types import STRING

# What may be said of a message that was altered and given sound checksums again.
FORGED = (
    errors.CheckpointCorruptError,
    errors.CheckpointLimitError,
    errors.CheckpointMismatchError,
    errors.MissingDependencyError,
)


def look_at_everything(folder: Path) -> None:
    """Reads every item of every table, as it is stored and as a replay buffer has it."""
    stored = read_stored(folder, max_nbytes=1 << 26)
    support.found_in(stored)
    for name in stored.tables:
        nest, chunks = support.nest_of(stored, name), support.Chunks()
        state, _ = as_records.fill_records(stored, name, nest, chunks, 1)
        support.rows_of(state, chunks, nest)


@pytest.mark.parametrize("case", FIXTURES)
def test_altered_messages_with_sound_checksums_never_crash(case: str, tmp_path: Path) -> None:
    folder, rng = support.copy(case, tmp_path / "checkpoint"), random.Random(case)
    for name in FILES:
        path = folder / name
        payloads = support.records(path)
        whole = path.read_bytes()
        for _ in range(60 if payloads else 0):
            forged = list(payloads)
            victim = rng.randrange(len(forged))
            forged[victim] = altered(forged[victim], rng)
            path.write_bytes(support.framed(forged))
            try:
                look_at_everything(folder)
            except FORGED as error:
                assert len(str(error)) < 2000  # noqa: PT017
        path.write_bytes(whole)


def altered(payload: bytes, rng: random.Random) -> bytes:
    """A payload with a few bytes changed, removed, repeated or added."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            del data[at : at + rng.randrange(9)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randrange(40)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(9))
    return bytes(data)


@pytest.mark.parametrize("case", FIXTURES)
def test_altered_messages_with_sound_checksums_never_crash_a_server(
    case: str, tmp_path: Path
) -> None:
    folder, rng = support.copy(case, tmp_path / "checkpoint"), random.Random(case)
    names = list(read_stored(folder).tables)
    for name in FILES:
        path = folder / name
        payloads, whole = support.records(path), path.read_bytes()
        for _ in range(40 if payloads else 0):
            forged = list(payloads)
            victim = rng.randrange(len(forged))
            raw = bytearray(forged[victim])
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            forged[victim] = bytes(raw)
            path.write_bytes(support.framed(forged))
            try:
                made = server(tmp_path / "none", [table(one) for one in names], folder)
            except FORGED as error:
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
    case = FIXTURES["resent"]
    read_stored(case)
    with pytest.raises(CheckpointLimitError, match="max_nbytes"):
        read_stored(case, max_nbytes=5000)
