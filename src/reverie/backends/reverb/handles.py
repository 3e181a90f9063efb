"""TF-Agents' replay buffer and observer, and Reverb's client, with repairs.

Each is a subclass of the original, so `isinstance` and every inherited method
hold. What is repaired is said at each class.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import reverb
from tf_agents.replay_buffers import reverb_replay_buffer, reverb_utils

from reverie.backends.reverb.saving import Saver
from reverie.backends.reverb.settings import StepSpec
from reverie.errors import ClosedError, ForkedProcessError, InvalidArgumentError
from reverie.tables.settings import TableSettings

_ANSWER_S = 5
_SLICE_MS = 100
_CLOSING_MS = 5000  # how long closing waits for a server that does not answer

_log = logging.getLogger("reverie")


class Gate:
    """Whether a buffer may still be used. Shared by everything that stands for it."""

    def __init__(self, table_name: str) -> None:
        self.closed = False
        self._name = table_name
        self._pid = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child process's copy."""
        return os.getpid() != self._pid

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Checks before; an error of Reverb's from a server stopped meanwhile says so."""
        self.check()
        try:
            yield
        except Exception as error:
            if self.closed and not isinstance(error, ClosedError):
                raise self._closed_error() from error
            raise

    def check(self) -> None:
        """Raises ClosedError or ForkedProcessError where the buffer cannot be used."""
        if self.is_forked:
            raise ForkedProcessError(
                f"Table {self._name!r} was made before os.fork(), which its server's threads "
                "do not survive: the child process cannot use it. Create or load a buffer "
                "there, or start the process with the 'spawn' method and make a manager with "
                "this server's server_address."
            )
        if self.closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"Table {self._name!r} is closed. Create or load the buffer anew.")


class Writer(reverb.TrajectoryWriter):  # type: ignore[misc]
    """Reverb's trajectory writer, which other threads may flush and close meanwhile.

    What waits for the server, because a limiter or a broken connection holds items
    up, does so in slices: Ctrl-C and the manager's `close` end the wait.
    """

    _gate: Gate
    _mutex: threading.RLock
    _done: bool

    def append(self, data: Any, *, partial_step: bool = False) -> Any:
        """As Reverb's."""
        with self._mutex:
            return super().append(data, partial_step=partial_step)

    def create_item(self, table: str, priority: float, trajectory: Any) -> None:
        """As Reverb's."""
        with self._mutex:
            super().create_item(table, priority, trajectory)

    def flush(self, block_until_num_items: int = 0, timeout_ms: int | None = None) -> None:
        """As Reverb's; does nothing once the writer is closed."""
        self._in_slices(super().flush, block_until_num_items, timeout_ms)

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:
        """As Reverb's; does nothing once the writer is closed."""
        self._in_slices(super().end_episode, clear_buffers, timeout_ms)

    def close(self, timeout_ms: int = _CLOSING_MS) -> None:
        """As Reverb's, but items that are under way are delivered first. Idempotent."""
        with self._mutex:
            if self._done:
                return
            self._done = True
            if not self._gate.is_forked:
                try:
                    super().flush(timeout_ms=timeout_ms)
                except Exception as error:  # the server is gone, and so is what it held
                    _log.warning("Items were lost on closing: %.200s", error)
                super().close()

    def _in_slices(
        self, call: Callable[[Any, int], None], argument: Any, timeout_ms: int | None
    ) -> None:
        while True:
            with self._mutex:
                if self._done:
                    return
                try:
                    call(argument, _SLICE_MS if timeout_ms is None else timeout_ms)
                    return
                except reverb.errors.DeadlineExceededError:
                    if timeout_ms is not None:
                        raise
            self._gate.check()

    @classmethod
    def adopt(cls, writer: Any, gate: Gate) -> Writer:
        """Makes a fresh writer of Reverb's one of these.

        In place: a second object around the same stream would see it closed by the
        first one's destructor.
        """
        writer.__class__ = cls
        writer._gate, writer._mutex, writer._done = gate, threading.RLock(), False
        adopted: Writer = writer
        return adopted


