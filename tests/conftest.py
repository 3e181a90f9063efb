"""What every test may take for granted."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from hypothesis import settings

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: the
# tests of Ctrl-C would then fail there alone.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    # A thread of pytest-xdist listens to the process that hands out the tests. It ends no
    # wait, so a test that is alone must not seem to have company.
    _ITS_OWN = set(sys._current_frames()) - {threading.get_ident()}
    _every_frame = sys._current_frames

    def _without_its_own() -> dict[int, FrameType]:
        frames = {k: frame for k, frame in _every_frame().items() if k not in _ITS_OWN}
        frames[threading.get_ident()] = sys._getframe(1)  # the caller's, as without this
        return frames

    sys._current_frames = _without_its_own

# Servers are for this process alone but in the tests of others' clients: what else waits for
# ever would wait for them.
os.environ.setdefault("REVERIE_LISTEN", "off")

# Hypothesis' profile: `modest` unless HYPOTHESIS_PROFILE=long looks further. No deadline: on a
# busy machine it fails a test that is right. Without a database nothing is written beside the
# sources. The modest one finds the same on each run; the long one looks elsewhere each time
# and prints how to repeat it.
settings.register_profile(
    "modest", max_examples=60, deadline=None, database=None, derandomize=True
)
settings.register_profile(
    "long", max_examples=1000, deadline=None, database=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "modest")
