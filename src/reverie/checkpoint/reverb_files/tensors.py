"""The columns inside a chunk: their dtypes, their shapes, their packed bytes."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from reverie import errors
from reverie.checkpoint.reverb_files import extra
from reverie.checkpoint.reverb_files.budget import Where, shown
from reverie.proto.data_types import STRING, numpy_name
from reverie.tables.text_cells import pack_texts

Array = npt.NDArray[Any]

# With ml_dtypes only: their bytes.
_ML_DTYPES = {"bfloat16": 2, "float8_e5m2": 1, "float8_e4m3fn": 1}
_FIELDS = {"dtype", "tensor_shape", "version_number", "tensor_content"}
_MAX_RANK = 32  # Less the step axis and one to spare, what NumPy 1 allows.
# Snappy's longest copy makes 64 bytes out of 3, so no block grows more than this.
_MAX_SNAPPY_GROWTH = 22
# Steps of zero bytes cost nothing to claim; more than this no chunk has.
_MAX_EMPTY_STEPS = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """One column of one chunk, still packed.

    Attributes:
        code: TensorFlow's number of the dtype.
        rows: Steps.
        step_shape: Shape of one step.
        payload: The bytes as they are in the file.
    """

    code: int
    rows: int
    step_shape: tuple[int, ...]
    payload: bytes

    @property
    def nbytes(self) -> int | None:
        """Bytes once unpacked, or None for a dtype of no fixed width."""
        width = itemsize(self.code)
        return None if width is None else self.rows * math.prod(self.step_shape) * width


@functools.lru_cache(maxsize=64)
def _plain(code: int) -> np.dtype[Any] | None:
    """The dtype, where it is one of NumPy's own of a fixed width."""
    name = numpy_name(code)
    try:
        dtype: np.dtype[Any] = np.dtype(name)
    except TypeError:
        return None
    return dtype if dtype.kind in "biufc" and name not in _ML_DTYPES else None


def itemsize(code: int) -> int | None:
    """Bytes of one element, or None for a dtype that cannot be read."""
    plain = _plain(code)
    return _ML_DTYPES.get(numpy_name(code)) if plain is None else plain.itemsize


def type_name(code: int) -> str:
    """A dtype's name for messages."""
    return "string" if code == STRING else numpy_name(code)


def dtype_of(code: int, what: str) -> np.dtype[Any]:
    """The NumPy dtype of a TensorFlow dtype.

    Args:
        code: TensorFlow's number.
        what: The column, for messages.

    Raises:
        CheckpointMismatchError: Texts, quantized and other dtypes that have no
            fixed-width NumPy dtype.
        MissingDependencyError: bfloat16 or float8 without the ml_dtypes package.
    """
    plain = _plain(code)
    if plain is not None:
        return plain
    if numpy_name(code) not in _ML_DTYPES:
        raise errors.CheckpointMismatchError(
            f"{what} has dtype {type_name(code)}; only bool, integers, floats and complex "
            "numbers can be read. Store it as numbers, or leave the column out, and save again."
        )
    try:
        import ml_dtypes
    except ImportError as error:
        raise errors.MissingDependencyError(
            f"{what} has dtype {type_name(code)}, which needs ml_dtypes. "
            "Run: pip install ml_dtypes"
        ) from error
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, numpy_name(code)))
    return dtype


def packed(message: Any, place: Where) -> Packed:
    """Checks the description of a chunk's column; unpacks nothing.

    Args:
        message: A `TensorProto`.
        place: The chunk's record, or whatever else says where it was found.

    Raises:
        CheckpointCorruptError: The shape is none, or does not agree with the
            size that the packed bytes declare.
    """
    fields = {field.name for field, _ in message.ListFields()}
    if message.tensor_shape.unknown_rank or not fields <= _FIELDS:
        raise place.corrupt("a tensor that is not stored as Reverb stores it")
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    if not 1 <= len(shape) <= _MAX_RANK or min(shape) < 0 or shape[0] == 0:
        raise place.corrupt(f"a tensor of shape {shown(shape)}, and steps were wanted")
    tensor = Packed(message.dtype, shape[0], shape[1:], message.tensor_content)
    nbytes = tensor.nbytes
    if nbytes is not None:
        declared = _snappy_length(tensor.payload)
        if declared != nbytes or nbytes > _MAX_SNAPPY_GROWTH * len(tensor.payload):
            raise place.corrupt(
                f"a tensor of {nbytes} bytes by its shape {shown(shape)}, but its "
                f"{len(tensor.payload)} packed bytes declare {declared}"
            )
        if nbytes == 0 and tensor.rows > _MAX_EMPTY_STEPS:
            raise place.corrupt(f"a tensor of {tensor.rows} steps without any bytes")
    return tensor


