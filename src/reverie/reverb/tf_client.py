"""`reverb.tf_client`: needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.tf_client import TFClient

__all__ = ["TFClient"]
