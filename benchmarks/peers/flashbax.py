"""Flashbax: item buffers of whole transitions and a trajectory buffer, compiled, on the CPU.

Each call is compiled once, the state is given away to it (`donate_argnums`), the random key is
split within, and the result is waited for. Item buffers, as flat ones hold no final states;
importance weights, of which it returns the probabilities, are computed in the same call.
Actions are int32: JAX has no int64 by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.scenario import (
    ALPHA,
    BATCH,
    BETA,
    ENVS,
    ERRORS,
    LENGTH,
    SEQUENCES,
    Row,
    Rows,
    Step,
    filled,
    priorities,
    steps,
)

INSTALL = "pip install flashbax"
PACKAGES = ("flashbax", "jax")

NAMES = ("observation", "action", "reward", "next_observation", "terminated")


class Held:
    """A buffer of pure functions and its state, which each add replaces."""

    def __init__(self, buffer: Any, step: dict[str, Any], after: Callable[..., Any]) -> None:
        import jax

        def sample(state: Any, key: Any) -> Any:
            key, sub = jax.random.split(key)
            return after(state, buffer.sample(state, sub)), key

        one = jax.tree.map(lambda leaf: leaf[0], step)
        self.state = jax.jit(buffer.init)(one)
        self.key = jax.random.key(0)
        self._add = jax.jit(buffer.add, donate_argnums=0)
        self._sample = jax.jit(sample)
        self._wait = jax.block_until_ready

    def add(self, step: dict[str, Any]) -> None:
        """A step of each environment."""
        self.state = self._wait(self._add(self.state, step))

    def sample(self) -> Any:
        """A batch."""
        batch, self.key = self._sample(self.state, self.key)
        return self._wait(batch)


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    import flashbax
    import jax
    import jax.numpy as jnp

    stream = [_given(step) for step in steps()]
    items = flashbax.make_item_buffer(capacity, 1, BATCH, add_batches=True)
    uniform = Held(items, stream[0], lambda state, batch: batch.experience)
    add = filled(uniform.add, stream, capacity)

    weighted_items = flashbax.make_prioritised_item_buffer(
        capacity, 1, BATCH, add_batches=True, priority_exponent=ALPHA, device="cpu"
    )

    def weights(state: Any, batch: Any) -> Any:
        weight = (capacity * batch.probabilities) ** -BETA
        return batch.experience, weight / weight.max(), batch.indices

    prioritized = Held(weighted_items, stream[0], weights)
    filled(prioritized.add, stream, capacity)
    set_priorities = jax.jit(weighted_items.set_priorities, donate_argnums=0)
    all_of_them = jnp.asarray(priorities(capacity), jnp.float32)
    prioritized.state = set_priorities(prioritized.state, jnp.arange(capacity), all_of_them)
    errors = jnp.asarray(ERRORS, jnp.float32)

    def updated() -> Any:
        batch = prioritized.sample()
        state = set_priorities(prioritized.state, batch[2], errors)
        prioritized.state = jax.block_until_ready(state)
        return batch

    trajectories = flashbax.make_trajectory_buffer(
        add_batch_size=ENVS,
        sample_batch_size=SEQUENCES,
        sample_sequence_length=LENGTH,
        period=1,
        min_length_time_axis=LENGTH,
        max_length_time_axis=capacity // ENVS,
    )
    in_time = [
        {name: step[name][:, None] for name in NAMES if name != "next_observation"}
        for step in stream
    ]
    one = {name: leaf[:, 0] for name, leaf in in_time[0].items()}
    sequences = Held(trajectories, one, lambda state, batch: batch.experience)
    filled(sequences.add, in_time, capacity)
    return {
        "add": Row(
            add,
            note="called from Python, as all of its figures; compiled with all else"
            " into one program it costs less",
        ),
        "transitions": Row(uniform.sample, dict),
        "n-step": "it has none",
        "prioritized": Row(prioritized.sample, _weighted),
        "updated": Row(updated, _weighted),
        "sequences": Row(
            sequences.sample, _sequences, "no masks: they run on into the next episode"
        ),
    }


def _given(step: Step) -> dict[str, Any]:
    import jax.numpy as jnp

    step = step._replace(action=step.action.astype(np.int32))
    return dict(zip(NAMES, map(jnp.asarray, step), strict=False))


def _weighted(found: Any) -> dict[str, Any]:
    return {**found[0], "weight": found[1]}


def _sequences(batch: Any) -> dict[str, Any]:
    return {name: batch[name] for name in ("observation", "action", "reward")}