def unpack(tensor: Packed, *, delta_encoded: bool, place: Where) -> Array:
    """Unpacks a column.

    Args:
        tensor: The packed column, as `packed` checked it.
        delta_encoded: Whether the writer stored differences between steps.
        place: The chunk's record.

    Returns:
        The steps, shape (rows, *step shape), in native byte order; the memory may
        be shared and read-only.

    Raises:
        CheckpointCorruptError: The packed bytes are damaged.
        CheckpointMismatchError: The dtype cannot be read.
    """
    dtype = _plain(tensor.code)
    if dtype is None:
        dtype = dtype_of(tensor.code, f"{place}: a column")
    nbytes = tensor.nbytes
    try:
        raw = extra.load().snappy_decompress(tensor.payload)
        steps = np.frombuffer(raw, np.uint8) if nbytes else np.empty(0, np.uint8)
    except Exception as error:  # Only cramjam knows what it raises.
        raise place.corrupt(f"the packed steps are damaged ({error})") from error
    if len(steps) != nbytes:
        raise place.corrupt(f"{len(steps)} unpacked bytes, and {nbytes} were declared")
    shape = (tensor.rows, *tensor.step_shape)
    if dtype == np.bool_:
        # Any other byte than 0 and 1 would be an undefined value in C++.
        flags: Array = steps != 0
        return flags.reshape(shape)
    wire = dtype if sys.byteorder == "little" else dtype.newbyteorder("<")
    values: Array = steps.view(wire).astype(dtype, copy=False).reshape(shape)
    # Reverb encodes differences of integers only, and not of scalar steps.
    if delta_encoded and dtype.kind in "iu" and len(shape) > 1:
        unsigned = np.dtype(f"u{dtype.itemsize}")
        sums: Array = np.cumsum(values.view(unsigned), axis=0, dtype=unsigned)
        return sums.view(dtype)
    return values


def check_texts(tensor: Packed, place: Where) -> int:
    """How many texts a column holds, which its bytes must be enough for.

    Raises:
        CheckpointCorruptError: There are more texts than bytes, or too many steps without
            any.
    """
    count = tensor.rows * math.prod(tensor.step_shape)
    if count > len(tensor.payload) or not (count or tensor.rows <= _MAX_EMPTY_STEPS):
        raise place.corrupt(
            f"{tensor.rows} steps of {count} texts in {len(tensor.payload)} bytes"
        )
    return count


def unpack_texts(tensor: Packed, place: Where) -> list[bytes]:
    """Unpacks a column of texts: for each step one variable cell.

    Reverb stores them as TensorFlow does, unpacked: the length of every text as a
    varint, then the texts.

    Raises:
        CheckpointCorruptError: The lengths are damaged, or do not add up.
    """
    count = check_texts(tensor, place)
    payload = tensor.payload
    lengths, at = [], 0
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if at == len(payload) or shift > 63:
                raise place.corrupt("the lengths of texts are damaged")
            byte = payload[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if sum(lengths) != len(payload) - at:
        raise place.corrupt(f"texts of {sum(lengths)} bytes, and {len(payload) - at} are there")
    texts = np.empty(count, object)
    for i, length in enumerate(lengths):
        texts[i] = payload[at : at + length]
        at += length
    steps = texts.reshape((tensor.rows, *tensor.step_shape))
    return [pack_texts(steps[row, ...]) for row in range(tensor.rows)]


def _snappy_length(payload: bytes) -> int | None:
    """The unpacked size that a raw Snappy block declares, None if there is none."""
    value = 0
    for position, byte in enumerate(payload[:5]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value
    return None
