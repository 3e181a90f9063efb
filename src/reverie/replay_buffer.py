"""The replay buffer as TF-Agents' users know it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from reverie.errors import InvalidArgumentError
from reverie.sample import SampleInfo
from reverie.table import Handle, ReplayTable, TableInfo


class LocalClient(Handle):
    """Stands where TF-Agents' users expect Reverb's client."""

    def __init__(self, checkpoint: Callable[[], str], table: ReplayTable) -> None:
        self._checkpoint = checkpoint
        self._table = table

    def __repr__(self) -> str:
        """`LocalClient()`."""
        return "LocalClient()"

    def checkpoint(self) -> str:
        """Saves a checkpoint, as `ReplayBufferManager.save` does; returns its path."""
        return self._checkpoint()

    def _tables_of(self, names: Sequence[str]) -> list[ReplayTable]:
        """The tables of these names, for observers."""
        for name in names:
            if name != self._table.name:
                raise InvalidArgumentError(
                    f"table_name: found {name!r:.200}, wanted {self._table.name!r}, the only "
                    "table of this replay buffer."
                )
        return [self._table for _ in names]


class ReplayBuffer(Handle):
    """One table, seen as TF-Agents' `ReverbReplayBuffer`.

    Thread-safe. What TF-Agents' class refuses (`gather_all`) works here;
    `add_batch` and `get_next` raise NotImplementedError as they do there.
    """

    stateful_dataset = True

    def __init__(self, table: ReplayTable, data_spec: Any, client: LocalClient) -> None:
        self._table = table
        self._data_spec = data_spec
        self._client = client

    def __repr__(self) -> str:
        """`ReplayBuffer('uniform_table', 49 of 50000 items)`."""
        return f"ReplayBuffer{repr(self._table).removeprefix('ReplayTable')}"

    @property
    def data_spec(self) -> Any:
        """The data spec as it was given."""
        return self._data_spec

    @property
    def capacity(self) -> int:
        """The most items it holds."""
        return self._table.capacity

    @property
    def sequence_length(self) -> int:
        """Steps of each item."""
        return self._table.sequence_length

    @property
    def table_name(self) -> str:
        """The table's name."""
        return self._table.name

    @property
    def py_client(self) -> LocalClient:
        """Has `checkpoint()`."""
        return self._client

    def num_frames(self) -> int:
        """Items in the table, every finished observer call included."""
        self._table.check_open()
        return int(self._table.core.size)

    def get_table_info(self) -> TableInfo:
        """Sizes, counters and settings now."""
        self._table.check_open()
        return self._table.info()

    def sample(
        self,
        batch_size: int,
        num_steps: int | None = None,
        *,
        out: Any = None,
        timeout: float | None = None,
    ) -> tuple[Any, SampleInfo]:
        """A batch in NumPy: leaves `[B, T, *shape]`, info fields `[B]`; see the manager's."""
        columns, info = self._table.sample(batch_size, num_steps, out=out, timeout=timeout)
        return self._table.nest.unflatten(columns), info

    def gather_all(self) -> Any:
        """Every item in insertion order, leaves `[N, T, *shape]`; see the manager's."""
        return self._table.nest.unflatten(self._table.gather()[0])

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Each item's key and data, leaves `[T, *shape]`, whatever its length.

        In insertion order. Columns that cover unequal steps keep their own T.
        """
        for key, columns in self._table.items():
            yield key, self._table.nest.unflatten(columns)

    def item_info(self) -> dict[str, NDArray[Any]]:
        """key, length, priority and times_sampled of every item, in insertion order."""
        self._table.check_open()
        items = self._table.core.items()
        return {name: items[name] for name in ("key", "length", "priority", "times_sampled")}

    def as_dataset(
        self,
        sample_batch_size: int | None = None,
        num_steps: int | None = None,
        num_parallel_calls: int | None = None,
        sequence_preprocess_fn: Callable[[Any], Any] | None = None,
        single_deterministic_pass: bool = False,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """A `tf.data.Dataset`; arguments and elements as in `adapters.tf_data.as_dataset`."""
        from reverie.adapters import tf_data

        return tf_data.as_dataset(
            self._table,
            sample_batch_size=sample_batch_size,
            num_steps=num_steps,
            num_parallel_calls=num_parallel_calls,
            sequence_preprocess_fn=sequence_preprocess_fn,
            single_deterministic_pass=single_deterministic_pass,
            timeout_s=timeout_s,
        )

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Sets priorities; returns how many keys were stale. See the manager's."""
        return self._table.update_priorities(keys, priorities)

    def clear(self) -> None:
        """Empties the table. Checkpoints on disk stay."""
        self._table.clear()

    def add_batch(self, items: Any) -> None:
        """Not supported, as in TF-Agents: steps come through the observer."""
        raise NotImplementedError(
            "add_batch is not supported: call the observer with each step instead."
        )

    def get_next(self, *args: Any, **kwargs: Any) -> Any:
        """Not supported, as in TF-Agents: use `sample` or `as_dataset`."""
        raise NotImplementedError("get_next is not supported: use sample() or as_dataset().")
