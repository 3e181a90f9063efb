"""The client that finds a server of this process: Reverb's pybind.Client."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from reverie.errors import EndlessWaitError, InvalidArgumentError, WaitTimeoutError
from reverie.reverb.engine import registry
from reverie.reverb.engine.sampler import ItemStream, Sampler
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.chunker_options import ChunkerOptions
from reverie.reverb.engine.writing.item_plans import priority_error, priority_limits
from reverie.reverb.engine.writing.item_writer import TrajectoryWriter
from reverie.reverb.engine.writing.step_writer import Writer
from reverie.reverb.errors import UnreachableServerError
from reverie.runtime.checks import as_float, as_int, as_timeout
from reverie.runtime.leaving import is_foreign
from reverie.runtime.waiting import wait_until
from reverie.tables.table import Table

_MAX_KEY = 2**64 - 1


class Client:
    """Calls on the server that an address of this machine names. Thread-safe.

    The server is looked up anew for each call, so it may be made later than the
    client, or again on the same port. Where none has been on the port yet, a call waits
    for it while another thread could make it, as Reverb's does; see `wait_until`.

    Args:
        server_name: "localhost:8000" or the like.

    Raises:
        TypeError: the address is no str.
        UnreachableServerError: it is another machine's; here or, in every method, no
            server of this process has it.
    """

    def __init__(self, server_name: str) -> None:
        self._port = registry.port_of(server_name)

    @property
    def server(self) -> Serving:
        """The server on the port; waits for the first one, which another thread may make."""
        # Not in TensorFlow's threads: while one waits here, it cannot be cancelled.
        if registry.may_come(self._port) and not is_foreign(threading.get_ident()):
            self._wait(None)
        return self._find()

    def _find(self) -> Serving:
        return cast(Serving, registry.find(self._port))

    def NewWriter(
        self,
        chunk_length: int,
        max_timesteps: int,
        delta_encoded: bool = False,
        max_in_flight_items: int = 25,
    ) -> Writer:
        """A legacy writer."""
        return Writer(
            self.server, chunk_length, max_timesteps, delta_encoded, max_in_flight_items
        )

    def NewSampler(self, table: str, max_samples: int, buffer_size: int = 1) -> Sampler:
        """A sampler that fetches items when they are asked for.

        Args:
            table: its name; an unknown one is an error of the first sample.
            max_samples: -1: no end.
            buffer_size: without effect: nothing is fetched ahead.

        Raises:
            InvalidArgumentError: `max_samples` is 0 or below -1.
        """
        del buffer_size
        max_samples = as_int("max_samples", max_samples)
        if max_samples != -1 and max_samples < 1:
            raise InvalidArgumentError(f"max_samples ({max_samples}) must be -1 or >= 1")
        return Sampler(lambda: ItemStream(self.server, table, max_samples=max_samples))

    def NewTrajectoryWriter(
        self, chunker_options: ChunkerOptions, validate_items: bool = True
    ) -> TrajectoryWriter:
        """A trajectory writer."""
        return TrajectoryWriter(self.server, chunker_options, bool(validate_items))

    def NewStructuredWriter(self, configs: Sequence[bytes]) -> Any:
        """A structured writer for serialized StructuredWriterConfigs."""
        from reverie.reverb.engine.patterns.pattern_writer import (
            StructuredWriter,
        )  # needs protobuf

        return StructuredWriter(self.server, configs)

    def MutatePriorities(
        self, table: str, updates: Iterable[tuple[int, float]], deletes: Iterable[int]
    ) -> int:
        """Changes priorities, then deletes items; returns how many keys were stale.

        Raises:
            TypeError: a key is no integer of 64 bits, or a priority no number.
            InvalidArgumentError: a priority is NaN, or negative where the table draws
                by priority; nothing is changed.
            UnknownTableError: there is no such table.
        """
        server = self.server
        target = server.table(table)
        pairs = list(updates)
        keys = _keys((key for key, _ in pairs), target.key_mask)
        priorities = _priorities([priority for _, priority in pairs], target)
        gone = _keys(deletes, target.key_mask)
        stale = 0
        if len(keys):
            stale += target.core.update_priorities(keys, priorities)
        if len(gone):
            stale += target.core.delete(gone)
        return stale

    def Reset(self, table: str) -> None:
        """Deletes a table's items and resets its rate limiter.

        Raises:
            UnknownTableError: there is no such table.
        """
        self.server.reset(table)

    def ServerInfo(self, timeout: int = 0) -> list[bytes]:
        """A serialized schema_pb2.TableInfo for each table; errors as `tables`'.

        Raises:
            MissingDependencyError: the package `protobuf` is not installed.
        """
        from reverie.proto import structured_value
        from reverie.reverb.cc import schema_pb2
        from reverie.reverb.reverb_types import TableInfo

        messages = []
        for table in self.tables(timeout):
            fields = vars(TableInfo.from_table(table)).copy()
            nest = fields.pop("signature")
            message = schema_pb2.TableInfo(**fields)
            if nest is not None:
                message.signature.CopyFrom(structured_value.encode(nest))
            messages.append(message.SerializeToString())
        return messages

    def tables(self, timeout: float = 0) -> list[Table]:
        """The server's tables.

        Args:
            timeout: seconds to wait for a server on the port; 0: as every call does.

        Raises:
            UnreachableServerError: no timeout, and no server is there nor could come.
            RuntimeError: "Deadline Exceeded": none came within the timeout.
        """
        seconds = as_timeout("timeout", timeout)
        if not timeout > 0:
            return list(self.server.tables.values())
        try:
            self._wait(seconds)
        except WaitTimeoutError as error:
            raise RuntimeError(
                f"Deadline Exceeded: {error} The ports served here: "
                f"{registry.served_ports()!r:.200}."
            ) from None
        return list(self.server.tables.values())

    def Checkpoint(self) -> str:
        """Writes a checkpoint of the server; returns its path. Errors as the server's."""
        return self.server.checkpoint()

    def _wait(self, timeout: float | None) -> None:
        try:
            wait_until(
                self._is_served,
                timeout=timeout,
                what=lambda: f"for a server of this process on port {self._port}",
                way_out="nobody could make one.",
            )
        except EndlessWaitError as error:
            raise UnreachableServerError(f"{registry.nobody_on(self._port)} {error}") from None

    def _is_served(self, slice_s: float) -> bool:
        end = time.monotonic() + slice_s
        while True:
            try:
                self._find()
                return True
            except UnreachableServerError:
                if time.monotonic() >= end:
                    return False
                time.sleep(min(0.01, slice_s))


