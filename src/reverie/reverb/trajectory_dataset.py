"""`reverb.trajectory_dataset`: whole items. Needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.datasets import TableDataset

__all__ = ["TrajectoryDataset"]


class TrajectoryDataset(TableDataset):
    """Whole items: each column `[T, *shape]`, or `[*shape]` where it was squeezed.

    Arguments and errors are `TableDataset`'s.
    """

    _timesteps = False
