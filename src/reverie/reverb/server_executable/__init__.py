"""Servers made from protobuf descriptions."""
