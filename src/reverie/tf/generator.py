"""A `tf.data.Dataset` of what Python brings, whose functions are traced once for each shape.

The functions know no dataset: a source is a number to them, an input of the op, and
datasets of the same dtypes and shapes share them (see `runtime.traces`).
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from reverie.errors import ClosedError
from reverie.runtime.leaving import enter_from_outside
from reverie.runtime.traces import keep_traces, op_dataset
from reverie.tf.framework import tf

_numbers = itertools.count()


class Iteration(Protocol):
    """One iterator's reading."""

    def fetch(self, asked_s: float) -> Sequence[Any]:
        """The next chunk: two or more arrays of the dataset's dtypes, `[n, *shape]`, n >= 0.

        Args:
            asked_s: when TensorFlow wanted it, in seconds since the epoch.

        Raises:
            StopIteration: there is nothing more.
        """


class Source(Protocol):
    """What a dataset reads from."""

    def open(self) -> Iteration:
        """A new iterator's reading; it holds what it needs of the source."""


# Sources belong to their datasets, iterations to TensorFlow's iterators.
_sources: weakref.WeakValueDictionary[int, Source] = weakref.WeakValueDictionary()
_iterations: dict[int, Iteration] = {}


def chunks(
    source: Source, dtypes: Sequence[np.dtype[Any]], shapes: Sequence[tuple[int | None, ...]]
) -> Any:
    """A dataset of tuples of tensors `[n, *shape]`, as the source's iterations fetch them.

    The dataset holds the source, and so do its iterators and what is derived from it.
    Made while a graph is built, where the object does not last, the graph holds the source.

    Args:
        source: asked for an iteration when an iterator is first read.
        dtypes: of the tensors.
        shapes: of their rows.
    """
    names = tuple(tf.as_dtype(dtype).name for dtype in dtypes)
    functions = _functions(names, tuple(shapes))
    token = next(_numbers)
    _sources[token] = source
    spec = tuple(
        tf.TensorSpec((None, *shape), name) for name, shape in zip(names, shapes, strict=True)
    )
    variant = tf.raw_ops.GeneratorDataset(
        init_func_other_args=[tf.constant(token, tf.int64)],
        next_func_other_args=[],
        finalize_func_other_args=[],
        output_types=[leaf.dtype for leaf in spec],
        output_shapes=[leaf.shape for leaf in spec],
        **functions,
    )
    if not tf.executing_eagerly():
        _hold(tf.compat.v1.get_default_graph(), source)
    return op_dataset(variant, spec, [], (source, functions))


@keep_traces
def _functions(names: tuple[str, ...], shapes: tuple[Any, ...]) -> dict[str, Any]:
    """The functions of a GeneratorDataset whose source is a number."""

    def graph(body: Any) -> Any:
        signature = [tf.TensorSpec((), tf.int64)]
        made = tf.function(body, input_signature=signature, autograph=False)
        return made.get_concrete_function()

    def fetch(number: Any) -> list[Any]:
        # The moment is noted before there is a wait for the interpreter.
        found: list[Any] = tf.numpy_function(_fetch, [number, tf.timestamp()], list(names))
        for tensor, shape in zip(found, shapes, strict=True):
            tensor.set_shape((None, *shape))
        return found

    return {
        "init_func": graph(lambda token: tf.numpy_function(_open, [token], tf.int64)),
        "next_func": graph(fetch),
        "finalize_func": graph(lambda number: tf.numpy_function(_close, [number], tf.int64)),
    }


def _open(token: Any) -> Any:
    """Called by TensorFlow when an iterator is first read; the iteration's number."""
    source = _sources.get(int(token))
    if source is None:
        raise ClosedError("The dataset is gone. Keep a reference to it while you read.")
    number = next(_numbers)
    _iterations[number] = source.open()
    return np.int64(number)


def _fetch(number: Any, asked_s: Any) -> tuple[Any, ...]:
    """Called by TensorFlow, from any thread, for the next chunk."""
    iteration = _iterations[int(number)]
    enter_from_outside(iteration)
    return tuple(iteration.fetch(float(asked_s)))


def _close(number: Any) -> Any:
    """Called by TensorFlow when an iterator goes, or has come to its end."""
    _iterations.pop(int(number), None)
    return np.int64(0)


def _hold(graph: Any, source: Source) -> None:
    """Makes the outermost function that is being traced, or else the graph, hold a source."""
    while getattr(getattr(graph, "outer_graph", None), "outer_graph", None) is not None:
        graph = graph.outer_graph
    held = getattr(graph, "_reverie_sources", None)
    if held is None:
        held = graph._reverie_sources = []
    held.append(source)
