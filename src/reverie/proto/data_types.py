"""TensorFlow's dtypes: their numbers in messages, and NumPy's names of them."""

from __future__ import annotations

# By number.
DATA_TYPES = (
    "INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 "
    "QINT32 BFLOAT16 QINT16 QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64 "
    "FLOAT8_E5M2 FLOAT8_E4M3FN"
).split()
STRING = DATA_TYPES.index("STRING")

# Where the two differ by more than capitals.
_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16", "STRING": "object"}
_NAMES = [_NUMPY_NAMES.get(name, name.lower()) for name in DATA_TYPES]
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}


def numpy_name(number: int) -> str:
    """NumPy's name of a dtype, "object" for texts; TensorFlow's where NumPy has none."""
    known = 0 <= number < len(_NAMES)
    return _NAMES[number] if known else f"number {number} of TensorFlow"


def number_of(name: str) -> int | None:
    """The number of the dtype that NumPy calls so; None where TensorFlow has none like it."""
    return _NUMBERS.get(name)
