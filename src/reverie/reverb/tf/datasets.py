"""What TrajectoryDataset and TimestepDataset share: all but whether items are cut."""

from __future__ import annotations

import math
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb.client import Client
from reverie.reverb.replay_sample import ReplaySample, SampleInfo
from reverie.reverb.tf.common import as_column, lists_to_tuples, not_found, paths
from reverie.reverb.tf.streams import Settings, Streams
from reverie.runtime.optional import require
from reverie.runtime.traces import keep_traces, op_dataset

tf: Any = require("tensorflow", "tf", "A dataset of reverb")


class TableDataset(tf.compat.v1.data.Dataset):  # type: ignore[misc]
    """Samples of a table, as a `tf.data.Dataset` of `ReplaySample`s.

    `info` holds scalars of the dtypes of `SampleInfo.tf_dtypes()`; `data` has the
    structure of `dtypes`, with tuples for lists, which tf.data would take for tensors.
    Each iterator is a stream of samples of its own. It samples when it is read, at
    most `max_in_flight_samples_per_worker` items at a time; beside threads that keep the
    interpreter busy a call waits long for its turn and brings up to 8 times as many, from
    tables with the sampler Uniform, the limiter MinSize and no `max_times_sampled`.

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
                and 0: while another thread could make the first one.
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
        chunks = _chunks(self._server_address, self._table, self._settings, self._spec)
        self._samples = _rows(chunks, self._spec)
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


def _chunks(address: Any, table: Any, settings: Settings, spec: Any) -> Any:
    """What samples come in: elements of `spec` with a leading dimension.

    TensorFlow calls us for each. The op by itself: iterators of it are made in little
    time, and a call takes less than half of what `Dataset.from_generator` makes of it.
    """
    spec = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec(_with_rows(leaf.shape), leaf.dtype), spec
    )
    dtypes = tuple(leaf.dtype for leaf in tf.nest.flatten(spec))
    functions = _stream_functions(settings, dtypes)
    variant = tf.raw_ops.GeneratorDataset(
        init_func_other_args=[
            tf.convert_to_tensor(address, tf.string),
            tf.convert_to_tensor(table, tf.string),
        ],
        next_func_other_args=[],
        finalize_func_other_args=[],
        **functions,
        **_output(spec),
    )
    return op_dataset(variant, spec, [], functions)


@keep_traces
def _stream_functions(settings: Settings, dtypes: tuple[Any, ...]) -> dict[str, Any]:
    """What a GeneratorDataset calls; the server's address and the table are tensors to it."""
    streams = Streams(settings)

    def fetch(number: Any) -> list[Any]:
        arguments = [number, tf.timestamp()]  # from before there is a wait for the interpreter
        error, *tensors = tf.numpy_function(streams.fetch, arguments, [tf.string, *dtypes])
        error = tf.reshape(error, ())
        # tf.cond does the same, and makes each iterator 4 ms dearer.
        sound, failed = tf.raw_ops.Switch(data=error, pred=tf.not_equal(error, ""))
        either = tf.raw_ops.Merge(inputs=[sound, not_found(failed)])
        with tf.control_dependencies([either.output]):
            return [tf.identity(tensor) for tensor in tensors]

    def call(function: Any) -> Any:
        return lambda *arguments: tf.numpy_function(function, arguments, tf.int64)

    return {
        "init_func": _graph_function(call(streams.open), [tf.string] * 2),
        "next_func": _graph_function(fetch, [tf.int64]),
        "finalize_func": _graph_function(call(streams.close), [tf.int64]),
    }


def _rows(chunks: Any, spec: Any) -> Any:
    """The rows of chunks, one by one; `spec` is a row's."""
    variant = chunks._variant_tensor
    # The faster of the two crashes where a row has no elements.
    if all(leaf.shape.num_elements() for leaf in tf.nest.flatten(spec)):
        unbatched = tf.raw_ops.UnbatchDataset(input_dataset=variant, **_output(spec))
        return op_dataset(unbatched, spec, [chunks], None)

    def cut(*chunk: Any) -> Any:
        return tf.raw_ops.TensorSliceDataset(
            components=chunk, output_shapes=_output(spec)["output_shapes"]
        )

    function = _graph_function(cut, _output(spec)["output_types"], None)
    cut_up = tf.raw_ops.FlatMapDataset(
        input_dataset=variant, other_arguments=[], f=function, **_output(spec)
    )
    return op_dataset(cut_up, spec, [chunks], function)


def _output(spec: Any) -> dict[str, list[Any]]:
    leaves = tf.nest.flatten(spec)
    return {
        "output_types": [leaf.dtype for leaf in leaves],
        "output_shapes": [leaf.shape for leaf in leaves],
    }


def _with_rows(shape: Any) -> Any:
    return tf.TensorShape(None) if shape.rank is None else tf.TensorShape([None, *shape])


def _graph_function(body: Any, dtypes: list[Any], shape: Any = ()) -> Any:
    """A function of tensors, as an op takes it for an attribute."""
    signature = [tf.TensorSpec(shape, dtype) for dtype in dtypes]
    return tf.function(body, input_signature=signature, autograph=False).get_concrete_function()
