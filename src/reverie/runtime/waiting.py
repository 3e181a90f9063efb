"""Waiting for data: with a timeout, open to Ctrl-C, never silent, never in vain."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable

from reverie.errors import EndlessWaitError, InvalidArgumentError, WaitTimeoutError
from reverie.runtime import company, leaving

_SLICE_S = 0.1  # how long Ctrl-C may have to wait
_FIRST_REPORT_S = 5.0
_log = logging.getLogger("reverie")
_patience_s = 60.0


def set_patience(seconds: float) -> None:
    """How long a wait without a timeout counts on threads that have never called us.

    A wait for data or room has no end where nobody could end it, and is refused. Threads
    that have called Reverie, and TensorFlow's while a dataset is read, are waited for
    without limit; any other thread (it may be an actor that is still starting, or a
    progress bar's) for so long, from the last sign that something moves. 60 by default.

    Args:
        seconds: >= 0; infinity trusts in every thread.

    Raises:
        InvalidArgumentError: it is no number, or below 0.
    """
    global _patience_s
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidArgumentError(
            f"patience: found {seconds!r:.200}, wanted seconds >= 0 (math.inf: without limit)."
        )
    _patience_s = float(seconds)


def wait_until(
    ready: Callable[[float], bool],
    *,
    timeout: float | None,
    what: Callable[[], str],
    way_out: str = (
        "nobody could add to it. Add steps first, add them from another thread, or pass a "
        "timeout."
    ),
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Calls `ready(slice_s)` until it says True.

    Without a timeout it waits while another thread could end the wait: one that has
    called us, or a dataset's reader, without limit; any other for as long as
    `set_patience` says. Threads that wait for others themselves are such others.

    Args:
        ready: waits at most so many seconds, without the GIL; True when the wait
            is over. It may raise, for example when the store is closed.
        timeout: seconds; None waits for ever, 0 does not wait at all.
        what: says in words what is waited for, with the numbers. Logged as `report`
            has it.
        way_out: what follows "this is the only thread of the process, so".
        progress: what moves while somebody is at work, compared with `==`; then the
            patience begins anew.

    Raises:
        WaitTimeoutError: `timeout` passed.
        EndlessWaitError: there is no timeout, and nobody is left who could end the wait;
            names the threads that were counted on.
        ClosedError: no timeout, the interpreter exits, and Python did not start this thread.
    """
    company.met()
    start = time.monotonic()
    reported = 0.0
    moved, seen = start, progress()
    with company.waits() if timeout is None else contextlib.nullcontext():
        while True:
            waited = time.monotonic() - start
            left = _SLICE_S if timeout is None else min(_SLICE_S, timeout - waited)
            if ready(max(left, 0.0)):
                return
            if timeout is None:
                leaving.check_staying()
            now = time.monotonic()
            waited = now - start
            if timeout is not None and waited >= timeout:
                raise WaitTimeoutError(f"Waited {waited:.3g} s {what()}.")
            if timeout is None:
                found = company.others()
                latest = progress()
                if found.callers or latest != seen:
                    moved, seen = now, latest
                elif not found.others or now - moved >= _patience_s:
                    if ready(0.0):  # another thread may have done its part just before
                        return
                    raise EndlessWaitError(
                        f"Would wait for ever {what()}: {_nobody(found.others)}, so {way_out}"
                    )
            report(reported, waited, what, counted=timeout is None)
            reported = waited


def _nobody(others: list[str]) -> str:
    if not others:
        return "this is the only thread of the process"
    return (
        f"for {_patience_s:g} s nothing has moved, and of the other threads "
        f"({', '.join(others):.200}) none has ever called Reverie or all wait, too "
        "(reverie.set_patience() changes how long such threads are waited for)"
    )


def report(
    before: float,
    waited: float,
    what: Callable[[], str],
    who: str = "Waiting",
    *,
    counted: bool = False,
) -> None:
    """Warns in the log of a long wait: after five seconds, then each time it has doubled.

    Args:
        before: seconds that it had lasted at the last call; 0 at the first.
        waited: seconds that it lasts now.
        what: see `wait_until`; called where there is something to log.
        who: begins the sentence.
        counted: whether to add which threads could end it.
    """
    if _reports(waited) > _reports(before):
        whom = ""
        if counted:
            found = company.others()
            whom = f" Who could end it: {', '.join(found.callers + found.others):.200}."
        _log.warning("%s for %.0f s so far %s.%s", who, waited, what(), whom)


def _reports(waited: float) -> int:
    """How many reports a wait of so many seconds is worth."""
    return 0 if waited < _FIRST_REPORT_S else 1 + int(math.log2(waited / _FIRST_REPORT_S))
