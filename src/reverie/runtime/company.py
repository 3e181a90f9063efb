"""Which other threads of the process could end a wait, and who they are.

A thread that has called us may do so again, whatever it does between two calls, and so
may threads of TensorFlow's, which have no Python frame between two fetches, while a
dataset of ours is read. Of any other thread (a progress bar's, a logger's, a notebook's)
nobody knows: it may be an actor that has not begun, or never call.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class _Mark:
    """Lives in a thread's own storage, and so ends with the thread; idents are used again."""

    def __init__(self) -> None:
        self.ident = threading.get_ident()


_local = threading.local()
_marks: weakref.WeakSet[_Mark] = weakref.WeakSet()
_readers: weakref.WeakSet[object] = weakref.WeakSet()
_waiting: set[int] = set()  # threads that wait without a timeout: they end nobody's wait


class Company(NamedTuple):
    """The other threads of the process.

    Attributes:
        callers: those that may end a wait at any time, in words.
        others: names of those that nothing is known of.
    """

    callers: list[str]
    others: list[str]


def met() -> None:
    """Remembers that this thread has called; for as long as it lives."""
    try:
        _ = _local.mark
    except AttributeError:
        _local.mark = mark = _Mark()
        _marks.add(mark)


def read_from_outside(reader: object) -> None:
    """Threads that Python did not start read `reader`, a dataset, for as long as it lives."""
    _readers.add(reader)


def others() -> Company:
    """Who else there is now, and does not wait for somebody itself."""
    own = threading.get_ident()
    known = {mark.ident for mark in list(_marks)}
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    callers: list[str] = []
    unknown: list[str] = []
    for ident in sys._current_frames():
        if ident != own:
            name = repr(names.get(ident, "not started by Python"))
            is_caller = ident in known and ident not in _waiting
            (callers if is_caller else unknown).append(name)
    if len(_readers):
        callers.append("the readers of a dataset")
    return Company(callers, unknown)


@contextmanager
def waits() -> Iterator[None]:
    """Within it this thread waits for others."""
    own = threading.get_ident()
    outermost = own not in _waiting
    _waiting.add(own)
    try:
        yield
    finally:
        if outermost:
            _waiting.discard(own)
