"""TensorFlow itself, and which versions of it the tests have met."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from reverie.runtime.optional import require

__all__ = ["tf", "untested"]

TESTED = "2.15", "2.21"
"""Versions of TensorFlow, as far as they are tested with: TF-Agents' one, and the newest."""

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = require("tensorflow", "tf", "reverie.tf")


def untested(version: str) -> str:
    """What to tell of this version of TensorFlow; empty where it is tested with."""
    if ".".join(version.split(".")[:2]) in TESTED:
        return ""
    return (
        f"reverie.tf: found TensorFlow {version}, which it was not tested with; it was with "
        f"{' and '.join(TESTED)}. Should something be odd, install one of these."
    )


if untested(tf.__version__):
    warnings.warn(untested(tf.__version__), stacklevel=2)
