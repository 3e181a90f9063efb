"""Columns of Reverb's chunks: in from clients, out as samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")
pytest.importorskip("cramjam", reason="needs cramjam")
pytest.importorskip("google_crc32c", reason="needs google-crc32c")
pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")

import cramjam
import ml_dtypes

from reverie.proto import schema
from reverie.proto.data_types import number_of
from reverie.reverb.wire import chunks, samples
from reverie.reverb.wire.statuses import CallError, Code
from reverie.tables.text_cells import unpack_texts

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn),
]


def values(dtype: Any, shape: tuple[int, ...]) -> Any:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def tensor(array: Any, packed: bytes | None = None) -> Any:
    """As a client's writer sends it."""
    proto = schema.message_class("TensorProto")(dtype=number_of(array.dtype.name))
    for extent in array.shape:
        proto.tensor_shape.dim.add(size=extent)
    raw = array.tobytes() if packed is None else b""
    if packed is None and array.dtype != object:
        packed = bytes(cramjam.snappy.compress_raw(raw))
    proto.tensor_content = packed or b""
    return proto


def chunk(*tensors: Any, delta: bool = False, key: int = 7) -> Any:
    message = schema.message_class("ChunkData")(chunk_key=key, delta_encoded=delta)
    message.data.tensors.extend(tensors)
    return message


def texts(*rows: Any) -> Any:
    array = np.empty(np.shape(rows), object)
    array[...] = rows
    return array


def sampled(columns: list[Any], n: int, **settings: Any) -> list[Any]:
    """The entries of a run of n items, parsed by protobuf."""
    facts = (
        np.arange(n, dtype=np.uint64) + np.uint64(2**63),
        np.full(n, 0.25),
        np.full(n, 5),
        np.arange(n) + 0.5,
        np.full(n, 3, np.int32),
    )
    payload = b"".join(samples.entries("t", (facts, columns), False, **settings))
    response = schema.message_class("SampleStreamResponse").FromString(payload)
    assert response.ByteSize() == len(payload), "protobuf would write it otherwise"
    return list(response.entries)


def columns_of(entries: list[Any]) -> list[Any]:
    """What a client makes of an item's entries."""
    parts = {part.chunk_key: part for entry in entries for part in entry.data}
    found = []
    for column in entries[0].info.item.flat_trajectory.columns:
        [piece] = column.chunk_slices
        cells = chunks.column_of(parts[piece.chunk_key], piece.index).cells
        if isinstance(cells, list):
            cells = texts(*(unpack_texts(cell) for cell in cells))
        rows = cells[piece.offset : piece.offset + piece.length]
        found.append(rows[0] if column.squeeze else rows)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 2, 3), (2, 0)])
def test_a_column_comes_in_as_it_was_sent(dtype: Any, shape: tuple[int, ...]) -> None:
    array = values(dtype, shape)
    column = chunks.column_of(chunk(tensor(array)), 0)
    assert (column.spec.dtype, column.spec.shape) == (array.dtype, shape[1:])
    np.testing.assert_array_equal(column.cells, array)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "uint64"])
def test_differences_between_steps_are_added_up(dtype: str) -> None:
    array = np.random.default_rng(1).integers(0, 100, (5, 3)).astype(dtype)[::-1]
    steps = np.concatenate([array[:1], np.diff(array, axis=0)])
    column = chunks.column_of(chunk(tensor(steps), delta=True), 0)
    np.testing.assert_array_equal(column.cells, array)


def test_texts_come_in_as_they_were_sent() -> None:
    array = texts([b"a", b""], [b"long" * 50, b"\xff\0"])
    column = chunks.column_of(chunk(tensor(array, chunks.content(array))), 0)
    assert (column.spec.dtype, column.spec.shape) == (np.dtype(object), (2,))
    np.testing.assert_array_equal([unpack_texts(cell) for cell in column.cells], array)


def test_steps_without_any_text_come_in() -> None:
    array = np.empty((3, 0), object)
    column = chunks.column_of(chunk(tensor(array)), 0)
    assert [unpack_texts(cell).shape for cell in column.cells] == [(0,)] * 3


