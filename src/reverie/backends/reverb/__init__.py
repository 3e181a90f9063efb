"""The backend "reverb": the manager on dm-reverb and TF-Agents' own classes.

Everything that needs Reverb, TensorFlow or TF-Agents stands in this package and
is imported when a manager with `backend="reverb"` is made, not before.

Two ways to run it:

- A local server, in this process, for the manager alone. Its checkpoints go to
  `checkpoint_dir`, in Reverb's format, published as the native ones are.
- `server_address="host:port"`: a server that runs elsewhere. The table must exist
  there with the manager's capacity and columns, and has the selectors that it was
  made with there. Its data and its checkpoints are that server's business, so `save`,
  `load_replay_buffer`, `gather_all`, `iter_items` and `update_priorities` raise
  UnsupportedError and say what to call instead; `checkpoint_dir` is not used.

What differs from the embedded backend, because Reverb has no other way:

- `seed` must be None: Reverb's samplers cannot be seeded.
- A wait without a timeout is never refused: any process may add to a server.
- `gather_all`, `iter_items` and `update_priorities` read a checkpoint that is made
  for the purpose, since a Reverb server neither lists its items nor says which
  keys are stale. They cost time and disk in proportion to the table.
- `info()` has -1 for steps and bytes, which Reverb does not report.
- Reverb servers listen on every network interface, without authentication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.backends.settings import BufferSettings
from reverie.checkpoint.format.snapshot import Progress

if TYPE_CHECKING:
    from reverie.backends.reverb.backend import ReverbBackend


def validate(settings: BufferSettings) -> None:
    """Raises for settings that could not work, and where Reverb cannot be imported.

    Raises:
        MissingDependencyError: Reverb, TensorFlow or TF-Agents cannot be imported;
            says where they install.
        SpecError: the data spec is no Trajectory of storable leaves.
        InvalidArgumentError: a number is out of range, or Reverb has no such setting.
    """
    from reverie.backends.reverb import deps

    deps.require(local=settings.server_address is None)
    from reverie.backends.reverb.settings import check  # needs what was just found

    check(settings)


def create(settings: BufferSettings) -> ReverbBackend:
    """An empty table on a server of its own; with an address, that table as it is."""
    from reverie.backends.reverb import start

    return start.create(settings)


def load(
    settings: BufferSettings,
    progress: Progress | None = None,
    max_nbytes: int | None = None,
) -> ReverbBackend:
    """The newest Reverb checkpoint of `settings.checkpoint_dir`, on a server of its own.

    Raises:
        UnsupportedError: with a server address.
        CheckpointError: see `ReplayBufferManager.load_replay_buffer`.
    """
    from reverie.backends.reverb import start

    return start.load(settings, progress, max_nbytes)