class BoundClient(Client):
    """Calls on one server, which it keeps, whether that has a port or not. Thread-safe.

    Args:
        server: in every method, what its store raises where it does not serve.

    Attributes:
        bound: the server.
    """

    def __init__(self, server: Serving) -> None:
        self.bound = server

    @property
    def server(self) -> Serving:
        """The server; it must be open."""
        return self._find()

    def _find(self) -> Serving:
        self.bound.check_open()
        return self.bound


def _keys(keys: Iterable[int], mask: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    found = list(keys)
    if all(type(key) is int for key in found) and min(found, default=0) >= 0:
        with contextlib.suppress(OverflowError):  # the loop below says which key it is
            array = np.array(found, np.uint64)
            array ^= np.uint64(mask)
            return array
    checked = []
    for key in found:
        try:
            number = int(key.__index__())
        except AttributeError:
            number = -1
        if not 0 <= number <= _MAX_KEY:
            raise TypeError(
                f"key: found {key!r:.200} of type {type(key).__name__}, wanted an item's key, "
                "an integer of 64 bits without a sign."
            )
        checked.append(number ^ mask)
    return np.array(checked, np.uint64)


def _priorities(values: list[Any], table: Table) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not all(type(value) is float for value in values):
        values = [as_float("priority", value) for value in values]
    priorities = np.array(values, np.float64)
    lowest, highest = priority_limits(table)
    bad = ~((lowest <= priorities) & (priorities <= highest))
    if bad.any():
        raise priority_error(float(priorities[bad][0]), table.name)
    return priorities
