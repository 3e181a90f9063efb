"""Our `.npy` headers: NumPy reads every one, and a reader takes no other."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hostile.damage_support import MemoryFileSystem

from reverie.checkpoint.disk.crc_file import CheckedFile
from reverie.checkpoint.disk.files import OpenFolder
from reverie.checkpoint.disk.npy import encode_header
from reverie.checkpoint.format.layouts import ITEM_NBYTES, Column, Layout
from reverie.errors import CheckpointCorruptError

FIELDS = (("a/b", "<f4", (3,)), ('it\'s "ü"\\', "|b1", ()), ("s", "<i8", (2, 3)))


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("descr", ["<u8", FIELDS], ids=["plain", "structured"])
def test_numpy_loads_an_array_behind_our_header(descr: object, count: int) -> None:
    dtype = np.dtype(descr if isinstance(descr, str) else list(descr))
    data = np.arange(count * dtype.itemsize, dtype=np.uint8).tobytes()
    loaded = np.load(io.BytesIO(encode_header(descr, count) + data), allow_pickle=False)
    assert loaded.dtype == dtype
    assert loaded.tobytes() == data


def test_many_columns_make_a_long_header_of_version_2_that_numpy_loads() -> None:
    fields = tuple((f"column/{i:05d}", "<f4", (1,)) for i in range(3000))
    raw = encode_header(fields, 1)
    assert raw[6:8] == b"\x02\x00"
    loaded = np.load(io.BytesIO(raw + bytes(12000)), max_header_size=len(raw))
    assert loaded.dtype.names == tuple(name for name, _, _ in fields)


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_FIELD = st.tuples(
    _NAMES,
    st.sampled_from(sorted(ITEM_NBYTES)),
    st.lists(st.integers(0, 10**9), max_size=4).map(tuple),
)


def described(raw: bytes) -> dict:
    """What a header says, by Python's own parser."""
    start = 10 if raw[6] == 1 else 12
    assert int.from_bytes(raw[8:start], "little") == len(raw) - start
    return ast.literal_eval(raw[start:].decode("ascii"))


@given(st.lists(_FIELD, min_size=1, max_size=5).map(tuple), st.integers(0, 2**53))
def test_every_header_says_what_it_was_made_of_and_is_aligned(
    fields: tuple, count: int
) -> None:
    raw = encode_header(fields, count)
    wanted = [field if field[2] else field[:2] for field in fields]
    assert described(raw) == {"descr": wanted, "fortran_order": False, "shape": (count,)}
    assert len(raw) % 64 == 0
    assert raw.endswith(b"\n")


@given(_NAMES)
def test_numpy_reads_any_column_name(name: str) -> None:
    raw = encode_header(((name, "<u2", ()),), 1) + b"\x01\x02"
    assert np.load(io.BytesIO(raw)).dtype.names == (name,)


def test_a_named_dtype_is_stored_as_raw_bytes() -> None:
    assert Column("x", "bfloat16", (3,)).field == ("x", "|V2", (3,))
    assert Column("x", "bfloat16", (3,)).nbytes == 6


def test_a_layout_of_one_column_is_a_plain_array() -> None:
    one, two = (Column(name, "<f4", (3,)) for name in "ab")
    for columns, shape, itemsize in (((one,), (2, 3), 4), ((one, two), (2,), 24)):
        layout = Layout(columns)
        raw = layout.header(2) + bytes(2 * layout.nbytes)
        loaded = np.load(io.BytesIO(raw))
        assert (loaded.shape, loaded.itemsize) == (shape, itemsize)


GOOD = encode_header(FIELDS, 5)


def expect(raw: bytes) -> None:
    with CheckedFile(
        MemoryFileSystem({"file": raw}), OpenFolder(Path("memory"), None), "file"
    ) as file:
        file.expect(GOOD)


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_every_changed_byte_of_a_header_is_refused(at: int) -> None:
    expect(GOOD)
    changed = bytearray(GOOD)
    changed[at] ^= 1
    with pytest.raises(CheckpointCorruptError, match=r"another header: found .*expected"):
        expect(bytes(changed))


@pytest.mark.parametrize(
    "raw",
    [
        b"PK\x03\x04" + bytes(len(GOOD)),
        GOOD.replace(b"(5,)", b"__import__('os')").ljust(len(GOOD)),
        GOOD.replace(b"'descr'", b"'shape'"),
        b"\x93NUMPY\x01\x00" + b"(" * 5000,
        b"\xff" * len(GOOD),
    ],
)
def test_anything_else_is_refused_and_shown_cut(raw: bytes) -> None:
    with pytest.raises(CheckpointCorruptError, match="another header") as caught:
        expect(raw)
    assert len(str(caught.value)) < 300


def test_a_file_that_ends_within_its_header_is_refused() -> None:
    with pytest.raises(CheckpointCorruptError, match="bytes early"):
        expect(GOOD[:-1])
