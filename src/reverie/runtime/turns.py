"""Short turns at the interpreter, for work that is made of many small calls to the system.

Each such call lets the interpreter go and must get it back. Beside a thread that never lets
go of its own accord that takes 5 ms, Python's switch interval, a hundred times the call: a
save of a small buffer makes some eighty. So while such work goes on, whoever wants the
interpreter gets it within 50 us. That is a setting of the whole process, as
`sys.setswitchinterval` is: other threads are as fast but for some microseconds a turn.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_TURN_S = 50e-6


class ShortTurns:
    """The switch interval while anyone needs it short, and what it was before. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual_s = 0.0

    @contextlib.contextmanager
    def wanted(self) -> Iterator[None]:
        """Turns are short until the last of those who want them so is done.

        An interval that someone else sets meanwhile is left as it is.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(_TURN_S, self._usual_s))
        try:
            yield
        finally:
            with self._lock:
                self._users = max(0, self._users - 1)
                if self._users == 0:
                    self._restore()

    def forget_after_fork(self) -> None:
        """Those who wanted them are threads of the parent."""
        self._lock = threading.Lock()
        if self._users:
            self._users = 0
            self._restore()

    def _restore(self) -> None:
        if round(sys.getswitchinterval() * 1e6) == round(_TURN_S * 1e6):
            sys.setswitchinterval(self._usual_s)


short_turns = ShortTurns()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=short_turns.forget_after_fork)