def test_more_steps_without_any_text_than_a_chunk_has_are_refused() -> None:
    endless = tensor(np.empty((0, 0), object))
    endless.tensor_shape.dim[0].size = 1 << 40
    with pytest.raises(CallError, match="1099511627776 steps of 0 texts"):
        chunks.column_of(chunk(endless), 0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (tensor(np.zeros(4, np.int32), b"\x10garbage"), "damaged"),
        (
            tensor(np.zeros(1 << 20, np.int32), b"\x80\x80\x80\x02"),
            "4194304 bytes by its shape",
        ),
        (tensor(np.zeros(4, np.int32), b"\x08\x1c12345678"), "declare 8"),
        (tensor(np.int32(3)), r"shape \(\)"),
        (tensor(texts(b"ab"), b"\x05ab"), "texts of 5 bytes"),
        (schema.message_class("TensorProto")(dtype=20, tensor_content=b"x"), "shape"),
    ],
)
def test_what_is_no_column_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(CallError, match=words) as caught:
        chunks.column_of(chunk(wrong), 0)
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_a_dtype_that_cannot_be_stored_is_refused() -> None:
    quantized = tensor(np.zeros(4, np.int8))
    quantized.dtype = 11
    with pytest.raises(CallError, match="qint8, which cannot be stored"):
        chunks.column_of(chunk(quantized), 0)


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(CallError, match="column 1 in chunk 7 which has 1 columns"):
        chunks.column_of(chunk(tensor(np.zeros(4))), 1)


def test_a_column_larger_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_TENSOR_NBYTES", 31)
    with pytest.raises(CallError, match="32 bytes; at most 31") as caught:
        chunks.column_of(chunk(tensor(np.zeros(4))), 0)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples_go_out_as_they_are(dtype: Any) -> None:
    columns = [values(dtype, (3, 4, 2)), values(dtype, (3,)), values(dtype, (3, 0, 2))]
    entries = sampled(columns, 3)
    assert [entry.end_of_sequence for entry in entries] == [True] * 3
    for i, entry in enumerate(entries):
        for got, sent in zip(columns_of([entry]), columns, strict=True):
            assert got.dtype == sent.dtype
            np.testing.assert_array_equal(got, sent[i])


def test_texts_go_out_as_they_are() -> None:
    columns = [texts([b"a", b"b" * 300], [b"", b"\xff"]), texts(b"c", b"d")]
    for i, entry in enumerate(sampled(columns, 2)):
        for got, sent in zip(columns_of([entry]), columns, strict=True):
            np.testing.assert_array_equal(got, sent[i])


def test_a_samples_facts_go_out_with_it() -> None:
    entry = sampled([values("int32", (3, 2))], 3)[1]
    item = entry.info.item
    assert (item.key, item.table, item.priority, item.times_sampled) == (2**63 + 1, "t", 1.5, 3)
    assert (entry.info.probability, entry.info.table_size) == (0.25, 5)
    [data] = entry.data
    assert (data.sequence_range.end, data.data_tensors_len) == (1, 1)
    assert data.data_uncompressed_size == 8


def test_no_two_samples_have_a_chunk_of_one_key() -> None:
    entries = sampled([values("int32", (50, 2))], 50)
    assert len({entry.data[0].chunk_key for entry in entries}) == 50


def test_a_large_item_goes_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MESSAGE_NBYTES", 100)
    samples._parts.cache_clear()
    columns = [values("float64", (2, n)) for n in (6, 6, 30, 1)]
    entries = sampled(columns, 2)
    assert [entry.end_of_sequence for entry in entries] == [False, False, True] * 2
    assert [entry.HasField("info") for entry in entries] == [True, False, False] * 2
    for i in range(2):
        got = columns_of(entries[3 * i : 3 * i + 3])
        for mine, sent in zip(got, columns, strict=True):
            np.testing.assert_array_equal(mine, sent[i])
    samples._parts.cache_clear()