class Client(reverb.Client):  # type: ignore[misc]
    """Reverb's client of one manager's server.

    Repairs: `server_info` counts every finished call of the observers made with
    this client, because it flushes their writers first; `reset` drops the open
    episodes of the manager's observers, so that no window joins steps from before
    and after; `checkpoint` is the manager's `save`; after the manager's `close`
    each call raises ClosedError instead of waiting for a server that is gone.
    """

    def __init__(
        self, address: str, gate: Gate, table: TableSettings, saver: Saver | None
    ) -> None:
        super().__init__(address)
        self._gate = gate
        self._table = table
        self._saver = saver
        self._writers: weakref.WeakSet[Writer] = weakref.WeakSet()
        self._observers: weakref.WeakSet[Observer] = weakref.WeakSet()

    def __reduce__(self) -> Any:
        """Another process gets a plain client of the same server."""
        return reverb.Client, (self._server_address,)

    def check(self) -> None:
        """Raises ClosedError or ForkedProcessError where the buffer cannot be used."""
        self._gate.check()

    def check_updates(self) -> None:
        """Raises where new priorities would change nothing in the manager's table.

        Raises:
            InvalidArgumentError: neither its sampler nor its remover reads priorities.
            ClosedError, ForkedProcessError: the buffer cannot be used.
        """
        self._gate.check()
        if self._saver is not None:
            self._table.check_updates()
        else:
            self._table.check_updates(
                f"The server at {self._server_address!r:.200} has it so: start that with "
                "sampler=reverb.selectors.Prioritized(1.0), MinHeap() or MaxHeap() of this "
                "table, or with one as remover=, or leave update_priorities() out."
            )

    def flush(self) -> None:
        """Delivers every item of this client's writers.

        Raises:
            ClosedError: the manager is closed.
        """
        with self._gate.use():
            for writer in list(self._writers):
                writer.flush()

    def insert(self, data: Any, priorities: dict[str, float]) -> None:
        """As Reverb's."""
        with self._gate.use():
            super().insert(data, priorities)

    def writer(self, *args: Any, **kwargs: Any) -> Any:
        """As Reverb's."""
        with self._gate.use():
            return super().writer(*args, **kwargs)

    def trajectory_writer(self, num_keep_alive_refs: int, **kwargs: Any) -> Writer:
        """As Reverb's; the writer is flushed where its items are to be counted."""
        with self._gate.use():
            writer = Writer.adopt(
                super().trajectory_writer(num_keep_alive_refs, **kwargs), self._gate
            )
        self._writers.add(writer)
        return writer

    def structured_writer(self, configs: Any) -> Any:
        """As Reverb's."""
        with self._gate.use():
            return super().structured_writer(configs)

    def sample(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As Reverb's."""
        with self._gate.use():
            yield from super().sample(*args, **kwargs)

    def mutate_priorities(self, *args: Any, **kwargs: Any) -> None:
        """As Reverb's."""
        with self._gate.use():
            super().mutate_priorities(*args, **kwargs)

    def server_info(self, timeout: int | None = None) -> Any:
        """As Reverb's, with every finished observer call counted."""
        self.flush()
        with self._gate.use():
            while True:  # in slices: a server that is being stopped never answers
                try:
                    return super().server_info(timeout or _ANSWER_S)
                except reverb.errors.DeadlineExceededError:
                    if timeout is not None:
                        raise
                    self._gate.check()
                    _log.warning("The Reverb server %s does not answer.", self._server_address)

    def reset(self, table: str) -> None:
        """As Reverb's; for the manager's table, open episodes are dropped first."""
        self.flush()
        if table == self._table.name:
            for observer in list(self._observers):
                observer.drop_episode()
        with self._gate.use():
            super().reset(table)

    def checkpoint(self) -> str:
        """The manager's `save`; with a server elsewhere, as Reverb's."""
        self._gate.check()
        return self.checkpoint_now() if self._saver is None else str(self._saver.save())

    def checkpoint_now(self) -> str:
        """Reverb's own `checkpoint`, wherever its server writes it, of all items."""
        self.flush()
        with self._gate.use():
            return str(super().checkpoint())

    def watch(self, observer: Observer) -> None:
        """Tells `observer` when the table is cleared or closed."""
        self._observers.add(observer)

    def shut(self) -> None:
        """Closes observers and writers, delivering what a server still takes."""
        end = time.monotonic() + _CLOSING_MS / 1000
        for observer in list(self._observers):
            observer.abandon()
        for writer in list(self._writers):
            with contextlib.suppress(Exception):
                writer.close(max(int(1000 * (end - time.monotonic())), 0))


class Observer(reverb_utils.ReverbAddTrajectoryObserver):  # type: ignore[misc]
    """TF-Agents' observer, for one stream of steps.

    Repairs: a step that does not match the data spec is refused with the path of
    the leaf, before anything is stored; `reset()` without padding neither writes a
    complete window twice nor, where it raises, leaves the episode open; after
    `close()` and `open()`, no window of nothing but pads is written. Thread-safe,
    but the steps of one episode are meant to come from one thread.
    """

    def __init__(self, client: Client, spec: StepSpec, **settings: Any) -> None:
        super().__init__(client, **settings)
        self._spec = spec
        self._mutex = threading.RLock()
        client.watch(self)

    def __call__(self, trajectory: Any) -> None:
        """Stores one step, without a batch axis.

        Raises:
            StepMismatchError: structure, dtype, shape or range; nothing was stored.
            ClosedError: the observer or its buffer is closed.
        """
        self._py_client.check()
        step = self._spec.step(trajectory)
        with self._mutex:
            super().__call__(step)

    def flush(self) -> None:
        """Returns once the server has every item."""
        self._py_client.check()
        with self._mutex:
            super().flush()

    def reset(self, write_cached_steps: bool = True) -> None:
        """Ends the open episode; reopens a closed observer.

        Args:
            write_cached_steps: with padding, the rest of the episode is padded and
                written as at its end. False drops it.

        Raises:
            InvalidArgumentError: `write_cached_steps` without padding, and the last
                steps are in no window. The episode is ended all the same.
            ClosedError: the buffer is closed.
        """
        self._py_client.check()
        with self._mutex:
            if self._pad_end_of_episodes or not write_cached_steps:
                super().reset(write_cached_steps)
                return
            lost = self._last_trajectory is not None and not self._sequence_lengths_reached()
            super().reset(False)
        if lost:
            raise InvalidArgumentError(
                "reset(write_cached_steps=True): the episode's last steps fill no window of "
                f"{self._sequence_length}. They were dropped. Use pad_end_of_episodes=True to "
                "keep them, or write_cached_steps=False to say that they may go."
            )

    def open(self) -> None:
        """Makes a closed observer work again; does nothing for an open one."""
        self._py_client.check()
        with self._mutex:
            super().open()

    def close(self) -> None:
        """Ends the episode; steps in no window are dropped. Idempotent."""
        gate = self._py_client._gate
        if gate.closed or gate.is_forked:
            return
        with self._mutex:
            self._last_trajectory = None
            super().close()

    def drop_episode(self) -> None:
        """Forgets the open episode's steps: no later window holds one of them."""
        with self._mutex:
            if self._writer is not None:
                super().reset(False)

    def abandon(self) -> None:
        """Lets the writer go, which the client closes, without waiting for anything."""
        with self._mutex:
            self._writer = self._last_trajectory = None

    def _get_writer(self) -> Any:
        self._py_client.check()
        if self._writer is None:
            raise ClosedError(
                "The observer is closed: could not obtain a writer. Call open() to go on."
            )
        return self._writer


class ReplayBuffer(reverb_replay_buffer.ReverbReplayBuffer):  # type: ignore[misc]
    """TF-Agents' replay buffer over a manager's table.

    Repairs: `num_frames()` and datasets see every finished observer call; `clear()`
    drops open episodes; `py_client.checkpoint()` saves as the manager does; after
    the manager's `close` calls raise ClosedError; priorities go to this buffer's table,
    where TF-Agents' buffers all send them to the process's first, and those that nothing
    reads are refused.
    """

    def __init__(self, client: Client, data_spec: Any, **settings: Any) -> None:
        super().__init__(data_spec, **settings)
        self._py_client = client
        # TF-Agents gives its own a name, which makes it the first buffer's, wherever that goes.
        self._tf_client = reverb.TFClient(self._server_address, name="rb_tf_client")

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """As TF-Agents'."""
        self._py_client.flush()
        return super().as_dataset(*args, **kwargs)

    def update_priorities(self, keys: Any, priorities: Any) -> None:
        """As TF-Agents'.

        Raises:
            InvalidArgumentError: neither the table's sampler nor its remover reads them.
            ClosedError: the buffer is closed.
        """
        self._py_client.check_updates()
        super().update_priorities(keys, priorities)
