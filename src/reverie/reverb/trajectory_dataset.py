"""`reverb.trajectory_dataset`: needs TensorFlow."""

from __future__ import annotations

from reverie.adapters.tf_reverb.trajectory_dataset import TrajectoryDataset

__all__ = ["TrajectoryDataset"]
