"""What TrajectoryDataset and TimestepDataset share: all but whether items are cut."""

from __future__ import annotations

import math
from typing import Any

from reverie.adapters import require
from reverie.adapters.tf_reverb.common import (
    NUM_INFO,
    as_column,
    lists_to_tuples,
    not_found,
    paths,
)
from reverie.adapters.tf_reverb.streams import Settings, Streams
from reverie.errors import InvalidArgumentError
from reverie.reverb.client import Client
from reverie.reverb.replay_sample import ReplaySample, SampleInfo

tf: Any = require("tensorflow", "tf", "A dataset of reverb")


class TableDataset(tf.compat.v1.data.Dataset):  # type: ignore[misc]
    """Samples of a table, as a `tf.data.Dataset` of `ReplaySample`s.

    `info` holds scalars of the dtypes of `SampleInfo.tf_dtypes()`; `data` has the
    structure of `dtypes`, with tuples for lists, which tf.data would take for tensors.
    Each iterator is a stream of samples of its own. It samples when it is read, at
    most `max_in_flight_samples_per_worker` items at a time.

    Args:
        server_address: "localhost:port" of a server of this process, or a scalar string
            tensor. It is looked up when an iterator is first read.
        table: its name, or a scalar string tensor.
        dtypes: nest of TensorFlow's dtypes.
        shapes: nest of `tf.TensorShape`s; unknown sizes and ranks are allowed.
        max_in_flight_samples_per_worker: items sampled in one go. Large values are
            faster, and older by the time they are read; 2 to 3 batches are usual.
        num_workers_per_iterator: checked, and otherwise without effect: there is no
            connection to keep busy, and items always come in the sampler's order.
        max_samples_per_stream: checked, and otherwise without effect.
        rate_limiter_timeout_ms: the dataset ends when a sample has been waited for so
            long; -1 waits for ever, and says so in the log after 5 s.
        max_samples: the dataset ends after so many items; -1 for no end.

    Raises:
        InvalidArgumentError: `dtypes` and `shapes` differ in structure, or a number is
            out of range.

    Reading raises TensorFlow's errors: InvalidArgumentError where the table's signature
    or an item does not agree with `dtypes` and `shapes`, NotFoundError where the server
    or the table is not there, or not any more.
    """

    _timesteps: bool

    def __init__(
        self,
        server_address: Any,
        table: Any,
        dtypes: Any,
        shapes: Any,
        max_in_flight_samples_per_worker: int,
        num_workers_per_iterator: int = -1,
        max_samples_per_stream: int = -1,
        rate_limiter_timeout_ms: int = -1,
        max_samples: int = -1,
    ) -> None:
        try:
            tf.nest.assert_same_structure(dtypes, shapes, check_types=False)
        except (ValueError, TypeError) as error:
            raise InvalidArgumentError(
                f"dtypes and shapes must have one structure: {error!s:.1000}"
            ) from error
        if max_in_flight_samples_per_worker < 1:
            raise InvalidArgumentError(
                "max_in_flight_samples_per_worker "
                f"({max_in_flight_samples_per_worker!r}) must be a positive integer"
            )
        for name, value in (
            ("num_workers_per_iterator", num_workers_per_iterator),
            ("max_samples_per_stream", max_samples_per_stream),
            ("max_samples", max_samples),
        ):
            if value < 1 and value != -1:
                raise InvalidArgumentError(
                    f"{name} ({value!r}) must be a positive integer or -1"
                )
        if rate_limiter_timeout_ms < -1:
            raise InvalidArgumentError(
                f"rate_limiter_timeout_ms ({rate_limiter_timeout_ms!r}) must be an integer "
                ">= -1"
            )
        self._spec = ReplaySample(
            info=SampleInfo(
                *map(tf.TensorSpec, SampleInfo.tf_shapes(), SampleInfo.tf_dtypes())
            ),
            data=lists_to_tuples(tf.nest.map_structure(_as_spec, shapes, dtypes)),
        )
        specs = tf.nest.flatten(self._spec.data)
        columns = [
            as_column(name, spec.dtype, spec.shape)
            for name, spec in zip(paths(self._spec.data), specs, strict=True)
        ]
        self._settings = Settings(
            columns=tuple(columns),
            timesteps=self._timesteps,
            max_in_flight=int(max_in_flight_samples_per_worker),
            timeout_s=(
                math.inf if rate_limiter_timeout_ms < 0 else rate_limiter_timeout_ms / 1000
            ),
            max_samples=int(max_samples),
        )
        self._server_address = server_address
        self._table = table
        super().__init__()

    @classmethod
    def from_table_signature(
        cls,
        server_address: str,
        table: str,
        max_in_flight_samples_per_worker: int,
        num_workers_per_iterator: int = -1,
        max_samples_per_stream: int = -1,
        rate_limiter_timeout_ms: int = -1,
        get_signature_timeout_secs: int | None = None,
        max_samples: int = -1,
    ) -> Any:
        """A dataset whose dtypes and shapes are the table's signature.

        Args:
            server_address: as for the class, no tensor.
            table: as for the class, no tensor. Its signature describes what the dataset
                yields: whole items, or single steps.
            max_in_flight_samples_per_worker: as for the class.
            num_workers_per_iterator: as for the class.
            max_samples_per_stream: as for the class.
            rate_limiter_timeout_ms: as for the class.
            get_signature_timeout_secs: how long to wait for a server on the port; None
                and 0: not at all.
            max_samples: as for the class.

        Raises:
            InvalidArgumentError: the server has no such table, or the table has no
                signature; a number is out of range.
            UnreachableServerError: no server of this process has the address.
            DeadlineExceededError: none came within the timeout.
        """
        info = Client(server_address).server_info(get_signature_timeout_secs)
        if table not in info:
            raise InvalidArgumentError(
                f"Server at {server_address} does not contain any table named {table}. "
                f"Found: {', '.join(sorted(info))}."
            )
        signature = info[table].signature
        if not signature:
            raise InvalidArgumentError(
                f"Table {table} at {server_address} does not have a signature. Give the "
                "table one, or give dtypes and shapes to the dataset."
            )
        return cls(
            server_address=server_address,
            table=table,
            dtypes=tf.nest.map_structure(lambda leaf: tf.as_dtype(leaf.dtype), signature),
            shapes=tf.nest.map_structure(lambda leaf: tf.TensorShape(leaf.shape), signature),
            max_in_flight_samples_per_worker=max_in_flight_samples_per_worker,
            num_workers_per_iterator=num_workers_per_iterator,
            max_samples_per_stream=max_samples_per_stream,
            rate_limiter_timeout_ms=rate_limiter_timeout_ms,
            max_samples=max_samples,
        )

    def _as_variant_tensor(self) -> Any:
        # TensorFlow calls this once, in the constructor; the dataset lives in `self`.
        self._samples = _samples(self._server_address, self._table, self._settings, self._spec)
        return self._samples._variant_tensor

    def _inputs(self) -> list[Any]:
        return [self._samples]

    def __iter__(self) -> Any:
        """An iterator that stays as near to its reader as the constructor was told.

        TensorFlow would put a prefetch of its own behind the dataset, with a buffer that
        grows. Datasets made of this one have that, as those of Reverb's have.
        """
        return iter(self.with_options(_WITHOUT_PREFETCH))

    def make_initializable_iterator(self, shared_name: str | None = None) -> Any:
        """The same for sessions: TensorFlow's `make_initializable_iterator`."""
        dataset = self.with_options(_WITHOUT_PREFETCH)
        return tf.compat.v1.data.make_initializable_iterator(dataset, shared_name)

    def make_one_shot_iterator(self) -> Any:
        """The same for sessions: TensorFlow's `make_one_shot_iterator`."""
        dataset = self.with_options(_WITHOUT_PREFETCH)
        return tf.compat.v1.data.make_one_shot_iterator(dataset)

    @property
    def element_spec(self) -> Any:
        """A `ReplaySample` of `tf.TensorSpec`s."""
        return self._spec


