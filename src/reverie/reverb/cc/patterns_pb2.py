"""Messages of a StructuredWriter's patterns, as Reverb's module of this name has them.

Importing it needs the package `protobuf`, which the extra `reverb` brings.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

Condition = message_class("Condition")
PatternNode = message_class("PatternNode")
Priority = message_class("Priority")
StructuredWriterConfig = message_class("StructuredWriterConfig")
