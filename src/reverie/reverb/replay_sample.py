"""What sampling returns: an item's data, and facts about the item."""

from __future__ import annotations

from typing import Any, NamedTuple

from reverie.runtime.optional import require


class SampleInfo(NamedTuple):
    """Facts about a sampled item at the moment it was chosen.

    Attributes:
        key: of the item; never reused. For `Client.mutate_priorities`.
        probability: with which the sampler chose it.
        table_size: items in the table.
        priority: of the item.
        times_sampled: how often it was sampled, this time included.

    From `Client.sample` they are Python numbers, or arrays over time; from a dataset
    tensors of the types that `tf_dtypes` lists.
    """

    key: Any
    probability: Any
    table_size: Any
    priority: Any
    times_sampled: Any

    @classmethod
    def tf_dtypes(cls) -> SampleInfo:
        """TensorFlow's dtype of each field.

        Raises:
            MissingDependencyError: TensorFlow is not installed.
        """
        tf = require("tensorflow", "tf", "TensorFlow's dtypes")
        return cls(tf.uint64, tf.double, tf.int64, tf.double, tf.int32)

    @classmethod
    def tf_shapes(cls) -> SampleInfo:
        """TensorFlow's shape of each field of one item: a scalar.

        Raises:
            MissingDependencyError: TensorFlow is not installed.
        """
        tf = require("tensorflow", "tf", "TensorFlow's shapes")
        return cls(*(tf.TensorShape([]) for _ in cls._fields))

    @classmethod
    def zeros(cls) -> SampleInfo:
        """A zero for each field, as Python numbers."""
        return cls(0, 0.0, 0, 0.0, 0)


class ReplaySample(NamedTuple):
    """A sampled item.

    Attributes:
        info: facts about the item, a `SampleInfo`.
        data: its columns, in the nest of the table's signature where the sampler was
            asked for that, else a flat list.
    """

    info: SampleInfo
    data: Any
