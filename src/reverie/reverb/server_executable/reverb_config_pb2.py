"""The message that describes a server, as Reverb's module of this name has it.

Importing it needs the package `protobuf`, which the extra `reverb` brings.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

ReverbServerConfig = message_class("ReverbServerConfig")
