"""`reverb.timestep_dataset`: needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.timestep_dataset import TimestepDataset

__all__ = ["TimestepDataset"]
