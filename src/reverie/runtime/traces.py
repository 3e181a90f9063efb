"""What TensorFlow traced, kept for whoever wants the same again; datasets of one op each."""

from __future__ import annotations

import atexit
import functools
import sys
from collections.abc import Callable
from typing import Any

# Different arguments whose traces are kept; those of one more are traced again.
_KEPT = 64


def keep_traces(trace: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of what traces functions of TensorFlow's: once for the same arguments.

    TensorFlow keeps each Python function that a graph calls, and what it traced, as long as
    the process lives. So these must know nothing that is to go, such as a buffer.

    They are let go before the interpreter takes TensorFlow apart, which it would complain of.
    """
    cached = functools.lru_cache(_KEPT)(trace)
    atexit.register(cached.cache_clear)

    def traced(*arguments: Any) -> Any:
        tf: Any = sys.modules["tensorflow"]
        with tf.init_scope():
            # A graph of TensorFlow 1 must not hand its functions to others.
            return (cached if tf.executing_eagerly() else trace)(*arguments)

    traced.cached = cached  # type: ignore[attr-defined]
    return traced


def op_dataset(variant: Any, spec: Any, inputs: list[Any], held: Any) -> Any:
    """The `tf.data.Dataset` that one op of TensorFlow's is.

    Args:
        variant: the op's output.
        spec: of an element.
        inputs: datasets that it reads.
        held: what must live as long as it and its iterators, such as functions that the
            op calls.
    """
    return _op_class()(variant, spec, inputs, held)


@functools.cache
def _op_class() -> Any:
    tf: Any = sys.modules["tensorflow"]

    class Op(tf.data.Dataset):  # type: ignore[misc]
        def __init__(self, variant: Any, spec: Any, inputs: list[Any], held: Any) -> None:
            self._spec, self._read, self._held = spec, inputs, held
            super().__init__(variant)

        def _inputs(self) -> list[Any]:
            return self._read

        @property
        def element_spec(self) -> Any:
            return self._spec

    return Op
