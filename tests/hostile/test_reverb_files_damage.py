"""A damaged Reverb checkpoint is refused by name: never a part of it, never a crash."""

from __future__ import annotations

import os
import random
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.golden import reverb_support as support
from tests.golden.reverb_support import FILES, FIXTURES, Found, read

from reverie import errors
from reverie.checkpoint.reverb_files import tfrecord
from reverie.checkpoint.reverb_files.budget import Place
from reverie.proto import schema

CASE = "evicted"
SMALLEST = "unlike_items"  # two items of two chunks: every kind of place for a cut
TABLES, ITEMS, CHUNKS = FILES
REFUSALS = (errors.CheckpointCorruptError, errors.CheckpointLimitError)


def outcome(folder: Path, sound: list[Found]) -> str:
    """How reading ends; any error of another kind fails the test that asks."""
    try:
        found = read(folder, max_nbytes=1 << 26)
    except REFUSALS as error:
        return "refused" if ".tfrecord" in str(error) else f"refused without a file: {error}"
    return "equal" if support.same(found, sound) else "different"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return support.copy(CASE, tmp_path / "checkpoint")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return support.copy(SMALLEST, tmp_path / "checkpoint")


def truncations(folder: Path, name: str) -> Iterator[str]:
    """The outcome of every length that is too short."""
    sound, path = read(folder), folder / name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        yield outcome(folder, sound)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_of_every_file_is_refused(small: Path, name: str) -> None:
    assert set(truncations(small, name)) == {"refused"}


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_of_uncompressed_files_is_refused(small: Path, name: str) -> None:
    path = small / name
    path.write_bytes(support.framed(support.records(path)))
    assert set(truncations(small, name)) == {"refused"}


