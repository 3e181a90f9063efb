"""`reverb.tf_client`: needs TensorFlow."""

from __future__ import annotations

from reverie.adapters.tf_reverb.tf_client import TFClient

__all__ = ["TFClient"]
