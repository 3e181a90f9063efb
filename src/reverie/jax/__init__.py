"""Batches for JAX. Imports jax; needs nothing else that `import reverie` does not.

from reverie.jax import arrays

batch = arrays(buffer.sample(256))
state, td_errors = update(state, batch.observation, batch.action, batch.discount)
buffer.update_priorities(batch.key, td_errors)
"""

from reverie.jax.batches import ArrayBatch, ArrayInfo
from reverie.jax.converting import arrays

__all__ = ["ArrayBatch", "ArrayInfo", "arrays"]
