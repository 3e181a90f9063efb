"""Engines behind the manager: one protocol, one module each, found by name.

A backend's module has `create(settings)` and `load(settings, progress)`; both
return a `Backend`, ready for use.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import ArrayLike

from reverie.checkpoint.format.snapshot import Progress
from reverie.errors import InvalidArgumentError
from reverie.sample import SampleInfo

BACKENDS = {
    "embedded": "reverie.backends.embedded",
    "reverb": "reverie.backends.reverb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSettings:
    """What a manager was asked for; the meaning of each is said there."""

    data_spec: Any
    capacity: int
    checkpoint_dir: Path
    sequence_length: int
    table_name: str
    stride_length: int
    pad_end_of_episodes: bool
    tile_end_of_episodes: bool
    seed: int | None
    max_to_keep: int | None
    on_corrupt: str
    server_address: str | None = None


class Backend(Protocol):
    """One buffer on one engine. Its methods mean what the manager's say."""

    @property
    def replay_buffer(self) -> Any:
        """The replay buffer handed to users."""

    @property
    def observer(self) -> Any:
        """The observer handed to users."""

    def new_observer(self) -> Any:
        """Another observer, with an episode of its own."""

    def check(self) -> None:
        """Raises what a background save has left behind."""

    def finish_saving(self) -> None:
        """Waits for a background save; raises what went wrong in it."""

    def num_frames(self) -> int:
        """Items in the table."""

    def dataset(self, batch_size: int, num_steps: int | None) -> Any:
        """A `tf.data.Dataset`."""

    def sample(
        self, batch_size: int, num_steps: int | None, out: Any, timeout: float | None
    ) -> tuple[Any, SampleInfo]:
        """One batch in NumPy."""

    def gather_all(self) -> Any:
        """Every item, stacked."""

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Every item, one by one."""

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Number of stale keys."""

    def clear(self) -> None:
        """Empties the buffer."""

    def info(self) -> Any:
        """Sizes, counters, settings."""

    def save(self, wait: bool, progress: Progress | None) -> Path | None:
        """A checkpoint."""

    def close(self) -> None:
        """Releases everything."""


class BackendModule(Protocol):
    """What `BACKENDS` names."""

    def create(self, settings: BufferSettings) -> Backend:
        """A fresh, empty buffer."""

    def load(self, settings: BufferSettings, progress: Progress | None) -> Backend:
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
