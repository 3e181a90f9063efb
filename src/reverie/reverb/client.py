"""The client of a server of this process: writing, sampling, administration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from reverie.nests import structure
from reverie.nests.structure import Path
from reverie.reverb import errors, pybind, replay_sample, reverb_types
from reverie.reverb import trajectory_writer as trajectory_writer_lib
from reverie.reverb.engine.local_client import Client as _Engine
from reverie.reverb.engine.sampler import Sampler, step_of, timesteps
from reverie.reverb.engine.writing.chunker_options import AutoTunedChunkerOptions
from reverie.reverb.engine.writing.column_errors import named
from reverie.runtime.checks import as_int
from reverie.runtime.handle import Handle
from reverie.tables.table import Table

_UNLIMITED = 2**62
_log = logging.getLogger("reverie")


class Writer(Handle):
    """The legacy writer: whole steps in, items over the latest of them out.

    Made by `Client.writer`; `Client.trajectory_writer` can do more. For one thread at a
    time. As a context manager it flushes and closes.
    """

    _WAY_OUT = "Make each its own with client.writer()."

    def __init__(self, internal_writer: Any) -> None:
        """Takes a pybind.Writer."""
        self._writer = internal_writer
        self._closed = False
        self._flatten = structure.Flattener()
        self._paths: list[Path] = []  # of the steps so far

    def __enter__(self) -> Writer:
        if self._closed:
            raise ValueError("Cannot reuse already closed Writer")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        except BaseException:
            self._closed = True  # no second wait; what waits for its table goes on waiting
            raise
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            _log.warning("Writer-object deleted without calling .close explicitly.")
            # Items of its own wait in the table's queue; a destructor does not wait for them.
            self._closed = True

    def __repr__(self) -> str:
        return f"{self._writer!r}, closed: {self._closed}"

    def append(self, data: Any) -> None:
        """Stores a step, any nest; all steps of a chunk have one structure.

        Raises:
            ValueError: the number of leaves, a dtype or a shape is another than in the
                steps before; nothing is stored.
            TypeError: a leaf cannot be stored; nothing is stored.
            RuntimeError: closed, or the server was stopped.
        """
        self._append(self._writer.Append, data)

    def append_sequence(self, sequence: Any) -> None:
        """Stores the steps of a nest of arrays with a leading axis of time, (T, ...).

        Raises:
            ValueError: as `append`; or leaves of unequal T, or without axes.
        """
        self._append(self._writer.AppendSequence, sequence)

    def create_item(self, table: str, num_timesteps: int, priority: float) -> None:
        """Makes an item of the latest `num_timesteps` steps.

        Waits while more than `max_in_flight_items` wait for their table.

        Raises:
            ValueError: `num_timesteps` < 1 or more than there are; an unknown table, or
                one with another signature; a bad priority.
            EndlessWaitError: the wait would have no end; the item is in the queue.
            RuntimeError: closed, or the server was stopped.
        """
        if num_timesteps < 1:
            raise ValueError(f"num_timesteps ({num_timesteps}) must be a positive integer")
        try:
            self._writer.CreateItem(table, num_timesteps, priority)
        except ValueError as error:
            raise named(error, self._paths) from None

    def flush(self) -> None:
        """Waits until all items are in their tables. Open to Ctrl-C.

        Raises:
            EndlessWaitError: nobody is left who could end the wait.
            RuntimeError: closed, or the server was stopped.
        """
        self._writer.Flush()

    def close(self, retry_on_unavailable: bool = True) -> None:
        """Flushes, then refuses later use.

        Args:
            retry_on_unavailable: False: a stopped server is no error.

        Raises:
            ValueError: closed before.
            EndlessWaitError: as `flush`; the writer is closed all the same.
            RuntimeError: the server was stopped.
        """
        if self._closed:
            raise ValueError("close() has already been called on Writer.")
        self._closed = True
        self._writer.Close(retry_on_unavailable)

    def _append(self, append: Callable[[list[Any]], None], data: Any) -> None:
        leaves = self._flatten(data)
        try:
            append(leaves)
        except (ValueError, TypeError) as error:
            raise named(error, self._flatten.paths, self._paths or None) from None
        self._paths = self._flatten.paths


class Client:
    """Calls on a server of this process. Thread-safe.

    Args:
        server_address: "localhost:8000" or the like. The server may be made later: calls
            wait for it while another thread could make it.

    Raises:
        TypeError: the address is no str.
        RuntimeError: it is another machine's.
    """

    def __init__(self, server_address: str) -> None:
        self._server_address = server_address
        self._client = pybind.Client(server_address)
        self._signature_cache: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as its address: good in this process alone."""
        return type(self), (self._server_address,)

    def __repr__(self) -> str:
        return f"Client, server_address={self._server_address}"

    @property
    def server_address(self) -> str:
        """The address, as it was given."""
        return self._server_address

    def _tables_of(self, names: Sequence[str]) -> list[Table]:
        """The tables of these names, for Reverie's observers; errors as the engine's."""
        server = self._client.server
        return [server.table(name) for name in names]

    def insert(self, data: Any, priorities: Mapping[str, float]) -> None:
        """Stores one step, and makes an item of it in each table. Waits for the tables.

        Args:
            data: any nest.
            priorities: of the item in each table, by name.

        Raises:
            ValueError: `priorities` is empty; an unknown table, or one with another
                signature; a bad priority.
            TypeError: a leaf cannot be stored.
            EndlessWaitError: a table is full and nobody is left to make room; the item
                goes in as soon as there is.
            RuntimeError: the server was stopped.
        """
        if not priorities:
            raise ValueError("priorities must contain at least one item")
        with self.writer(max_sequence_length=1) as writer:
            writer.append(data)
            for table, priority in priorities.items():
                writer.create_item(table, num_timesteps=1, priority=priority)

    def writer(
        self,
        max_sequence_length: int,
        delta_encoded: bool = False,
        chunk_length: int | None = None,
        max_in_flight_items: int | None = 25,
    ) -> Writer:
        """A legacy writer.

        Args:
            max_sequence_length: latest steps that items may refer to.
            delta_encoded: without effect here.
            chunk_length: steps between which the structure may not change; None:
                at most 10.
            max_in_flight_items: items that may wait for their table before
                `create_item` waits; None: any number.

        Raises:
            ValueError: a number is out of range.
            RuntimeError: no server is there.
        """
        max_sequence_length = as_int("max_sequence_length", max_sequence_length)
        if max_sequence_length < 1:
            raise ValueError(
                f"max_sequence_length ({max_sequence_length}) must be a positive integer"
            )
        if chunk_length is None:
            chunk_length = min(10, max_sequence_length)
        chunk_length = as_int("chunk_length", chunk_length)
        if not 1 <= chunk_length <= max_sequence_length:
            raise ValueError(
                f"chunk_length ({chunk_length}) must be a positive integer le to "
                f"max_sequence_length ({max_sequence_length})"
            )
        if max_in_flight_items is None:
            max_in_flight_items = _UNLIMITED
        max_in_flight_items = as_int("max_in_flight_items", max_in_flight_items)
        if max_in_flight_items < 1:
            raise ValueError(
                f"max_in_flight_items ({max_in_flight_items}) must be a positive integer"
            )
        return Writer(
            self._client.NewWriter(
                chunk_length, max_sequence_length, delta_encoded, max_in_flight_items
            )
        )

    def sample(
        self,
        table: str,
        num_samples: int = 1,
        *,
        emit_timesteps: bool = True,
        unpack_as_table_signature: bool = False,
    ) -> Generator[Any, None, None]:
        """Samples items one after the other, each when it is asked for.

        Args:
            table: name of the table.
            num_samples: how many.
            emit_timesteps: whether an item comes as a list of `ReplaySample`s, one for
                each step; else as one `ReplaySample`.
            unpack_as_table_signature: whether data is in the nest of the table's
                signature; else, or where it has none, a flat list.

        Yields:
            Items; their `info` holds Python numbers, their `data` NumPy arrays: with
            the axis of time where items come whole.

        Raises:
            ValueError: `num_samples` is 0; an item cannot be cut into steps; an unknown
                table, with `unpack_as_table_signature`.
            EndlessWaitError: the wait for a sample would have no end.
            RuntimeError: an unknown table; the server was stopped.
        """
        unflatten: Callable[[Sequence[Any]], Any] = list
        if unpack_as_table_signature:
            signature = self._get_signature_for_table(table)
            if signature is not None:
                unflatten = _unflattener(signature)
        sampler = self._client.NewSampler(table, num_samples, 1)
        for _ in range(num_samples):
            if isinstance(sampler, Sampler):
                item = sampler.next_item()
                info = replay_sample.SampleInfo(*item[:5])
                data = item[5]
            else:
                info, data = _parted(sampler.GetNextTrajectory())
            if emit_timesteps:
                yield [
                    replay_sample.ReplaySample(
                        info, unflatten([step_of(column, i) for column in data])
                    )
                    for i in range(timesteps(data))
                ]
            else:
                yield replay_sample.ReplaySample(info, unflatten(data))

    def mutate_priorities(
        self,
        table: str,
        updates: Mapping[int, float] | None = None,
        deletes: Iterable[int] | None = None,
    ) -> int:
        """Changes priorities, then deletes items. Unknown keys are passed over.

        Args:
            table: name of the table.
            updates: new priorities by item key.
            deletes: keys of items to delete.

        Returns:
            How many of the keys were stale (Reverb returns None).

        Raises:
            ValueError: a priority is NaN, or negative where the table draws by
                priority; nothing is changed.
            TypeError: a key is no unsigned integer of 64 bits.
            RuntimeError: an unknown table; the server was stopped.
        """
        pairs = [] if updates is None else list(updates.items())
        gone = [] if deletes is None else list(deletes)
        stale: int = self._client.MutatePriorities(table, pairs, gone)
        return stale

    def reset(self, table: str) -> None:
        """Deletes all items of a table and resets its rate limiter.

        Raises:
            RuntimeError: an unknown table; the server was stopped.
        """
        self._client.Reset(table)

    def server_info(self, timeout: int | None = None) -> dict[str, reverb_types.TableInfo]:
        """Settings and counters of each table, by name.

        Args:
            timeout: seconds to wait for a server on the port; None waits while another
                thread could make the first one.

        Raises:
            DeadlineExceededError: none came within the timeout.
            RuntimeError: no timeout, and no server is there nor could come.
        """
        try:
            if isinstance(self._client, _Engine):
                tables = self._client.tables(timeout or 0)
                infos = [reverb_types.TableInfo.from_table(table) for table in tables]
            else:
                messages = self._client.ServerInfo(timeout or 0)
                infos = list(map(reverb_types.TableInfo.from_serialized_proto, messages))
        except RuntimeError as error:
            if "Deadline Exceeded" in str(error) and timeout is not None:
                raise errors.DeadlineExceededError(
                    f"ServerInfo call did not complete within provided timeout of {timeout}s. "
                    f"{error}"
                ) from None
            raise
        by_name = {info.name: info for info in infos}
        if not self._signature_cache:
            self._signature_cache = {name: info.signature for name, info in by_name.items()}
        return by_name

    def checkpoint(self) -> str:
        """Writes a checkpoint of all tables; returns its absolute path.

        Raises:
            RuntimeError: the server has no checkpointer, or was stopped.
            CheckpointError: it could not be written.
        """
        path: str = self._client.Checkpoint()
        return path

    def trajectory_writer(
        self, num_keep_alive_refs: int, *, validate_items: bool = True
    ) -> trajectory_writer_lib.TrajectoryWriter:
        """A writer of items over any cells of the latest steps.

        Args:
            num_keep_alive_refs: latest values of each column that items may refer to:
                the most steps that an item can span.
            validate_items: whether items are compared with their table's signature.

        Raises:
            ValueError: `num_keep_alive_refs` < 1.
            RuntimeError: no server is there.
        """
        num_keep_alive_refs = as_int("num_keep_alive_refs", num_keep_alive_refs)
        if num_keep_alive_refs < 1:
            raise ValueError(
                f"num_keep_alive_refs ({num_keep_alive_refs}) must be a positive integer"
            )
        options = AutoTunedChunkerOptions(num_keep_alive_refs, 1.0)
        return trajectory_writer_lib.TrajectoryWriter(
            self._client.NewTrajectoryWriter(options, validate_items)
        )

    def structured_writer(self, configs: Sequence[Any]) -> Any:
        """A writer that makes items by itself, wherever a pattern's conditions hold.

        Args:
            configs: of `structured_writer.create_config`.

        Raises:
            ValueError: there is none, or one is invalid.
            RuntimeError: no server is there.
            MissingDependencyError: the package `protobuf` is not installed.
        """
        if not configs:
            raise ValueError("At least one config must be provided.")
        from reverie.reverb import structured_writer

        serialized = [config.SerializeToString() for config in configs]
        return structured_writer.StructuredWriter(self._client.NewStructuredWriter(serialized))

    def _get_signature_for_table(self, table: str) -> Any:
        if table not in self._signature_cache:
            self._signature_cache = {}
            self.server_info()
        if table not in self._signature_cache:
            raise ValueError(
                f'Could not find table "{table}". The following tables exists: '
                f"{', '.join(self._signature_cache)}."
            )
        return self._signature_cache[table]


def _unflattener(signature: Any) -> Callable[[Sequence[Any]], Any]:
    fast = structure.fast_flatten(signature)
    if fast is None:
        return lambda leaves: structure.unflatten_as(signature, leaves)
    wanted = len(structure.flatten(signature))

    def unflatten(leaves: Sequence[Any]) -> Any:
        if len(leaves) != wanted:
            raise ValueError(
                f"An item of {len(leaves)} columns does not fit the table's signature of "
                f"{wanted}: it was written without validate_items. Sample it with "
                "unpack_as_table_signature=False."
            )
        return fast[1].unflatten(leaves)

    return unflatten


def _parted(sample: Sequence[Any]) -> tuple[replay_sample.SampleInfo, list[Any]]:
    info = replay_sample.SampleInfo(
        key=int(sample[0]),
        probability=float(sample[1]),
        table_size=int(sample[2]),
        priority=float(sample[3]),
        times_sampled=int(sample[4]),
    )
    return info, list(sample[5:])
