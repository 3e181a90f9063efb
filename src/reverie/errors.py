"""Every error that Reverie raises on purpose: one class per cause, one base.

`ReverieError` is the base. Where Python or TF-Agents users expect a built-in
type (a missing checkpoint is a `FileNotFoundError`, a bad argument a
`ValueError`), the class also derives from it, so existing `except` clauses
keep working. Messages say where, what was found, what was wanted, and the way
out.
"""

from __future__ import annotations


class ReverieError(Exception):
    """Base of every error raised by this library on purpose."""


class InvalidArgumentError(ReverieError, ValueError):
    """An argument is out of range or two arguments contradict each other."""


class SpecError(ReverieError, ValueError):
    """A data spec holds a leaf that cannot be stored in a fixed-width record."""


class StepMismatchError(ReverieError, ValueError):
    """A step does not match the data spec: its structure, a dtype, a shape.

    Nothing of the step was stored.
    """


class ClosedError(ReverieError, ValueError):
    """The manager, replay buffer, observer or store was closed before."""


class NotInitializedError(ReverieError, RuntimeError):
    """Something was asked of a manager before it created or loaded a buffer."""


class WaitTimeoutError(ReverieError, TimeoutError):
    """A wait for data reached its timeout; nothing was sampled."""


class EndlessWaitError(ReverieError, RuntimeError):
    """A wait without a timeout that nothing in this process could ever end."""


class UnsupportedError(ReverieError, NotImplementedError):
    """The engine that was chosen cannot do this; the message says why, and what can."""


class UnstackableError(ReverieError, ValueError):
    """Items of unequal lengths, or unequal steps per column, cannot be stacked."""


class MissingDependencyError(ReverieError, ImportError):
    """An optional package is not installed; the message holds the command."""


class ShadowedPackageError(ReverieError, RuntimeError):
    """A package that was asked to stand in for another would hide one that is there."""


class ForkedProcessError(ReverieError, RuntimeError):
    """A buffer made before `os.fork()` was used in the child process."""


class CheckpointError(ReverieError):
    """Base of every error about checkpoints on disk."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The folder holds no complete checkpoint."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint is damaged: a checksum, a size, a reference or a value."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint was written in a format newer than this library reads."""


class CheckpointLimitError(CheckpointError):
    """A checkpoint asks for more memory than the stated limit allows."""


class CheckpointMismatchError(CheckpointError, ValueError):
    """A sound checkpoint does not fit the data spec or settings asked for."""


class CheckpointLockedError(CheckpointError):
    """Another process is saving into the same folder."""


class CheckpointReadError(CheckpointError, OSError):
    """A checkpoint could not be read: permissions, too many open files, a failing disk."""


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint could not be written; earlier checkpoints are untouched."""
