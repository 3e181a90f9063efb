"""How a call of another process ends: gRPC's codes, by what went wrong here."""

from __future__ import annotations

import enum

from reverie.errors import (
    ClosedError,
    ForkedProcessError,
    InvalidArgumentError,
    ReverieError,
    StepMismatchError,
)
from reverie.reverb.errors import UnknownTableError, UnreachableServerError

_MOST_WORDS = 4000  # gRPC sends them as a header, of 8 KiB at most
# What dm-reverb's samplers look for: then the end of a stream is no error.
TIMEOUT = "Rate Limiter: Timeout exceeded before the right to insert was acquired."
STOPPED = "RateLimiter has been cancelled"


class Code(enum.IntEnum):
    """gRPC's numbers of those that are used."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    INTERNAL = 13


class CallError(ReverieError):
    """A call is to end with a status.

    Args:
        code: of the status.
        words: its text.
    """

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code = code


def unknown_table(name: str) -> CallError:
    """That there is no such table, in dm-reverb's words."""
    return CallError(Code.NOT_FOUND, f"Priority table {name:.200} was not found")


def status_of(error: Exception) -> tuple[Code, str]:
    """The code and the text for what a call raised."""
    return _code(error), _words(error)


def _code(error: Exception) -> Code:
    if isinstance(error, CallError):
        return error.code
    if isinstance(error, UnknownTableError):
        return Code.NOT_FOUND
    if isinstance(error, InvalidArgumentError | StepMismatchError | TypeError):
        return Code.INVALID_ARGUMENT
    if isinstance(error, UnreachableServerError | ClosedError | ForkedProcessError):
        return Code.CANCELLED
    return Code.RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else Code.INTERNAL


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if not isinstance(error, ReverieError | TypeError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _MOST_WORDS else text[: _MOST_WORDS - 3] + "..."
