"""Messages of Reverb's checkpoints, as its module of this name has them.

Importing it needs the package `protobuf`: `pip install 'reverie-replay[reverb]'`.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

PriorityTableCheckpoint = message_class("PriorityTableCheckpoint")
RateLimiterCheckpoint = message_class("RateLimiterCheckpoint")
