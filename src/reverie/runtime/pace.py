"""How many batches one call brings, where calls are dear because other threads run Python."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# A wait for the interpreter below this is not worth samples that are older when read.
_SHORT_S = 0.0005
# What waiting may cost, as a multiple of the work that a call does.
_DEAR, _CHEAP = 2.0, 0.5
# Windows counts a thread's work in ticks of 16 ms; there, all of a call's time is work.
_WORKED = time.perf_counter if sys.platform == "win32" else time.thread_time


class Pace:
    """Batches per call: few while calls are cheap, more while others keep the interpreter.

    A thread of TensorFlow's that wants to call us waits for the interpreter, 5 ms beside
    any busy thread, and again each time that the call lets it go. These waits are the same
    for one batch as for many, so each call that waited much longer than it worked doubles
    the next one, and each that hardly waited halves it again.

    Args:
        least: batches of a call that did not wait.
        most: never more than these.
        clock: seconds since the epoch, on the clock that `begin` is given.
        worked: seconds that this thread has worked, whatever the epoch.
    """

    def __init__(
        self,
        least: int,
        most: int,
        clock: Callable[[], float] = time.time,
        worked: Callable[[], float] = _WORKED,
    ) -> None:
        self._least, self._most = least, max(least, most)
        self._clock, self._worked = clock, worked
        self._asked_s = self._worked_s = 0.0
        self.batches = least

    def begin(self, asked_s: float) -> None:
        """A call has begun that was wanted at this moment."""
        self._asked_s, self._worked_s = asked_s, self._worked()

    def end(self) -> None:
        """The call that began last has brought `batches`; decides about the next one.

        From the thread that called `begin`.
        """
        worked_s = max(self._worked() - self._worked_s, 0.0)
        waited_s = self._clock() - self._asked_s - worked_s
        if waited_s > max(_SHORT_S, _DEAR * worked_s):
            self.batches = min(2 * self.batches, self._most)
        elif waited_s < max(_SHORT_S / 2, _CHEAP * worked_s):
            self.batches = max(self.batches // 2, self._least)
