"""One buffer on Reverb: a table of a server, and the handles that users get."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.backends.reverb.handles import Client, Gate, Observer, ReplayBuffer
from reverie.backends.reverb.saving import Saver
from reverie.backends.reverb.settings import StepSpec
from reverie.backends.settings import BufferSettings
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.reverb_files.source import ReverbSource, reverb_source
from reverie.errors import InvalidArgumentError, UnsupportedError
from reverie.runtime.checks import as_updates, check_int, check_num_steps, check_timeout
from reverie.runtime.waiting import wait_until
from reverie.sample import Batch, SampleInfo
from reverie.tables.info import BufferInfo
from reverie.tables.table import unstackable
from reverie.weights import with_weights

_POLL_S = 0.002
_INFO_DTYPES = (np.uint64, np.float64, np.int64, np.float64, np.int32)


class ReverbBackend:
    """A table of a Reverb server, its handles and its saver. Thread-safe.

    Args:
        settings: the manager's; the selectors are those that the server's table has.
        spec: of one step.
        address: of the server.
        server: the server, where it is this backend's own.
        saver: of that server.
    """

    def __init__(
        self,
        settings: BufferSettings,
        spec: StepSpec,
        address: str,
        server: Any = None,
        saver: Saver | None = None,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._address = address
        self._server = server
        self._saver = saver
        self._created = time.monotonic()
        self._rng = np.random.default_rng()  # chooses pieces of items only
        self._gate = Gate(settings.table.name)
        self._client = client = Client(address, self._gate, settings.table, saver)
        if saver is not None:
            # Weakly: a cycle would keep gigabytes until the garbage collector comes by.
            saver.checkpoint = weakref.WeakMethod(client.checkpoint_now)
        self._replay_buffer = ReplayBuffer(
            client,
            spec.tensors,
            table_name=settings.table.name,
            sequence_length=settings.sequence_length,
            **({"server_address": address} if server is None else {"local_server": server}),
        )
        self._loaded = self._counters()
        self._observer = self.new_observer()

    @property
    def buffer(self) -> ReverbBackend:
        """What the manager's calls go to."""
        return self

    @property
    def replay_buffer(self) -> ReplayBuffer:
        """TF-Agents' replay buffer."""
        return self._replay_buffer

    @property
    def observer(self) -> Observer:
        """TF-Agents' observer."""
        return self._observer

    @property
    def server(self) -> Any:
        """Reverb's server, where it is this backend's own."""
        return self._server

    def new_observer(self) -> Observer:
        """Another stream of steps into the same table."""
        settings = self._settings
        return Observer(
            self._client,
            self._spec,
            table_name=settings.table.name,
            sequence_length=settings.sequence_length,
            stride_length=settings.stride_length,
            pad_end_of_episodes=settings.pad_end_of_episodes,
            tile_end_of_episodes=settings.tile_end_of_episodes,
        )

    def check(self) -> None:
        """Raises what a background save has left behind, and in a forked child."""
        if self._gate.is_forked:
            self._gate.check()
        if self._saver is not None and self._saver.failed():
            self._saver.wait()

    def finish_saving(self) -> None:
        """Waits for a background save; raises what went wrong in it."""
        if self._saver is not None:
            self._saver.wait()

    def num_frames(self) -> int:
        """Items in the table."""
        return int(self._replay_buffer.num_frames())

    def as_dataset(
        self,
        sample_batch_size: int | None,
        num_steps: int | None,
        *,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """TF-Agents' own `tf.data.Dataset` of batches."""
        if flat or timeout_s is not None:
            raise UnsupportedError(
                f"get_dataset(flat={flat!r:.100}, timeout_s={timeout_s!r:.100}): "
                'backend="reverb" gives TF-Agents\' own dataset, which has neither. Leave them '
                'out, or take backend="embedded".'
            )
        batch_size = check_int("batch_size", sample_batch_size, 1, 2**31 - 1)
        piece = self._piece(num_steps)
        return self._replay_buffer.as_dataset(sample_batch_size=batch_size, num_steps=piece)

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
        """One batch in NumPy; another process may take part of what this one waited for."""
        if beta is not None:
            self._settings.table.check_weighted()
            if normalize == "buffer":
                raise InvalidArgumentError(
                    "normalize: found 'buffer', but no server tells the least probability of "
                    "its items. On backend=\"reverb\" pass 'batch' or None."
                )
        batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        length = self._settings.sequence_length
        piece = self._piece(num_steps)
        seconds = check_timeout(timeout)
        arrays = self._arrays((batch_size, piece), out)
        wait_until(
            lambda slice_s: self._can_sample(batch_size, slice_s),
            # Infinity is no "for ever" that could be refused: any process may add.
            timeout=math.inf if seconds is None else seconds,
            what=lambda: (
                f"to sample {batch_size} from table {self._settings.table.name!r}: it holds "
                f"{self.num_frames()} items"
            ),
        )
        infos = []
        found = self._client.sample(
            self._settings.table.name, num_samples=batch_size, emit_timesteps=False
        )
        for row, item in enumerate(found):
            infos.append(item.info)
            start = piece * int(self._rng.integers(length // piece))
            for array, values in zip(arrays, item.data, strict=True):
                if len(values) != length:
                    raise unstackable(
                        self._settings.table.name, item.info.key, None, len(values), length
                    )
                array[row] = values[start : start + piece]
        fields = zip(zip(*infos, strict=True), _INFO_DTYPES, strict=True)
        info: Any = SampleInfo._make(np.array(values, dtype) for values, dtype in fields)
        if beta is not None:
            info = with_weights(info, beta, normalize, 0.0)
        return Batch(self._spec.nest.unflatten(arrays), info)

    def gather_all(self) -> Any:
        """Every item, stacked."""
        length = self._settings.sequence_length
        rows, wanted = [], None
        for key, columns in self._contents("gather_all").items(self._settings.table.name):
            wanted = len(columns[0]) if wanted is None else wanted
            for values in columns:
                if len(values) != wanted:
                    raise unstackable(self._settings.table.name, key, None, len(values), wanted)
            rows.append(columns)
        if not rows:
            return self._spec.nest.unflatten(self._arrays((0, length), None))
        return self._spec.nest.unflatten(
            [np.stack(column) for column in zip(*rows, strict=True)]
        )

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Every item of this moment, one by one."""
        found = self._contents("iter_items").items(self._settings.table.name)
        return ((key, self._spec.nest.unflatten(columns)) for key, columns in found)

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Number of stale keys, which only a snapshot of the table can tell."""
        self._client.check_updates()
        if self._saver is None:
            raise self._unsupported(
                "update_priorities",
                "does not say which keys are stale",
                "replay_buffer.update_priorities(), which counts nothing",
            )
        chosen, values = as_updates(keys, priorities)
        updates = dict(zip(chosen.tolist(), values.tolist(), strict=True))
        self._client.mutate_priorities(self._settings.table.name, updates)
        known = self._contents("update_priorities").keys(self._settings.table.name)
        return int((~np.isin(chosen, known)).sum())

    def delete(self, keys: NDArray[np.uint64]) -> None:
        """Removes items by Reverb's keys."""
        if len(keys):
            self._client.mutate_priorities(self._settings.table.name, deletes=keys.tolist())

    def clear(self) -> None:
        """Empties the table; its handles stay valid."""
        self._client.reset(self._settings.table.name)
        self._loaded = self._counters()
        self._created = time.monotonic()

    def info(self) -> BufferInfo:
        """Sizes, counters, settings; -1 for what Reverb does not report."""
        table = self._table()
        inserts, samples = self._counters(table)
        seconds = max(time.monotonic() - self._created, 1e-9)
        return BufferInfo(
            name=table.name,
            items=table.current_size,
            capacity=table.max_size,
            sequence_length=self._settings.sequence_length,
            steps=-1,
            record_nbytes=self._spec.nest.record_dtype.itemsize,
            nbytes=-1,
            allocated_nbytes=-1,
            inserts=inserts,
            samples=samples,
            deletes=max(inserts - table.current_size, 0),
            min_size_to_sample=table.rate_limiter_info.min_size_to_sample,
            inserts_per_second=(inserts - self._loaded[0]) / seconds,
            samples_per_second=(samples - self._loaded[1]) / seconds,
        )

    def save(self, wait: bool = True, *, progress: Progress | None = None) -> Path | None:
        """A checkpoint."""
        self._gate.check()
        if self._saver is None:
            raise self._unsupported(
                "save",
                "writes its checkpoints in its own way, to the disk of its own machine",
                "replay_buffer.py_client.checkpoint(), which makes it do so and returns "
                "the path there",
            )
        return self._saver.save(wait=wait, progress=progress)

    def close(self) -> None:
        """Ends a background save, then releases everything. Idempotent."""
        if self._gate.is_forked:
            return  # no thread of Reverb's is left here, and its locks may never open
        try:
            if self._saver is not None:
                self._saver.close()
        finally:
            if not self._gate.closed:
                self._gate.closed = True  # first: it ends the waits of other threads
                self._client.shut()
                server, self._server = self._server, None
                if server is not None:
                    server.stop()

    def _piece(self, num_steps: int | None) -> int:
        length = self._settings.sequence_length
        return length if num_steps is None else check_num_steps(num_steps, length)

    def _can_sample(self, batch_size: int, slice_s: float) -> bool:
        end = time.monotonic() + slice_s
        while True:
            table = self._table()
            limits = table.rate_limiter_info
            inserts, samples = self._counters(table)
            after = inserts * limits.samples_per_insert - samples - batch_size
            if (
                table.current_size >= max(1, limits.min_size_to_sample)
                and after >= limits.min_diff
            ):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)

    def _table(self) -> Any:
        return self._client.server_info()[self._settings.table.name]

    def _counters(self, table: Any = None) -> tuple[int, int]:
        limiter = (table or self._table()).rate_limiter_info
        return limiter.insert_stats.completed, limiter.sample_stats.completed

    def _arrays(self, leading: tuple[int, int], out: Any) -> list[NDArray[Any]]:
        columns = self._spec.nest.columns
        if out is None:
            return [np.empty((*leading, *c.spec.shape), c.spec.dtype) for c in columns]
        return self._spec.nest.out_leaves(out, [leading] * len(columns))

    def _contents(self, call: str) -> ReverbSource:
        self._client.flush()
        if self._saver is None:
            raise self._unsupported(
                call, "does not list its items", "sample() or get_dataset()"
            )
        with self._saver.snapshot() as path:
            source = reverb_source(path, max_nbytes=2**62)  # its files are read by then
        source.check_columns(self._settings.table.name, self._spec.nest)
        return source

    def _unsupported(self, call: str, why: str, instead: str) -> UnsupportedError:
        return UnsupportedError(
            f"{call}() with server_address={self._address!r:.200}: a Reverb server {why}. Use "
            f"{instead}."
        )
