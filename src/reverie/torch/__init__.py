"""Batches for PyTorch. Imports torch; needs nothing else that `import reverie` does not.

    from reverie.torch import Loader

    for batch in Loader(buffer, 256, device="cuda", steps=10_000):
        loss, td_errors = learn(batch.observation, batch.action, batch.discount)
        buffer.update_priorities(batch.key, td_errors.detach().cpu())

On the CPU tensors share the memory of the arrays that a batch consists of: nothing is
copied. Each batch has arrays of its own, so they are the caller's to keep and change.
"""

from reverie.torch.batches import TensorBatch, TensorInfo
from reverie.torch.loading import Frozen, Loader, whole
from reverie.torch.sending import tensordict, tensors

__all__ = ["Frozen", "Loader", "TensorBatch", "TensorInfo", "tensordict", "tensors", "whole"]
