"""Arrays as those of JAX, that share their memory where they can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reverie.jax.batches import ArrayBatch, ArrayInfo
from reverie.runtime.optional import require
from reverie.sample import Batch

if TYPE_CHECKING:
    import jax
else:
    jax = require("jax", "jax", "reverie.jax")


def arrays(batch: Batch, sharding: Any = None) -> ArrayBatch:
    """A batch whose leaves are arrays of JAX.

    On the CPU they share the memory of the batch's, which begins at multiples of 64 bytes;
    what NumPy has computed may be copied. So whoever has handed a batch to JAX must not
    write to it any more: not by hand, and not by `sample(out=...)`, for JAX computes later
    than it is called. Batches that `sample` makes by itself are fresh ones, each.

    Without `jax_enable_x64` JAX makes 32 bits of integers and floats of 64.

    Args:
        batch: as `sample` returned it.
        sharding: a device, or one of `jax.sharding`, for all leaves; None: JAX's default.

    Returns:
        The same, in arrays of JAX. `info.key` stays a NumPy array of uint64, which JAX
        would cut.
    """
    key, *facts = batch.info
    data, facts = jax.device_put((batch.data, facts), sharding)
    return ArrayBatch(data, ArrayInfo(key, *facts))
