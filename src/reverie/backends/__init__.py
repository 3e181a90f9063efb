"""Engines behind the manager: one protocol, one module each, found by name.

A backend's module has `validate(settings)`, `create(settings)` and `load(settings,
progress)`; the last two return a `Backend`, ready for use.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import ArrayLike

from reverie.backends.settings import BufferSettings
from reverie.checkpoint.format.snapshot import Progress
from reverie.errors import InvalidArgumentError
from reverie.sample import Batch
from reverie.tables.info import BufferInfo

BACKENDS = {
    "embedded": "reverie.backends.embedded",
    "reverb": "reverie.backends.reverb",
}


class Buffer(Protocol):
    """What a manager asks of its buffer: `ReplayBuffer` has it, and each engine's own."""

    def num_frames(self) -> int:
        """Items in the table."""

    def as_dataset(
        self,
        sample_batch_size: int | None,
        num_steps: int | None,
        *,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """A `tf.data.Dataset`."""

    def sample(
        self,
        batch_size: int,
        num_steps: int | None = None,
        *,
        out: Any = None,
        timeout: float | None = None,
        beta: float | None = None,
        normalize: Literal["buffer", "batch"] | None = "buffer",
    ) -> Batch:
        """One batch in NumPy."""

    def gather_all(self) -> Any:
        """Every item, stacked."""

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Every item, one by one."""

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Number of stale keys."""

    def info(self) -> BufferInfo:
        """Sizes, counters, settings."""

    def save(self, wait: bool = True, *, progress: Progress | None = None) -> Path | None:
        """A checkpoint."""

    def clear(self) -> None:
        """Empties the buffer."""

    def close(self) -> None:
        """Releases everything."""


class Backend(Protocol):
    """One buffer on one engine: what only engines know."""

    @property
    def buffer(self) -> Buffer:
        """What the manager's calls go to."""

    @property
    def replay_buffer(self) -> Any:
        """The replay buffer handed to users."""

    @property
    def observer(self) -> Any:
        """The observer handed to users."""

    @property
    def server(self) -> Any:
        """The server of this process that the table is in; None where it is elsewhere."""

    def new_observer(self) -> Any:
        """Another observer, with an episode of its own."""

    def check(self) -> None:
        """Raises what a background save has left behind, and in a forked child."""

    def finish_saving(self) -> None:
        """Waits for a background save; raises what went wrong in it."""

    def close(self) -> None:
        """Closes the observer and the buffer. Idempotent."""


class BackendModule(Protocol):
    """What `BACKENDS` names."""

    def create(self, settings: BufferSettings) -> Backend:
        """A fresh, empty buffer."""

    def load(
        self, settings: BufferSettings, progress: Progress | None, max_nbytes: int | None
    ) -> Backend:
        """The newest checkpoint's buffer."""

    def validate(self, settings: BufferSettings) -> None:
        """Raises for settings that could not work."""


def find_backend(name: str) -> BackendModule:
    """The module of a backend.

    Raises:
        InvalidArgumentError: there is none of that name.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise InvalidArgumentError(
            f"backend: found {name!r:.200}, wanted one of {sorted(BACKENDS)}."
        )
    return importlib.import_module(BACKENDS[name])