def test_without_the_check_of_the_streams_end_truncations_pass(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sloppy(path: Path, file: object) -> Iterator[bytes]:
        yield zlib.decompressobj().decompress(path.read_bytes())

    monkeypatch.setattr(tfrecord, "_inflate", sloppy)
    assert "equal" in set(truncations(small, CHUNKS))


def test_reverbs_own_blind_spot_a_cut_between_records_is_refused(folder: Path) -> None:
    for name in FILES:
        path = folder / name
        payloads = support.records(path)
        for kept in range(len(payloads)):
            support.rewrite(path, payloads[:kept])
            with pytest.raises(errors.CheckpointCorruptError, match="tfrecord"):
                read(folder)
        support.rewrite(path, payloads)
    read(folder)


def test_every_changed_byte_is_refused_or_changes_nothing(small: Path) -> None:
    sound, rng, found = read(small), random.Random(0), set()
    for path in (small / name for name in FILES):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(changed(whole, at, rng))
            found.add(outcome(small, sound))
        path.write_bytes(whole)
    assert found <= {"refused", "equal"}


@pytest.mark.parametrize("case", FIXTURES)
def test_single_changed_bytes_are_refused_or_change_nothing(case: str, tmp_path: Path) -> None:
    if case == "bfloat16":
        pytest.importorskip("ml_dtypes")
    folder = support.copy(case, tmp_path / "checkpoint")
    sound, rng = read(folder), random.Random(case)
    found = set()
    for name in FILES:
        path = folder / name
        whole = path.read_bytes()
        for _ in range(20):
            path.write_bytes(changed(whole, rng.randrange(len(whole)), rng))
            found.add(outcome(folder, sound))
        path.write_bytes(whole)
    assert found <= {"refused", "equal"}
    assert "refused" in found


def changed(whole: bytes, at: int, rng: random.Random) -> bytes:
    """The bytes with another one at a place."""
    damaged = bytearray(whole)
    damaged[at] ^= rng.randrange(1, 256)
    return bytes(damaged)


def test_without_the_checksums_a_changed_byte_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = read(folder)
    for name in FILES:
        plain = bytearray(support.framed(support.records(folder / name)))
        if name == CHUNKS:
            plain[plain.rindex(struct.pack("<f", 19.0))] ^= 1  # In the steps themselves.
        (folder / name).write_bytes(plain)
    assert outcome(folder, sound) == "refused"
    monkeypatch.setattr(tfrecord, "_masked", lambda crc: Anything())
    assert outcome(folder, sound) == "different"


class Anything(int):
    """Equal to whatever it is compared with: a checksum that never fails."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def test_random_bytes_are_refused(folder: Path) -> None:
    sound, rng = read(folder), random.Random(0)
    for name in FILES * 50:
        whole = (folder / name).read_bytes()
        start = rng.choice((b"", b"\x78\x9c", b"\x78\x9c\xb3", support.framed([b"\x0a"])[:12]))
        (folder / name).write_bytes(start + rng.randbytes(rng.randrange(300)))
        assert outcome(folder, sound) == "refused"
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_empty_files_beside_done_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(errors.CheckpointCorruptError, match=f"{name}' is empty"):
        read(folder)


def test_done_beside_nothing_but_empty_files_is_refused(folder: Path) -> None:
    for name in FILES:
        (folder / name).write_bytes(b"")
    with pytest.raises(errors.CheckpointCorruptError, match="is empty"):
        read(folder)


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(errors.CheckpointCorruptError, match=f"{name}' is missing"):
        read(folder)


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_checkpoint_are_refused(folder: Path, name: str) -> None:
    shutil.copyfile(FIXTURES["lengths"] / name, folder / name)
    with pytest.raises(errors.CheckpointCorruptError, match="tfrecord"):
        read(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("more", [b"\0", b"\x78\x9c", b"trailing"])
def test_bytes_after_the_stream_are_refused(folder: Path, name: str, more: bytes) -> None:
    with (folder / name).open("ab") as file:
        file.write(more)
    with pytest.raises(errors.CheckpointCorruptError, match="after the end"):
        read(folder)


@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_last_record_are_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(zlib.compress(zlib.decompress(path.read_bytes()) + b"\0"))
    with pytest.raises(errors.CheckpointCorruptError, match="of its header"):
        read(folder)


@pytest.mark.parametrize(
    "more",
    [
        b"\xf8\x07\x01",  # an unknown field
        b"\x08\x00",  # a known one for the second time
        b"\0",  # no field at all
        b"\x0b",  # a group that does not end
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_fields_of_a_message_are_refused(
    folder: Path, name: str, more: bytes
) -> None:
    path = folder / name
    first, *rest = support.records(path)
    support.rewrite(path, [first + more, *rest])
    with pytest.raises(errors.CheckpointCorruptError, match="record 0 at byte 0"):
        read(folder)


def test_unknown_fields_deep_inside_a_message_are_refused() -> None:
    place = Place(Path("tables.tfrecord"), 0, 0)
    # A table whose rate limiter has a field 99.
    with pytest.raises(errors.CheckpointCorruptError, match="unknown fields"):
        schema.parse("PriorityTableCheckpoint", b"\x1a\x03\x98\x06\x01", place.corrupt)


def _drop(payloads: list[bytes]) -> list[bytes]:
    return payloads[1:]


def _repeat(payloads: list[bytes]) -> list[bytes]:
    return [*payloads, payloads[0]]


def _repeat_otherwise(payloads: list[bytes]) -> list[bytes]:
    chunk = support.message("ChunkData", payloads[0])
    chunk.sequence_range.episode_id += 1
    return [*payloads, chunk.SerializeToString()]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TABLES, _drop, "which does not exist"),
        (ITEMS, _drop, "by its counters"),
        (CHUNKS, _drop, r"items.tfrecord', record .*: chunk \d+ is missing"),
        (TABLES, _repeat, "a second table"),
        (ITEMS, _repeat, "a second item of key"),
        (CHUNKS, _repeat_otherwise, "a second, different chunk of key"),
    ],
)
def test_records_that_are_lost_or_there_twice_are_refused(
    folder: Path, name: str, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    support.rewrite(folder / name, change(support.records(folder / name)))
    with pytest.raises(errors.CheckpointCorruptError, match=message):
        read(folder)


def test_chunks_that_reverb_saved_twice_are_read_once(folder: Path) -> None:
    sound = read(folder)
    payloads = support.records(folder / CHUNKS)
    support.rewrite(folder / CHUNKS, payloads * 2)
    assert outcome(folder, sound) == "equal"


def test_the_order_of_chunks_does_not_matter(folder: Path) -> None:
    sound = read(folder)
    support.rewrite(folder / CHUNKS, support.records(folder / CHUNKS)[::-1])
    assert outcome(folder, sound) == "equal"


def _edit(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    """Changes the first record of a file, and gives it sound checksums."""
    first, *rest = support.records(folder / name)
    kind = {TABLES: "PriorityTableCheckpoint", ITEMS: "PrioritizedItem", CHUNKS: "ChunkData"}
    message = support.message(kind[name], first)
    edited = edit(message)
    raw = edited if isinstance(edited, bytes) else message.SerializeToString()
    support.rewrite(folder / name, [raw, *rest])


def _put(message: Any, **values: object) -> None:
    for name, value in values.items():
        setattr(message, name, value)


def _columns(message: Any) -> Any:
    return message.flat_trajectory.columns


def _slice(message: Any) -> Any:
    return _columns(message)[0].chunk_slices[0]


def _tensor(message: Any) -> Any:
    return message.data.tensors[0]


def _damage_packed(message: Any) -> None:
    _put(_tensor(message), tensor_content=_tensor(message).tensor_content[:1] + b"\xfe" * 6)


def _choose_twice(message: Any) -> bytes:
    """A sampler that is fifo, and uniform too: the second of a oneof counts, in protobuf."""
    sound, twice = message.SerializeToString(), b"\x22\x04\x08\x01\x10\x01"
    assert b"\x22\x04\x08\x01\x38\x01" in sound
    return sound.replace(b"\x22\x04\x08\x01\x38\x01", twice)


EDITS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a slice past the end of its chunk": (ITEMS, lambda m: _put(_slice(m), offset=3)),
    "a slice of no steps": (ITEMS, lambda m: _put(_slice(m), length=0)),
    "a slice before its chunk": (ITEMS, lambda m: _put(_slice(m), offset=-1)),
    "a slice that overflows": (ITEMS, lambda m: _put(_slice(m), length=2**31 - 1)),
    "a column its chunk does not have": (ITEMS, lambda m: _put(_slice(m), index=1)),
    "a column without slices": (ITEMS, lambda m: _columns(m)[0].ClearField("chunk_slices")),
    "an item without columns": (ITEMS, lambda m: m.ClearField("flat_trajectory")),
    "a squeezed column of two steps": (ITEMS, lambda m: _put(_columns(m)[0], squeeze=True)),
    "a priority that is no number": (ITEMS, lambda m: _put(m, priority=float("nan"))),
    "a negative sample count": (ITEMS, lambda m: _put(m, times_sampled=-1)),
    "a table name that is not UTF-8": (
        ITEMS,
        lambda m: m.SerializeToString().replace(b"last", b"l\xffst"),
    ),
    "a size that is not the shape's": (CHUNKS, lambda m: _put(m, data_uncompressed_size=5)),
    "another number of columns": (CHUNKS, lambda m: _put(m, data_tensors_len=2)),
    "fewer steps than rows": (CHUNKS, lambda m: _put(m.sequence_range, start=2**31 - 1)),
    "more steps than rows": (CHUNKS, lambda m: _put(m.sequence_range, end=2**31 - 1)),
    "no steps": (CHUNKS, lambda m: m.ClearField("sequence_range")),
    "a huge shape": (CHUNKS, lambda m: _put(_tensor(m).tensor_shape.dim[0], size=2**62)),
    "a negative shape": (CHUNKS, lambda m: _put(_tensor(m).tensor_shape.dim[0], size=-1)),
    "no shape": (CHUNKS, lambda m: _tensor(m).ClearField("tensor_shape")),
    "packed bytes that claim 4 GiB": (
        CHUNKS,
        lambda m: _put(_tensor(m), tensor_content=b"\xff\xff\xff\xff\x0f"),
    ),
    "damaged packed bytes": (CHUNKS, _damage_packed),
    "no selector": (TABLES, lambda m: m.ClearField("sampler")),
    "two selectors": (TABLES, _choose_twice),
    "a negative counter": (TABLES, lambda m: _put(m.rate_limiter, sample_count=-1)),
    "another number of items": (TABLES, lambda m: _put(m.rate_limiter, insert_count=9)),
    "fewer places than items": (TABLES, lambda m: _put(m, max_size=2)),
    "no name": (TABLES, lambda m: m.ClearField("table_name")),
}


@pytest.mark.parametrize("what", EDITS)
def test_impossible_values_are_refused(folder: Path, what: str) -> None:
    name, edit = EDITS[what]
    _edit(folder, name, edit)
    with pytest.raises(errors.CheckpointCorruptError, match="tfrecord"):
        read(folder)


def test_an_edit_of_nothing_reads_the_same(folder: Path) -> None:
    sound = read(folder)
    for name in FILES:
        _edit(folder, name, lambda message: None)
    assert outcome(folder, sound) == "equal"


@pytest.mark.parametrize("claimed", [1 << 20, (1 << 31) - 1, 1 << 40, (1 << 64) - 1])
def test_a_record_that_claims_more_than_there_is_takes_no_memory(
    folder: Path, claimed: int
) -> None:
    length = struct.pack("<Q", claimed)
    (folder / CHUNKS).write_bytes(length + support.masked_crc(length) + b"tail")
    tracemalloc.start()
    try:
        with pytest.raises(errors.CheckpointCorruptError, match=CHUNKS):
            read(folder)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_a_bomb_stops_at_the_limit(folder: Path) -> None:
    (folder / CHUNKS).write_bytes(
        zlib.compress(support.framed([bytes(1 << 24)])[:-4], 9)  # 16 MiB in 16 KiB
    )
    with pytest.raises(errors.CheckpointLimitError, match=CHUNKS):
        read(folder, max_nbytes=1 << 21)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_without_waiting(folder: Path) -> None:
    (folder / ITEMS).unlink()
    os.mkfifo(folder / ITEMS)
    with pytest.raises(errors.CheckpointCorruptError, match="not a regular file"):
        read(folder)


def test_names_in_messages_are_escaped_and_short(folder: Path) -> None:
    nasty = "\x1b[31m" + "x" * 5000
    _edit(folder, ITEMS, lambda message: setattr(message, "table", nasty))
    with pytest.raises(errors.CheckpointCorruptError) as caught:
        read(folder)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600