_WITHOUT_PREFETCH = tf.data.Options()
_WITHOUT_PREFETCH.experimental_optimization.inject_prefetch = False


def _as_spec(shape: Any, dtype: Any) -> Any:
    return tf.TensorSpec(tf.TensorShape(shape), tf.as_dtype(dtype))


def _samples(address: Any, table: Any, settings: Settings, spec: Any) -> Any:
    """The dataset itself, of TensorFlow's own parts.

    A `from_generator` yields a stream's number and is kept by the `flat_map` for as
    long as the iterator lives: its end is the stream's. The chunks come from a plain
    `numpy_function`, which takes less than half of a generator's time.
    """
    streams = Streams(settings)
    do_not_convert = tf.autograph.experimental.do_not_convert
    specs = tf.nest.flatten(spec)
    dtypes = [tensor.dtype for tensor in specs]
    chunk_shapes = [_with_rows(tensor.shape) for tensor in specs]

    def fetch(number: Any) -> Any:
        goes_on, *tensors = tf.numpy_function(streams.fetch, [number], [tf.bool, *dtypes])
        goes_on.set_shape(())
        for tensor, shape in zip(tensors, chunk_shapes, strict=True):
            tensor.set_shape(shape)
        return goes_on, tf.nest.pack_sequence_as(spec, tensors)

    def fail(message: Any) -> Any:
        # The result depends on the op that fails, or it would be optimised away.
        none = 0 * tf.strings.length(not_found(tf.reshape(message, ())))
        rows = [
            tf.zeros([none, *(size or 0 for size in each.shape or ())], each.dtype)
            for each in specs
        ]
        return tf.nest.pack_sequence_as(spec, rows)

    def chunks(number: Any) -> Any:
        ending = (
            tf.data.Dataset.from_tensors(number)
            .map(do_not_convert(lambda n: tf.numpy_function(streams.error, [n], tf.string)))
            .filter(do_not_convert(lambda message: tf.not_equal(tf.reshape(message, ()), "")))
            .map(do_not_convert(fail))
        )
        return (
            tf.data.Dataset.from_tensors(number)
            .repeat()
            .map(do_not_convert(fetch))
            .take_while(do_not_convert(lambda goes_on, _: goes_on))
            .map(do_not_convert(lambda _, samples: samples))
            .concatenate(ending)
        )

    numbers = tf.data.Dataset.from_generator(
        streams.lifetime,
        output_signature=tf.TensorSpec((), tf.int64),
        args=(tf.convert_to_tensor(address, tf.string), tf.convert_to_tensor(table, tf.string)),
    )
    return _rows(numbers.flat_map(do_not_convert(chunks)), specs[NUM_INFO:])


def _with_rows(shape: Any) -> Any:
    return tf.TensorShape(None) if shape.rank is None else tf.TensorShape([None, *shape])


def _rows(chunks: Any, columns: Any) -> Any:
    """The rows of a dataset of chunks, one by one."""
    do_not_convert = tf.autograph.experimental.do_not_convert
    # unbatch() is the fastest, but crashes where a row has no elements.
    if all(spec.shape.num_elements() for spec in columns):
        return chunks.unbatch()
    if all(spec.shape.rank is not None for spec in columns):
        return chunks.flat_map(
            do_not_convert(lambda chunk: tf.data.Dataset.from_tensor_slices(chunk))
        )

    def each(chunk: Any) -> Any:
        return tf.data.Dataset.range(tf.size(chunk.info.key, tf.int64)).map(
            do_not_convert(lambda i: tf.nest.map_structure(lambda t: tf.gather(t, i), chunk))
        )

    return chunks.flat_map(do_not_convert(each))
