"""Messages of Reverb's checkpoints, as its module of this name has them.

Importing it needs the package `protobuf`, which the extra `reverb` brings.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

PriorityTableCheckpoint = message_class("PriorityTableCheckpoint")
RateLimiterCheckpoint = message_class("RateLimiterCheckpoint")
