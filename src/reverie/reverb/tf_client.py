"""`reverb.tf_client`: needs TensorFlow."""

from __future__ import annotations

from reverie.reverb.tf.client_ops import TFClient

__all__ = ["TFClient"]
