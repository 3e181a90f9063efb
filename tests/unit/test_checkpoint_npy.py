"""Our `.npy` headers: NumPy reads every one, and the parser takes nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.checkpoint.disk.npy import encode_header, read_header
from reverie.checkpoint.format.columns import ITEM_NBYTES, Column
from reverie.errors import CheckpointCorruptError

FIELDS = (("a/b", "<f4", (3,)), ('it\'s "ü"\\', "|b1", ()), ("s", "<i8", (2, 3)))


def parse(raw: bytes, limit: int | None = None) -> tuple:
    stream = io.BytesIO(raw)
    header = read_header(stream.read, "file", len(raw) if limit is None else limit)
    return header.descr, header.shape, header.nbytes


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
    assert parse(raw) == (fields, (1,), len(raw))
    loaded = np.load(io.BytesIO(raw + bytes(12000)), max_header_size=len(raw))
    assert loaded.dtype.names == tuple(name for name, _, _ in fields)


_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_FIELD = st.tuples(
    _NAMES,
    st.sampled_from(sorted(ITEM_NBYTES)),
    st.lists(st.integers(0, 10**9), max_size=4).map(tuple),
)


@given(st.lists(_FIELD, max_size=5).map(tuple), st.integers(0, 2**53))
def test_every_header_we_write_is_parsed_back_and_aligned(fields: tuple, count: int) -> None:
    raw = encode_header(fields, count)
    assert parse(raw) == (fields, (count,), len(raw))
    assert len(raw) % 64 == 0
    assert raw.endswith(b"\n")


@given(_NAMES)
def test_numpy_reads_any_column_name(name: str) -> None:
    raw = encode_header(((name, "<u2", ()),), 1) + b"\x01\x02"
    assert np.load(io.BytesIO(raw)).dtype.names == (name,)


def test_a_named_dtype_is_stored_as_raw_bytes() -> None:
    assert Column("x", "bfloat16", (3,)).field == ("x", "|V2", (3,))
    assert Column("x", "bfloat16", (3,)).nbytes == 6


def _with_text(text: bytes, version: bytes = b"\x01\x00") -> bytes:
    body = text + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(body).to_bytes(2, "little") + body


GOOD = b"{'descr': [('a', '<f4', (3,))], 'fortran_order': False, 'shape': (5,), }"


def test_the_hand_made_header_of_the_table_below_is_good() -> None:
    assert parse(_with_text(GOOD))[:2] == ((("a", "<f4", (3,)),), (5,))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(100),
        _with_text(GOOD, b"\x03\x00"),
        _with_text(GOOD, b"\x01\x01"),
        _with_text(GOOD)[:-1],
        _with_text(GOOD)[:40],
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(100),
        b"\x93NUMPY\x01\x00" + bytes(56),
        _with_text(GOOD.replace(b"False", b"True")),
        _with_text(GOOD.replace(b"False", b"0")),
        _with_text(GOOD.replace(b", }", b"}")),
        _with_text(GOOD.replace(b"}", b"} #")),
        _with_text(GOOD + b"\x00"),
        _with_text(GOOD + b" " * 64),
        _with_text(GOOD.replace(b"'a'", b"b'a'")),
        _with_text(GOOD.replace(b"'a'", b"'\\d800'")),
        _with_text(GOOD.replace(b"'a'", b"'\\ud800'")),
        _with_text(GOOD.replace(b"'a'", b"'a' 'b'")),
        _with_text(GOOD.replace(b"'a'", b"'a")),
        _with_text(GOOD.replace(b"'a'", b"[('a', '<f4')]")),
        _with_text(GOOD.replace(b"'a'", b"'\xc3'")),
        _with_text(GOOD.replace(b"(3,)", b"(3)")),
        _with_text(GOOD.replace(b"(3,)", b"3")),
        _with_text(GOOD.replace(b"(3,)", b"(-3,)")),
        _with_text(GOOD.replace(b"(3,)", b"(03,)")),
        _with_text(GOOD.replace(b"(3,)", b"(3.0,)")),
        _with_text(GOOD.replace(b"(3,)", b"(True,)")),
        _with_text(GOOD.replace(b"(3,)", b"(3,3,)")),
        _with_text(GOOD.replace(b"(5,)", b"(" + b"1, " * 64 + b"1, 1)")),
        _with_text(GOOD.replace(b"(5,)", b"(5" + b"0" * 30 + b",)")),
        _with_text(GOOD.replace(b"(5,)", b"__import__('os')")),
        _with_text(GOOD.replace(b"'descr'", b"'shape'")),
        _with_text(b"(" * 5000),
        _with_text(b"{'descr': " + b"[" * 5000),
        _with_text(b"{'shape': (5,), 'descr': '<f4', 'fortran_order': False, }"),
    ],
)
def test_anything_else_is_refused_as_damage(raw: bytes) -> None:
    with pytest.raises(CheckpointCorruptError, match="expected"):
        parse(raw + bytes(64), len(raw))


def test_a_header_longer_than_the_file_is_refused_before_it_is_read() -> None:
    asked: list[int] = []

    def read(nbytes: int) -> bytes:
        asked.append(nbytes)
        return (b"\x93NUMPY\x02\x00" if nbytes == 8 else b"\xf4\xff\xff\x7f")[:nbytes]

    with pytest.raises(CheckpointCorruptError, match="header of 2147483648"):
        read_header(read, "file", 1000)
    assert asked == [8, 4]
