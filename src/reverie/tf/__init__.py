"""Datasets and batches for TensorFlow. Imports tensorflow.

    from reverie.tf import dataset

    for data, info in dataset(buffer, 256, beta=0.4).take(10_000):
        td_errors = train(data["observation"], data["action"], data["discount"], info.weight)
        buffer.update_priorities(info.key, td_errors)

`tensors(buffer.sample(256))` is one batch in eager tensors. A manager's windows have
`manager.get_dataset()`.
"""

from reverie.tf.batches import TensorBatch, TensorInfo
from reverie.tf.converting import tensors
from reverie.tf.views import dataset

__all__ = ["TensorBatch", "TensorInfo", "dataset", "tensors"]
