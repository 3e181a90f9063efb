"""Reads the checkpoints of dm-reverb with neither Reverb nor TensorFlow installed.

`find_newest` finds a checkpoint in a checkpointer's folder and `read_checkpoint`
reads it. Both need the `reverb-files` extra (cramjam, google-crc32c, protobuf),
which is imported when it is first needed.
"""

from __future__ import annotations

from reverie.checkpoint.reverb_files.model import (
    ReverbRateLimiter,
    ReverbSelector,
    ReverbTable,
)
from reverie.checkpoint.reverb_files.reader import find_newest, read_checkpoint

__all__ = [
    "ReverbRateLimiter",
    "ReverbSelector",
    "ReverbTable",
    "find_newest",
    "read_checkpoint",
]
