"""Messages about tables, items and chunks, as Reverb's module of this name has them.

Importing it needs the package `protobuf`, which the extra `reverb` brings.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

ChunkData = message_class("ChunkData")
FlatTrajectory = message_class("FlatTrajectory")
KeyDistributionOptions = message_class("KeyDistributionOptions")
KeyWithPriority = message_class("KeyWithPriority")
PrioritizedItem = message_class("PrioritizedItem")
RateLimiterCallStats = message_class("RateLimiterCallStats")
RateLimiterInfo = message_class("RateLimiterInfo")
SampleInfo = message_class("SampleInfo")
SequenceRange = message_class("SequenceRange")
SliceRange = message_class("SliceRange")
TableInfo = message_class("TableInfo")
TableWorkerTime = message_class("TableWorkerTime")
Timeout = message_class("Timeout")
Uint128 = message_class("Uint128")
