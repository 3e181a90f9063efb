"""The replay buffer manager: create, add, sample, save, load, clear, close."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from numpy.typing import ArrayLike

from reverie.backends import Backend, find_backend
from reverie.backends.attributes import ManagerAttributes
from reverie.backends.settings import BufferSettings
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.source import candidates
from reverie.errors import ClosedError, NotInitializedError, ReverieError
from reverie.observers import TrajectoryObserver
from reverie.replay_buffer import ReplayBuffer
from reverie.runtime.handle import Handle
from reverie.runtime.process_lock import ProcessLock
from reverie.sample import Batch
from reverie.tables.info import BufferInfo
from reverie.tables.limiters import Limiter
from reverie.tables.settings import Remover, Sampler

if TYPE_CHECKING:
    import tensorflow as tf

T = TypeVar("T")


class ReplayBufferManager(Handle, ManagerAttributes):
    """Manages one replay buffer: its life, its data, its checkpoints.

    The names, the arguments and the results are those of Smart Control's
    `ReplayBufferManager`, which needs Reverb; this one needs nothing but NumPy.
    So are its attributes, which say what it was asked for and has made.
    A context manager: leaving it closes the buffer. Thread-safe, also beside loads.

    Args:
        data_spec: what one step looks like: any nest whose leaves have a shape and
            a dtype (`Trajectory` of `tf.TensorSpec`, dm_env specs, gymnasium
            spaces, `jax.ShapeDtypeStruct`, NumPy arrays, `reverie.ArraySpec`).
        capacity: the most items it holds; then one goes for each new one.
            Memory grows with the data, not with the capacity.
        checkpoint_dir: folder of checkpoints; made by the first save. Entries that
            are not ours are never touched. `~` is the home folder.
        sequence_length: consecutive steps of each item, all of one episode.
        sampler: chooses what to sample, one of `reverie.samplers`; None: uniformly.
        remover: chooses what makes room for a new item, one of `reverie.removers`; None:
            the oldest goes.
        limiter: when samples and inserts may pass, one of `reverie.limiters`; None:
            samples as soon as there is an item.
        backend: the engine; "embedded" keeps everything in this process, "reverb"
            runs on dm-reverb and gives TF-Agents' own classes (`reverie.backends.reverb`
            says what differs there).
        server_address: "host:port" of a Reverb server that runs elsewhere; None
            makes one in this process. For backend="reverb" alone.
        table_name: name of the table, also the one taken from a checkpoint of
            Reverb's that holds several.
        stride_length: steps between the starts of two items.
        pad_end_of_episodes: pad the rest of an episode that fills no window.
        tile_end_of_episodes: every last step of an episode starts a padded window;
            needs padding. See `TrajectoryObserver` for both.
        seed: of the sampler, 0 to 2**64 - 1; None draws one. The same seed and the
            same calls give the same batches; a checkpoint goes on where it was.
        max_to_keep: newest checkpoints that a save leaves; None keeps all.
        on_corrupt: what `load_replay_buffer` does about a damaged checkpoint:
            "raise", or "fallback" to the one before it, with a warning.
        on_misfit: what it does about items of other lengths than `sequence_length`,
            which no batch takes: "raise", or "leave_out", with a warning.

    Raises:
        SpecError: a leaf of the spec cannot be stored; names its path.
        TypeError: the sampler, the remover or the limiter is none.
        InvalidArgumentError: a number is out of range, two settings contradict, or
            `checkpoint_dir` is a URL, a file or a checkpoint's own folder.
        CheckpointReadError: the system refused to look at `checkpoint_dir`.
        MissingDependencyError: the backend needs a package that is not installed.
    """

    def __init__(
        self,
        data_spec: Any,
        capacity: int,
        checkpoint_dir: str | os.PathLike[str],
        sequence_length: int = 2,
        *,
        sampler: Sampler | None = None,
        remover: Remover | None = None,
        limiter: Limiter | None = None,
        backend: str = "embedded",
        table_name: str = "uniform_table",
        stride_length: int = 1,
        pad_end_of_episodes: bool = False,
        tile_end_of_episodes: bool = False,
        seed: int | None = None,
        max_to_keep: int | None = 3,
        on_corrupt: str = "raise",
        on_misfit: str = "raise",
        server_address: str | None = None,
    ) -> None:
        self._backend: Backend | None = None
        self._closed = False
        # Taken by what replaces the backend: of several threads only one does it.
        self._lifecycle = ProcessLock()
        self._engine = find_backend(backend)
        self._settings = BufferSettings.of(
            data_spec,
            capacity,
            checkpoint_dir,
            sequence_length,
            sampler=sampler,
            remover=remover,
            limiter=limiter,
            table_name=table_name,
            stride_length=stride_length,
            pad_end_of_episodes=pad_end_of_episodes,
            tile_end_of_episodes=tile_end_of_episodes,
            seed=seed,
            max_to_keep=max_to_keep,
            on_corrupt=on_corrupt,
            on_misfit=on_misfit,
            server_address=server_address,
        )
        self._engine.validate(self._settings)

    def __repr__(self) -> str:
        """`ReplayBufferManager('uniform_table', 49 of 50000 items, './ckpt')`."""
        if self._closed:
            state = "closed"
        elif self._backend is None:
            state = "not created or loaded yet"
        else:
            try:
                items = self._backend.buffer.num_frames()
                state = f"{items} of {self._settings.table.max_size} items"
            except ReverieError as error:  # a forked child's copy: repr() never raises
                state = type(error).__name__
        name, folder = self._settings.table.name, str(self._settings.checkpoint_dir)
        return f"ReplayBufferManager({name!r}, {state}, {folder!r})"

    def __enter__(self) -> ReplayBufferManager:
        """Itself; ClosedError where it was closed before."""
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the buffer."""
        self.close()

    def create_replay_buffer(self) -> tuple[ReplayBuffer, TrajectoryObserver]:
        """A fresh, empty buffer and its observer.

        Checkpoints in `checkpoint_dir` are neither read nor deleted; a warning says
        so when there are any. A buffer created or loaded before is closed.

        Returns:
            `(replay_buffer, observer)`: a `ReplayBuffer`, and a `TrajectoryObserver`
            to be called with each step.

        Raises:
            ClosedError: the manager is closed.
        """
        return self._create()

    def load_replay_buffer(
        self, *, progress: Progress | None = None, max_nbytes: int | None = None
    ) -> tuple[ReplayBuffer, TrajectoryObserver]:
        """The newest complete checkpoint in `checkpoint_dir`, native or Reverb's.

        The reverb backend reads Reverb's only. Everything is verified before the live
        buffer, if there is one, is closed and replaced; on any error it stays as it is.
        A background save is waited for first, and then is the newest.

        Args:
            progress: called with bytes read so far and in all.
            max_nbytes: most that it may take; None: in proportion to its bytes on the disk.

        Returns:
            `(replay_buffer, observer)`, as `create_replay_buffer`.

        Raises:
            CheckpointNotFoundError: there is none.
            CheckpointCorruptError: it is damaged; names the file. Never a partial buffer.
            CheckpointMismatchError: it does not fit the spec, table, capacity or
                `sequence_length`; see `on_misfit`.
            CheckpointReadError: the system refused, or saves removed each that was tried.
            CheckpointVersionError: a later version of this library wrote it.
            CheckpointLimitError: it takes more than `max_nbytes`, or than there is.
            MissingDependencyError: it is Reverb's, and the `reverb-files` extra is missing.
            UnsupportedError: the server runs elsewhere, and loads by itself.
            ClosedError: the manager is closed.
        """
        with self._lifecycle:
            self._finish_saving()
            return self._adopt(self._engine.load(self._settings, progress, max_nbytes))

    def get_replay_buffer_and_observer(self) -> tuple[ReplayBuffer, TrajectoryObserver]:
        """The buffer and its observer; creates them if there are none yet.

        Raises:
            ClosedError: the manager is closed.
        """
        with self._lifecycle:
            self._check_open()
            if self._backend is None:
                return self._create()
            return self._backend.replay_buffer, self._backend.observer

    def new_observer(self) -> TrajectoryObserver:
        """Another observer of the same buffer, with an episode of its own.

        One for each environment, or each thread: windows never mix the steps of two
        observers. It works until the buffer is closed.

        Raises:
            NotInitializedError, ClosedError: as for `sample`.
        """
        observer: TrajectoryObserver = self._on("new_observer", lambda b: b.new_observer())
        return observer

    def get_dataset(
        self,
        batch_size: int = 64,
        num_steps: int | None = None,
        *,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> tf.data.Dataset:
        """A TensorFlow dataset of `(data, SampleInfo)`, without an end but for `timeout_s`.

        Data leaves are `[B, T, *shape]`, info fields `[B, T]`, all static.

        Args:
            batch_size: B, sequences in each batch.
            num_steps: T, steps of each sequence; None means `sequence_length`. A
                divisor of it cuts each item into pieces.
            flat: no time axis: transitions, of T 1 steps; see `tf.windows.as_dataset`.
            timeout_s: a fetch that waits so long for data ends the dataset; None: for ever.

        Raises:
            NotInitializedError, ClosedError: as for `sample`.
            InvalidArgumentError: a number is out of range, or see there.
            MissingDependencyError: TensorFlow is not installed.
            UnsupportedError: the reverb backend has neither `flat` nor `timeout_s`.
        """
        more: Any = {"num_steps": num_steps, "flat": flat, "timeout_s": timeout_s}
        return self._on("get_dataset", lambda b: b.buffer.as_dataset(batch_size, **more))

    def sample(
        self,
        batch_size: int,
        num_steps: int | None = None,
        out: Any = None,
        timeout: float | None = None,
        *,
        beta: float | None = None,
        normalize: Literal["buffer", "batch"] | None = "buffer",
    ) -> Batch:
        """A batch in NumPy; everything is as in `ReplayBuffer.sample`.

        On `backend="reverb"` a batch's weights are relative to its own largest one, or as
        they are: normalize="batch" or None.

        Raises:
            NotInitializedError: nothing was created or loaded yet.
            ClosedError: the manager is closed.
            ReverieError: see there.
        """
        start = 0.0 if timeout is None else time.monotonic()
        while True:  # not `_on`, whose frames each batch would pay for
            backend = self._require("sample")
            draw = backend.buffer.sample
            try:
                if beta is None:
                    return draw(batch_size, num_steps, out=out, timeout=timeout)
                weights: Any = {"beta": beta, "normalize": normalize}
                return draw(batch_size, num_steps, out=out, timeout=timeout, **weights)
            except ClosedError:
                self._check_replaced(backend)
                if timeout:
                    now = time.monotonic()
                    timeout, start = max(0.0, timeout - (now - start)), now

    def gather_all(self) -> Any:
        """Every item in insertion order, stacked; see `ReplayBuffer.gather_all`.

        Raises:
            NotInitializedError, ClosedError: as for `sample`.
        """
        return self._on("gather_all", lambda b: b.buffer.gather_all())

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Key and data of every item, whatever its length; see `ReplayBuffer.iter_items`."""
        backend = self._require("iter_items")
        return self._going_on(backend, backend.buffer.iter_items())

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Sets priorities; returns how many keys were stale.

        Arguments and errors are those of `ReplayBuffer.update_priorities`.

        Raises:
            NotInitializedError, ClosedError: as for `sample`.
        """
        return self._on(
            "update_priorities", lambda b: b.buffer.update_priorities(keys, priorities)
        )

    def num_frames(self) -> int:
        """Items in the buffer, every finished observer call included; 0 before it exists.

        Raises:
            ClosedError: the manager is closed.
        """
        self._check_open()
        return self._on("num_frames", lambda b: b.buffer.num_frames()) if self._backend else 0

    def info(self) -> BufferInfo:
        """Sizes in items, steps and bytes, counters, rates and settings.

        Raises:
            NotInitializedError, ClosedError: as for `sample`.
        """
        return self._on("info", lambda b: b.buffer.info())

    @overload
    def save(self, wait: Literal[True] = True, *, progress: Progress | None = None) -> Path: ...

    @overload
    def save(self, wait: bool, *, progress: Progress | None = None) -> Path | None: ...

    def save(self, wait: bool = True, *, progress: Progress | None = None) -> Path | None:
        """Saves a checkpoint, durable and complete or not at all.

        As `ReplayBuffer.save`, but a failure in the background reaches the caller on the
        next call of the manager, whichever it is. Checkpoints beyond the newest
        `max_to_keep` are then removed.

        Raises:
            CheckpointError: see there.
            NotInitializedError, ClosedError: as for `sample`.
        """
        return self._on("save", lambda b: b.buffer.save(wait, progress=progress))

    def save_checkpoint(self) -> str:
        """`save()` by Smart Control's later name; returns the checkpoint's folder as text."""
        return str(self._on("save_checkpoint", lambda b: b.buffer.save()))

    def load_checkpoint(self) -> tuple[ReplayBuffer, TrajectoryObserver]:
        """`load_replay_buffer()` by Smart Control's later name."""
        return self.load_replay_buffer()

    def clear(self) -> None:
        """Empties the buffer; does nothing before it exists.

        Handles already given out stay valid. Checkpoints on disk stay, too, and do
        not come back by themselves.

        Raises:
            ClosedError: the manager is closed.
        """
        self._check_open()
        if self._backend is not None:
            self._on("clear", lambda b: b.buffer.clear())

    def close(self) -> None:
        """Releases everything, after a background save has ended. Idempotent.

        Raises:
            CheckpointError: the background save failed; the manager is closed all
                the same.
        """
        with self._lifecycle:
            self._closed = True
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def _create(self) -> tuple[ReplayBuffer, TrajectoryObserver]:
        with self._lifecycle:
            self._finish_saving()
            if candidates(self._settings.checkpoint_dir):
                warnings.warn(
                    f"{str(self._settings.checkpoint_dir)!r} holds checkpoints, which "
                    "create_replay_buffer() leaves alone: the new buffer is empty. Use "
                    "load_replay_buffer() to go on from the newest one.",
                    stacklevel=3,
                )
            return self._adopt(self._engine.create(self._settings))

    def _finish_saving(self) -> None:
        self._check_open()
        if self._backend is not None:
            self._backend.finish_saving()

    def _adopt(self, backend: Backend) -> tuple[ReplayBuffer, TrajectoryObserver]:
        if self._closed:  # by the progress callback of a load
            backend.close()
            self._check_open()
        previous, self._backend = self._backend, backend
        if previous is not None:
            previous.close()
        return backend.replay_buffer, backend.observer

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("The ReplayBufferManager is closed. Make a new one to go on.")
        if self._backend is not None:
            self._backend.check()

    def _require(self, call: str) -> Backend:
        if (backend := self._backend) is None or self._closed:
            self._check_open()
            raise NotInitializedError(
                f"{call}() before there is a buffer: call create_replay_buffer() or "
                "load_replay_buffer() first."
            )
        backend.check()
        return backend

    def _on(self, call: str, do: Callable[[Backend], T]) -> T:
        """`do(backend)`, on the next one where that was replaced meanwhile."""
        while True:
            backend = self._require(call)
            try:
                return do(backend)
            except ClosedError:
                self._check_replaced(backend)

    def _going_on(self, backend: Backend, items: Iterator[T]) -> Iterator[T]:
        try:
            yield from items
        except ClosedError:  # items of a buffer that was replaced have left, all of them
            self._check_replaced(backend)

    def _check_replaced(self, backend: Backend) -> None:
        """In a handler: raises the error unless another backend has taken this one's place."""
        if self._closed or self._backend is backend:
            raise
