"""Reverie's manager at the import path of Smart Control's.

`smart_control` is a namespace package here: a real checkout of Smart Control on
the path, which is a regular package, wins over it.
"""

from reverie.manager import ReplayBufferManager

__all__ = ["ReplayBufferManager"]
