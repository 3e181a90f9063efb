"""Waiting for data: with a timeout, open to Ctrl-C, never silent, never in vain."""

from __future__ import annotations

import logging
import math
import numbers
import sys
import time
from collections.abc import Callable
from typing import Any

from reverie.errors import EndlessWaitError, InvalidArgumentError, WaitTimeoutError

_SLICE_S = 0.1  # how long Ctrl-C may have to wait
_FIRST_REPORT_S = 5.0
_log = logging.getLogger("reverie")


def check_timeout(timeout: Any) -> float | None:
    """`timeout` in seconds, as `wait_until` wants it: infinity means None.

    Raises:
        InvalidArgumentError: it is no number, or below 0. (Reverb's -1 is None here.)
    """
    number = isinstance(timeout, numbers.Real) and not isinstance(timeout, bool)
    seconds = float(timeout) if number else math.nan
    if not seconds >= 0:
        raise InvalidArgumentError(
            f"timeout: found {timeout!r:.200}, wanted seconds >= 0, or None to wait for ever."
        )
    return None if seconds == math.inf else seconds


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
        what: says in words what is waited for, with the numbers. Logged as a
            warning after five seconds, then each time the wait has doubled.
        way_out: what follows "this is the only thread of the process, so".

    Raises:
        WaitTimeoutError: `timeout` passed.
        EndlessWaitError: there is no timeout, and this is the only thread of the
            process, so nobody is left who could add what is waited for.
    """
    start = time.monotonic()
    report_at = _FIRST_REPORT_S
    while True:
        waited = time.monotonic() - start
        left = _SLICE_S if timeout is None else min(_SLICE_S, timeout - waited)
        if ready(max(left, 0.0)):
            return
        waited = time.monotonic() - start
        if timeout is not None and waited >= timeout:
            raise WaitTimeoutError(f"Waited {waited:.3g} s {what()}.")
        if timeout is None and len(sys._current_frames()) == 1:
            raise EndlessWaitError(
                f"Would wait for ever {what()}: this is the only thread of the process, so "
                f"{way_out}"
            )
        if waited >= report_at:
            _log.warning("Waiting for %.0f s so far %s.", waited, what())
            report_at *= 2
