"""Waiting for data: with a timeout, open to Ctrl-C, never silent, never in vain."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable

from reverie.errors import EndlessWaitError, WaitTimeoutError

_SLICE_S = 0.1  # how long Ctrl-C may have to wait
_FIRST_REPORT_S = 5.0
_log = logging.getLogger("reverie")


def wait_until(
    ready: Callable[[float], bool],
    *,
    timeout: float | None,
    what: Callable[[], str],
    way_out: str = (
        "nobody could add to it. Add steps first, add them from another thread, or pass a "
        "timeout."
    ),
) -> None:
    """Calls `ready(slice_s)` until it says True.

    Args:
        ready: waits at most so many seconds, without the GIL; True when the wait
            is over. It may raise, for example when the store is closed.
        timeout: seconds; None waits for ever, 0 does not wait at all.
        what: says in words what is waited for, with the numbers. Logged as `report`
            has it.
        way_out: what follows "this is the only thread of the process, so".

    Raises:
        WaitTimeoutError: `timeout` passed.
        EndlessWaitError: there is no timeout, and this is the only thread of the
            process, so nobody is left who could add what is waited for.
    """
    start = time.monotonic()
    reported = 0.0
    while True:
        waited = time.monotonic() - start
        left = _SLICE_S if timeout is None else min(_SLICE_S, timeout - waited)
        if ready(max(left, 0.0)):
            return
        waited = time.monotonic() - start
        if timeout is not None and waited >= timeout:
            raise WaitTimeoutError(f"Waited {waited:.3g} s {what()}.")
        if timeout is None and len(sys._current_frames()) == 1:
            if ready(0.0):  # another thread may have done its part and ended just before
                return
            raise EndlessWaitError(
                f"Would wait for ever {what()}: this is the only thread of the process, so "
                f"{way_out}"
            )
        report(reported, waited, what)
        reported = waited


def report(before: float, waited: float, what: Callable[[], str], who: str = "Waiting") -> None:
    """Warns in the log of a long wait: after five seconds, then each time it has doubled.

    Args:
        before: seconds that it had lasted at the last call; 0 at the first.
        waited: seconds that it lasts now.
        what: see `wait_until`; called where there is something to log.
        who: begins the sentence.
    """
    if _reports(waited) > _reports(before):
        _log.warning("%s for %.0f s so far %s.", who, waited, what())


def _reports(waited: float) -> int:
    """How many reports a wait of so many seconds is worth."""
    return 0 if waited < _FIRST_REPORT_S else 1 + int(math.log2(waited / _FIRST_REPORT_S))
