"""How many batches one call brings, where calls are dear because other threads run Python."""

from __future__ import annotations

import time
from collections.abc import Callable

# A wait for the interpreter below this is not worth samples that are older when read.
_SHORT_S = 0.0005
# What waiting may cost, as a multiple of the work that a call does.
_DEAR, _CHEAP = 2.0, 0.5


class Pace:
    """Batches per call: few while calls are cheap, more while others keep the interpreter.

    A thread of TensorFlow's that wants to call us waits for the interpreter, 5 ms beside
    any busy thread. The wait is the same for one batch as for many, so each call that
    waited much longer than it worked doubles the next one, and each that hardly waited
    halves it again.

    Args:
        least: batches of a call that did not wait.
        most: never more than these.
        clock: seconds since the epoch, on the clock that `begin` is given.
    """

    def __init__(self, least: int, most: int, clock: Callable[[], float] = time.time) -> None:
        self._least, self._most, self._clock = least, max(least, most), clock
        self._waited_s = self._began_s = 0.0
        self.batches = least

    def begin(self, asked_s: float) -> None:
        """A call has begun that was wanted at this moment."""
        self._began_s = self._clock()
        self._waited_s = self._began_s - asked_s

    def end(self) -> None:
        """The call that began last has brought `batches`; decides about the next one."""
        worked_s = max(self._clock() - self._began_s, 0.0)
        if self._waited_s > max(_SHORT_S, _DEAR * worked_s):
            self.batches = min(2 * self.batches, self._most)
        elif self._waited_s < max(_SHORT_S / 2, _CHEAP * worked_s):
            self.batches = max(self.batches // 2, self._least)
