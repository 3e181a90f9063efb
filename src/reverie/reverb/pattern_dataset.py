"""`reverb.pattern_dataset`: needs TensorFlow."""

from __future__ import annotations

from reverie.adapters.tf_reverb.pattern_dataset import (
    PatternDataset,
    pattern_dataset_with_info,
)

__all__ = ["PatternDataset", "pattern_dataset_with_info"]
