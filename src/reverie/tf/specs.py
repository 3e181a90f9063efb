"""Whether a data spec can be the element of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.nests.specs import Column
from reverie.nests.structure import children, is_nested
from reverie.tf.framework import tf

# TensorFlow 2.15 has these dtypes, but no kernels that take rows of them apart.
_NO_ELEMENTS = ("float8", "int4", "uint4")
_WAY_OUT = "`sample()` gives batches of it in NumPy"


def check_spec(spec: Any, columns: Sequence[Column], name: str) -> None:
    """Refuses what tf.data would fail on later, in words of its own.

    Args:
        spec: the nest of a step.
        columns: its leaves.
        name: what users call it.

    Raises:
        InvalidArgumentError: a node is a list or None, or a mapping whose keys cannot be
            sorted; or a leaf has a dtype that tf.data has not. Names where.
    """
    _check_nodes(spec, name)
    for column in columns:
        dtype = column.spec.dtype
        try:
            known = not tf.as_dtype(dtype).name.startswith(_NO_ELEMENTS)
        except TypeError:
            known = False
        if not known:
            raise InvalidArgumentError(
                f"{name}: {column.path!r:.200} has the dtype {dtype.name}, which tf.data "
                f"cannot cut into elements. Store its bits as uint8 and tf.bitcast them; "
                f"{_WAY_OUT}."
            )


def _check_nodes(node: Any, path: str) -> None:
    if isinstance(node, list):
        raise InvalidArgumentError(
            f"{path} is a Python list, which tf.data would turn into one tensor. Use tuples, "
            "dicts or named tuples instead."
        )
    if node is None:
        raise InvalidArgumentError(
            f"{path} is None, of which tf.data makes no tensor. Use an empty tuple instead; "
            f"{_WAY_OUT}."
        )
    if isinstance(node, Mapping):
        try:
            sorted(node)
        except TypeError:
            raise InvalidArgumentError(
                f"{path} has keys of several types, {list(node)!r:.200}, which TensorFlow "
                f"cannot sort. Use keys of one type, such as str; {_WAY_OUT}."
            ) from None
    for key, child in children(node) if is_nested(node) else ():
        _check_nodes(child, f"{path}[{key!r:.200}]")
