"""Reverb's protobuf messages, built at run time; they need the package `protobuf`."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Imports a module of messages when it is first asked for, as `cc.schema_pb2`.

    Raises:
        MissingDependencyError: the package `protobuf` is not installed.
    """
    if name in ("patterns_pb2", "schema_pb2"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
