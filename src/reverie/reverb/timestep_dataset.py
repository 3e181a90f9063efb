"""`reverb.timestep_dataset`: the steps of items, one after the other. Needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.datasets import TableDataset

__all__ = ["TimestepDataset"]


class TimestepDataset(TableDataset):
    """Steps: an item's from its first to its last, then those of the next item.

    Nothing marks where an item ends. `dtypes` and `shapes` are those of one step, and
    so is the signature of a table that has one; every column of an item must have one
    value for each step. `max_samples` counts items. Arguments and errors are
    `TableDataset`'s.
    """

    _timesteps = True
