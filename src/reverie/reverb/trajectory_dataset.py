"""`reverb.trajectory_dataset`: needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.trajectory_dataset import TrajectoryDataset

__all__ = ["TrajectoryDataset"]
