"""Arrays as eager tensors."""

from __future__ import annotations

import contextlib
from typing import Any

import optree
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.sample import Batch
from reverie.tf.batches import TensorBatch, TensorInfo
from reverie.tf.framework import tf


def tensors(batch: Batch, device: str | None = None) -> TensorBatch:
    """A batch whose leaves are eager tensors: copies, as TensorFlow's never change.

    Args:
        batch: as `sample` returned it.
        device: such as "/GPU:0"; None: TensorFlow's default.

    Returns:
        The same, in tensors. `info.key` stays a NumPy array of uint64 on the host, for
        `update_priorities`.

    Raises:
        InvalidArgumentError: TensorFlow has no such dtype; names it and the leaf's path.
    """
    key, *facts = batch.info
    with tf.device(device) if device is not None else contextlib.nullcontext():
        data = optree.tree_map_with_path(_tensor, batch.data)
        return TensorBatch(data, TensorInfo(key, *map(tf.convert_to_tensor, facts)))


def _tensor(path: tuple[Any, ...], array: NDArray[Any]) -> Any:
    try:
        return tf.convert_to_tensor(array)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"Leaf {'/'.join(map(str, path))!r:.200}: found {array.dtype.name}, of which "
            f"TensorFlow makes no tensor ({error!s:.100}). Leave it out, or store it as "
            "another dtype."
        ) from None
