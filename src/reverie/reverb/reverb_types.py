"""Types of arguments, and what a table says about itself."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, TypeAlias

from reverie.errors import MissingDependencyError
from reverie.nests import codec as signatures
from reverie.reverb import pybind
from reverie.tables.table import Table

Fifo = pybind.FifoSelector
Heap = pybind.HeapSelector
Lifo = pybind.LifoSelector
Prioritized = pybind.PrioritizedSelector
Uniform = pybind.UniformSelector

SelectorType: TypeAlias = pybind.ItemSelector
TensorSpec = signatures.TensorSpec
# Any nest; its leaves are anything with a shape and a dtype, such as a tf.TensorSpec.
SpecNest: TypeAlias = Any


@dataclasses.dataclass
class TableInfo:
    """Settings and counters of a table at one moment.

    Attributes:
        name: the table's name.
        sampler_options: a `schema_pb2.KeyDistributionOptions`. This and the other
            messages need the package `protobuf`; without it, using one raises
            MissingDependencyError.
        remover_options: likewise.
        max_size: the most items that it holds.
        max_times_sampled: samples after which an item leaves; below 1, never.
        rate_limiter_info: a `schema_pb2.RateLimiterInfo`; `insert_stats.completed` and
            `sample_stats.completed` count inserts and samples.
        signature: the nest of specs, or None.
        current_size: items in it.
        num_episodes: episodes that its items refer to.
        num_deleted_episodes: episodes of which the last item has left.
        num_unique_samples: items that were sampled at least once.
        table_worker_time: a `schema_pb2.TableWorkerTime`, all zero: tables here have no
            thread of their own.
    """

    name: str
    sampler_options: Any
    remover_options: Any
    max_size: int
    max_times_sampled: int
    rate_limiter_info: Any
    signature: SpecNest | None
    current_size: int
    num_episodes: int
    num_deleted_episodes: int
    num_unique_samples: int
    table_worker_time: Any

    @classmethod
    def from_table(cls, table: Table) -> TableInfo:
        """Of one of the engine's tables, now. O(1).

        Raises:
            ForkedProcessError: the table was made before `os.fork()`.
        """
        state = table.state()
        settings, limiter = table.settings, table.settings.limiter
        return cls(
            name=table.name,
            sampler_options=_selector_options(settings.sampler),
            remover_options=_selector_options(settings.remover),
            max_size=settings.max_size,
            max_times_sampled=settings.max_times_sampled,
            rate_limiter_info=_message(
                "RateLimiterInfo",
                samples_per_insert=limiter.samples_per_insert,
                min_diff=limiter.min_diff,
                max_diff=limiter.max_diff,
                min_size_to_sample=limiter.min_size_to_sample,
                insert_stats={"completed": state["inserts"]},
                sample_stats={"completed": state["samples"]},
            ),
            signature=settings.signature,
            current_size=state["size"],
            num_episodes=state["num_episodes"],
            num_deleted_episodes=state["num_deleted_episodes"],
            num_unique_samples=state["num_unique_samples"],
            table_worker_time=_message("TableWorkerTime"),
        )

    @classmethod
    def from_serialized_proto(cls, proto_string: bytes) -> TableInfo:
        """Of a serialized `schema_pb2.TableInfo`.

        The signature's leaves are `tf.TensorSpec` where TensorFlow is loaded, else
        values with the same dtype, shape and name.

        Raises:
            MissingDependencyError: the package `protobuf` is not installed.
        """
        from reverie.proto import structured_value
        from reverie.reverb.cc import schema_pb2

        proto = schema_pb2.TableInfo.FromString(proto_string)
        fields = {field.name: getattr(proto, field.name) for field in dataclasses.fields(cls)}
        given = proto.HasField("signature")
        fields["signature"] = structured_value.decode(proto.signature) if given else None
        return cls(**fields)


class _NoMessage:
    """Stands for a message that cannot be made; says so when it is used."""

    def __init__(self, error: MissingDependencyError) -> None:
        self._error = str(error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy, pickle and the like look for their hooks
            raise AttributeError(name)
        raise MissingDependencyError(self._error)

    def __repr__(self) -> str:
        return "<needs the package protobuf>"


def _message(kind: str, **fields: Any) -> Any:
    try:
        messages = importlib.import_module("reverie.reverb.cc.schema_pb2")
    except MissingDependencyError as error:
        return _NoMessage(error)
    return getattr(messages, kind)(**fields)


def _selector_options(selector: pybind.ItemSelector) -> Any:
    options: dict[str, Any] = {"is_deterministic": selector.is_deterministic}
    if selector.kind == "prioritized":
        options["prioritized"] = {"priority_exponent": selector.exponent}
    elif selector.kind in ("min_heap", "max_heap"):
        options["heap"] = {"min_heap": selector.kind == "min_heap"}
    else:
        options[selector.kind] = True
    return _message("KeyDistributionOptions", **options)
