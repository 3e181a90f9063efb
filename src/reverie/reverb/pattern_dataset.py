"""`reverb.pattern_dataset`: needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.pattern_ops import PatternDataset, pattern_dataset_with_info

__all__ = ["PatternDataset", "pattern_dataset_with_info"]
