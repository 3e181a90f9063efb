"""The message that describes a server, as Reverb's module of this name has it.

Importing it needs the package `protobuf`: `pip install 'reverie-replay[reverb]'`.
"""

from __future__ import annotations

from reverie.proto.schema import message_class

ReverbServerConfig = message_class("ReverbServerConfig")
