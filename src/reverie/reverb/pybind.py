"""The engine under the names that Reverb gives its own: re-exports, nothing else.

Reverb's programs seldom need this module; its classes are what `isinstance` checks
and test doubles refer to.
"""

from __future__ import annotations

import importlib
from typing import Any

from reverie.reverb.engine.server import Checkpointer, create_default_checkpointer
from reverie.reverb.engine.tables import Table, TableExtension
from reverie.reverb.wire.server import Server
from reverie.tables.limiters import Limiter as RateLimiter
from reverie.tables.selectors import (
    FifoSelector,
    HeapSelector,
    ItemSelector,
    LifoSelector,
    PrioritizedSelector,
    UniformSelector,
)

# Imported at the first use, so that a Table costs no import of the writers.
_LATE = {
    "AutoTunedChunkerOptions": "engine.writing.chunker_options",
    "ChunkerOptions": "engine.writing.chunker_options",
    "Client": "engine.local_client",
    "ConstantChunkerOptions": "engine.writing.chunker_options",
    "Sampler": "engine.sampler",
    "StructuredWriter": "engine.patterns.pattern_writer",
    "TrajectoryWriter": "engine.writing.item_writer",
    "WeakCellRef": "engine.writing.cell_refs",
    "Writer": "engine.writing.step_writer",
    "selector_from_proto": "cc.selectors",
}

__all__ = [
    "Checkpointer",
    "FifoSelector",
    "HeapSelector",
    "ItemSelector",
    "LifoSelector",
    "PrioritizedSelector",
    "RateLimiter",
    "Server",
    "Table",
    "TableExtension",
    "UniformSelector",
    "create_default_checkpointer",
    *_LATE,
]


def __getattr__(name: str) -> Any:
    """The names that are imported late."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"reverie.reverb.{_LATE[name]}"), name)
    globals()[name] = value
    return value
