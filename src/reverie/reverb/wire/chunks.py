"""The columns of chunks: from a client's message to cells, and from a sample to bytes."""

from __future__ import annotations

import functools
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.reverb_files import tensors
from reverie.nests.specs import is_storable
from reverie.proto.data_types import STRING, number_of
from reverie.reverb.wire.messages import block, number, varint
from reverie.reverb.wire.statuses import CallError, Code
from reverie.runtime.optional import require
from reverie.tables.cells import CellSpec

MAX_TENSOR_NBYTES = 1 << 30  # of one column of a chunk, unpacked


class Column(NamedTuple):
    """Cells of one column of a chunk.

    Attributes:
        spec: of each cell.
        cells: (rows, *shape), or a list of texts as the core stores them.
    """

    spec: CellSpec
    cells: NDArray[Any] | list[bytes]


class _Sent:
    """A chunk of a client, as the place where damaged bytes were found."""

    def __init__(self, key: int) -> None:
        self._key = key

    def corrupt(self, what: str) -> CallError:
        return CallError(Code.INVALID_ARGUMENT, f"{self}: {what}")

    def __str__(self) -> str:
        return f"Chunk {self._key}"


def column_of(chunk: Any, index: int) -> Column:
    """One column of a `ChunkData` message.

    Raises:
        CallError: INVALID_ARGUMENT, there is no such column, its bytes are damaged, or
            its dtype cannot be stored; RESOURCE_EXHAUSTED, it is too large.
    """
    sent = _Sent(chunk.chunk_key)
    columns = chunk.data.tensors
    if not 0 <= index < len(columns):
        raise no_column(chunk.chunk_key, index, len(columns))
    packed = tensors.packed(columns[index], sent)
    if packed.code == STRING:
        texts = tensors.unpack_texts(packed, sent)
        return Column(CellSpec(np.dtype(object), packed.step_shape), texts)
    nbytes = packed.nbytes
    if nbytes is None:
        raise sent.corrupt(
            f"column {index} has dtype {tensors.type_name(packed.code)}, which cannot be stored"
        )
    if nbytes > MAX_TENSOR_NBYTES:
        raise CallError(
            Code.RESOURCE_EXHAUSTED,
            f"{sent}: column {index} has {nbytes} bytes; at most {MAX_TENSOR_NBYTES} "
            "are taken. Use a smaller chunk length.",
        )
    cells = tensors.unpack(packed, delta_encoded=chunk.delta_encoded, place=sent)
    if not is_storable(cells.dtype):
        raise sent.corrupt(f"column {index} has dtype {cells.dtype}, which cannot be stored")
    return Column(CellSpec(cells.dtype, cells.shape[1:]), np.ascontiguousarray(cells))


def no_column(key: int, index: int, columns: int) -> CallError:
    """That a chunk has only so many columns, in dm-reverb's words."""
    return CallError(
        Code.INVALID_ARGUMENT,
        f"Cannot unpack column {index} in chunk {key} which has {columns} columns.",
    )


def tensor_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A `TensorProto` without its content."""
    axes = b"".join(block(2, number(1, extent)) for extent in shape)
    code = number_of(dtype.name)
    assert code is not None, dtype  # what cannot be sent is not stored
    return number(1, code) + block(2, axes)


def content(values: NDArray[Any]) -> bytes:
    """A column's values as the content of a `TensorProto`: packed, texts in the open."""
    if values.dtype.kind == "O":
        texts = values.ravel().tolist()
        return b"".join([varint(len(text)) for text in texts] + texts)
    if sys.byteorder == "big":
        values = values.astype(values.dtype.newbyteorder("<"))
    packed: bytes = bytes(_compress()(values.tobytes()))
    return packed


@functools.lru_cache(maxsize=1)
def _compress() -> Any:
    return require("cramjam", "wire", "Reverb's protocol").snappy.compress_raw
