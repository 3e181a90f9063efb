"""Altered and malformed files of Reverb, read as they are stored: declared errors only."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.golden import reverb_support
from tests.server_support import server, table

from reverie import errors
from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.budget import Place
from reverie.checkpoint.reverb_files.stored import read_stored
from reverie.errors import CheckpointCorruptError, CheckpointLimitError
from reverie.proto import schema
from reverie.proto.data_types import STRING

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
