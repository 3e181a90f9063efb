"""Cells: what a leaf of a step is stored as, and what comes back.

Most leaves are arrays of one dtype and shape, which the core stores as they are.
Texts (str, bytes and arrays of them) are cells of any length: a lone text is its
bytes (UTF-8), and an array of texts a small record of its own (`checkpoint.texts`).
Both come back as NumPy arrays of bytes objects, as from Reverb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.nests.specs import is_storable
from reverie.tables.text_cells import pack_texts, unpack_texts

_TENSORFLOW_NAMES = {
    "float32": "float",
    "float64": "double",
    "float16": "half",
    "object": "string",
}
_UINT64 = 2**64


@dataclass(frozen=True, slots=True)
class CellSpec:
    """What all cells of a column have in common.

    Attributes:
        dtype: native byte order; object for texts.
        shape: of one cell.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        """Whether cells are texts, of any length."""
        return self.dtype.kind == "O"

    @property
    def layout(self) -> _core.RecordLayout | None:
        """As the core's `add_column` wants it."""
        return None if self.is_text else _core.RecordLayout([(self.dtype, self.shape)])


def cell_of(value: Any) -> tuple[Any, CellSpec]:
    """What the core stores for a leaf, and its spec.

    Python numbers become int64 (uint64 above its range), float64, complex128 and
    bool; arrays keep their dtype, in native byte order; str and bytes, and arrays of
    them, become texts.

    Raises:
        TypeError: it is no number, text or array of one of Reverb's dtypes.
    """
    kind = type(value)
    if kind is float:
        return np.float64(value), _FLOAT
    if kind is int and -(2**63) <= value < 2**63:
        return np.int64(value), _INT
    if isinstance(value, str | bytes):
        return pack_texts(_texts(np.array(value, object))), _TEXT
    if kind is int and 0 <= value < _UINT64:
        return np.uint64(value), CellSpec(np.dtype(np.uint64), ())
    try:
        array: NDArray[Any] = np.asarray(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise TypeError(f"found {value!r:.200}, which is no array ({error!s:.200}).") from None
    dtype = array.dtype
    if dtype.kind in "USO":
        return pack_texts(_texts(array)), CellSpec(np.dtype(object), array.shape)
    if not is_storable(dtype):
        raise TypeError(
            f"found {value!r:.200} of dtype {dtype}; wanted a bool, integer, float or complex "
            "number, a str or bytes, or an array of them."
        )
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
        array = array.astype(dtype)
    return array, CellSpec(dtype, array.shape)


_FLOAT = CellSpec(np.dtype(np.float64), ())
_INT = CellSpec(np.dtype(np.int64), ())
_TEXT = CellSpec(np.dtype(object), ())


def column_of(column: Any) -> NDArray[Any]:
    """A column as the core samples it, with its texts unpacked: (T, *shape) or (*shape)."""
    if isinstance(column, np.ndarray):
        return column
    if isinstance(column, bytes):
        return unpack_texts(column)
    return stack([unpack_texts(cell) for cell in column])


def stack(cells: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Cells of one spec along a new first axis; np.stack would look into the texts."""
    stacked = np.empty((len(cells), *cells[0].shape), cells[0].dtype)
    for i, cell in enumerate(cells):
        stacked[i, ...] = cell
    return stacked


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name that Reverb's messages have for a dtype: float, double, int64, string."""
    name: str = dtype.name
    return _TENSORFLOW_NAMES.get(name, name)


def shape_name(shape: Sequence[int | None] | None) -> str:
    """A shape as Reverb's messages have it: [], [3,2], [?,2], <unknown>."""
    if shape is None:
        return "<unknown>"
    return f"[{','.join('?' if extent is None else str(extent) for extent in shape)}]"


def _texts(array: NDArray[Any]) -> NDArray[np.object_]:
    texts = np.empty(array.size, dtype=object)
    for i, text in enumerate(array.ravel()):
        if isinstance(text, str):
            try:
                texts[i] = text.encode()
            except UnicodeEncodeError as error:
                raise TypeError(
                    f"found {text!r:.200}, which UTF-8 cannot express ({error.reason}). Encode "
                    "it yourself and pass bytes."
                ) from None
        elif isinstance(text, bytes):
            texts[i] = bytes(text)
        else:
            raise TypeError(
                f"found {text!r:.200} of type {type(text).__name__}, which is no number, text "
                "or array of them, and cannot be stored."
            )
    return texts.reshape(array.shape)
