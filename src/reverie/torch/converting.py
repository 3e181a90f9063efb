"""Arrays as tensors that share their memory."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.optional import require
from reverie.sample import Batch
from reverie.torch.batches import TensorBatch, TensorInfo

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch", "reverie.torch")


def map_batch(function: Callable[[Any], Any], batch: Batch | TensorBatch) -> TensorBatch:
    """A batch with `function(leaf)` for each leaf; the keys stay what they are."""
    key, *facts = batch.info
    found = [fact if fact is None else function(fact) for fact in facts]
    return TensorBatch(map_data(function, batch.data), TensorInfo(key, *found))


def map_data(function: Callable[[Any], Any], data: Any) -> Any:
    """`function(leaf)` for each leaf; its InvalidArgumentError has the leaf's path."""
    try:
        return optree.tree_map(function, data)
    except InvalidArgumentError:  # paths cost more than all the rest

        def explained(path: tuple[Any, ...], leaf: Any) -> None:
            try:
                function(leaf)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(
                    f"Leaf {'/'.join(map(str, path))!r:.200}: {error}"
                ) from None

        optree.tree_map_with_path(explained, data)
        raise


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of the array's memory; of a copy where its strides are negative.

    Raises:
        InvalidArgumentError: PyTorch has no such dtype.
    """
    dtype = dtype_of(array.dtype)
    if array.dtype.isbuiltin == 2:  # of another package, as bfloat16
        array = array.view(np.uint8 if array.dtype.itemsize == 1 else np.int16)
    try:
        found = torch.from_numpy(array)
    except ValueError:  # a view's function has turned it around
        found = torch.from_numpy(array.copy())
    return found if found.dtype == dtype else found.view(dtype)


@functools.cache
def dtype_of(dtype: np.dtype[Any]) -> torch.dtype:
    """PyTorch's dtype of the same name.

    Raises:
        InvalidArgumentError: it has none.
    """
    found = getattr(torch, dtype.name, None)
    # Of fewer bits PyTorch has names alone.
    if not isinstance(found, torch.dtype) or re.fullmatch("u?int[1-7]", dtype.name):
        raise InvalidArgumentError(
            f"found {dtype.name}, which PyTorch has not. Leave it out, or store it as another "
            "dtype."
        )
    return found
