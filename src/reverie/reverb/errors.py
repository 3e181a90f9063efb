"""The errors of Reverb's API, which programs written for Reverb catch.

They are this library's own as well: each derives from `reverie.ReverieError`, and
from the built-in type that real Reverb raises in the same place.
"""

from __future__ import annotations

from reverie.errors import ReverieError, WaitTimeoutError


class ReverbError(ReverieError):
    """Base of the errors that Reverb has a class of its own for."""


class DeadlineExceededError(ReverbError, WaitTimeoutError):
    """A call did not end within the timeout that it was given."""


class UnreachableServerError(ReverbError, RuntimeError):
    """No server of this process has the address, or it was stopped.

    Reverb says "connections to all backends failing" in a `RuntimeError`, or tries
    for ever; here the answer is known at once.
    """


class UnknownTableError(ReverbError, RuntimeError):
    """The server has no table of that name; the message lists those that it has."""


class ClosedWriterError(ReverbError, RuntimeError):
    """A writer was used after its `close()`."""
