"""What the Reverb fixtures hold: one function for each fills a server's tables.

`make_reverb_fixtures.py` runs them; each becomes a folder of its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import reverb
import tensorflow as tf
import tree
from tf_agents.replay_buffers import reverb_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

UNIFORM, FIFO, LIFO = reverb.selectors.Uniform, reverb.selectors.Fifo, reverb.selectors.Lifo

Fill = Callable[[reverb.Client], None]
CASES: dict[str, tuple[Callable[[], list[reverb.Table]], tuple[Fill, ...]]] = {}


def table(name: str, sampler: Any = UNIFORM, remover: Any = FIFO, **settings: Any) -> Any:
    """A table with the settings that a case does not care about filled in.

    Selectors are given as their makers: two tables must never share one.
    """
    settings = {
        "max_size": 50,
        "rate_limiter": reverb.rate_limiters.MinSize(1),
        **settings,
    }
    return reverb.Table(name, sampler(), remover(), **settings)


def case(*tables: Callable[[], reverb.Table]) -> Callable[[Fill], Fill]:
    """Registers a function that fills a server; a second of the same name restarts it."""

    def register(fill: Fill) -> Fill:
        _, fills = CASES.get(fill.__name__, (None, ()))
        CASES[fill.__name__] = (lambda: [make() for make in tables], (*fills, fill))
        return fill

    return register


def step(number: int) -> dict[str, Any]:
    """A nested step whose every number tells which step it is."""
    return {
        "observation": {
            "image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3) + np.uint8(number),
            "speed": np.float32([number, number / 3]),
        },
        "action": np.int32(number),
        "reward": np.float64(number) / 7,
        "done": np.bool_(number % 5 == 4),
    }


NESTED = {
    "action": tf.TensorSpec([None], tf.int32),
    "done": tf.TensorSpec([None], tf.bool),
    "observation": {
        "image": tf.TensorSpec([None, 2, 2, 3], tf.uint8),
        "speed": tf.TensorSpec([3, 2], tf.float32),
    },
    "reward": tf.TensorSpec(None, tf.float64),
}


@case(lambda: table("windows", signature=NESTED))
def trajectory_windows(client: reverb.Client) -> None:
    """Overlapping windows of nested steps, three episodes, a signature."""
    with client.trajectory_writer(num_keep_alive_refs=4) as writer:
        for episode in range(3):
            for number in range(7):
                writer.append(step(10 * episode + number))
                if number >= 2:
                    history = tree.map_structure(lambda column: column[-3:], writer.history)
                    writer.create_item("windows", 1.0 + number, history)
            writer.end_episode()


@case(lambda: table("deltas", FIFO))
def legacy_writer(client: reverb.Client) -> None:
    """The writer of old, with delta encoding, chunks of 3 and windows across them."""
    with client.writer(6, chunk_length=3, delta_encoded=True) as writer:
        for number in range(11):
            kinds = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32)
            wide = [np.array([number * 37, 3], np.int64).astype(kind) for kind in kinds]
            huge = np.uint64([2**64 - 1 - number, number])
            down = np.int64([[-(2**62) * (number % 2)], [number]])
            flags = np.array([number % 2 == 0, True])
            writer.append([*wide, huge, down, flags, np.float32([number]), np.int32(number)])
            if number >= 4:
                writer.create_item("deltas", 5, float(number))


@case(
    lambda: table("prioritized", lambda: reverb.selectors.Prioritized(0.7)),
    lambda: table("fifo", FIFO, LIFO, max_times_sampled=3),
    lambda: table("worst", reverb.selectors.MinHeap, reverb.selectors.MaxHeap),
)
def client_insert(client: reverb.Client) -> None:
    """Single steps, shared by three tables, with priorities changed and items sampled."""
    for number in range(8):
        to = {"prioritized": number / 2, "fifo": 1.0, "worst": -float(number % 3)}
        client.insert([np.float32([number, -number]), np.int64(number)], to)
    keys = [next(iter(client.sample("fifo", 1)))[0].info.key for _ in range(4)]
    client.mutate_priorities("fifo", updates={keys[0]: 9.5}, deletes=[keys[3]])


@case(lambda: table("shifted", FIFO), lambda: table("tail", FIFO))
def column_chunks(client: reverb.Client) -> None:
    """Columns in chunks of their own lengths, and items of uneven columns."""
    writer = client.trajectory_writer(num_keep_alive_refs=10)
    writer.configure(("state",), num_keep_alive_refs=10, max_chunk_length=4)
    writer.configure(("action",), num_keep_alive_refs=10, max_chunk_length=1)
    writer.configure(("reward",), num_keep_alive_refs=8, max_chunk_length=None)
    with writer:
        for number in range(14):
            writer.append(
                {
                    "state": np.float32([number, 0.5, -number]),
                    "action": np.int16([number, number + 1]),
                    "reward": np.float16(number),
                }
            )
            if number < 4:
                continue
            state, action, reward = (
                writer.history[name] for name in ("state", "action", "reward")
            )
            shifted = {"s": state[-4:-1], "a": action[-4:-1], "next": state[-3:]}
            writer.create_item("shifted", 1.0, shifted)
            if number % 3 == 0:
                tail = {"s": state[-5:], "a": action[-4:], "r": reward[-2:]}
                writer.create_item("tail", 2.0, tail)
        writer.end_episode()


@case(
    lambda: table("last_five", FIFO, max_size=5),
    lambda: table("last_three", FIFO, max_size=3),
)
def evicted(client: reverb.Client) -> None:
    """Tables that overflowed, over chunks that both share."""
    with client.trajectory_writer(num_keep_alive_refs=6) as writer:
        for number in range(20):
            writer.append([np.float32([number] * 3), np.int32(number)])
            if number >= 1:
                window = [column[-2:] for column in writer.history]
                writer.create_item("last_five", 1.0, window)
                writer.create_item("last_three", 1.0, window)
        writer.end_episode()


@case(lambda: table("one"), lambda: table("two"))
def resent(client: reverb.Client) -> None:
    """Chunks that the client sent twice, which Reverb then saves twice."""
    with client.trajectory_writer(num_keep_alive_refs=3) as writer:
        for number in range(40):
            writer.append([np.int32(number)])
            if number >= 1:
                for name in ("one", "two"):
                    writer.create_item(name, 1.0, [writer.history[0][-2:]])
            if number % 5 == 4:
                writer.flush()
        writer.end_episode()


@case(lambda: table("episodes", LIFO))
def lengths(client: reverb.Client) -> None:
    """Items of different lengths, one of them over another's steps."""
    with client.trajectory_writer(num_keep_alive_refs=12) as writer:
        for length in (1, 5, 3, 12):
            for number in range(length):
                writer.append([np.float64(100 * length + number)])
            writer.create_item("episodes", float(length), [writer.history[0][:]])
            if length == 12:
                writer.create_item("episodes", 0.0, [writer.history[0][2:9]])
            writer.end_episode()


@case(lambda: table("odd", FIFO))
def squeezed(client: reverb.Client) -> None:
    """Squeezed columns and partial steps, and steps that are not consecutive."""
    writer = client.trajectory_writer(num_keep_alive_refs=8)
    writer.configure(("b",), num_keep_alive_refs=8, max_chunk_length=2)
    with writer:
        for number in range(8):
            writer.append({"a": np.float32([number, 1])}, partial_step=True)
            writer.append({"b": np.int32(number)} if number % 2 else {"b": None})
        a, b = writer.history["a"], writer.history["b"]
        writer.create_item("odd", 1.0, {"x": a[-3:], "y": a[-1], "z": b[-1]})
        writer.create_item("odd", 2.0, {"x": a[-4:-1], "y": a[-2], "z": b[-3]})
        writer.create_item("odd", 3.0, {"x": a[[0, 3, 5]], "y": a[[7]], "z": b[[1, 3, 5, 7]]})
        writer.create_item("odd", 4.0, {"x": a[:], "y": a[0], "z": b[[7, 1]]})
        writer.end_episode(clear_buffers=False)
        writer.append({"a": np.float32([99, 1]), "b": np.int32(99)})
        a, b = writer.history["a"], writer.history["b"]
        writer.create_item("odd", 5.0, {"x": a[-3:], "y": a[-1], "z": b[[-1]]})
        writer.end_episode()


@case(lambda: table("either", FIFO))
def two_sources(client: reverb.Client) -> None:
    """Items whose one column is of either of two histories, over the same steps."""
    with client.trajectory_writer(num_keep_alive_refs=6) as writer:
        for number in range(6):
            writer.append({"left": np.int32(number), "right": np.int32(-number)})
            if number >= 1:
                writer.create_item("either", 1.0, [writer.history["left"][-2:]])
                if number == 3:
                    writer.create_item("either", 1.0, [writer.history["right"][-2:]])
        writer.end_episode()


@case(lambda: table("kinds"))
def dtypes(client: reverb.Client) -> None:
    """Every dtype that NumPy has, with shapes from none to three axes, and empty ones."""
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    with client.trajectory_writer(num_keep_alive_refs=3) as writer:
        for number in range(3):
            values = np.arange(6).reshape(1, 2, 3) - 2 * number
            columns = [values.astype(name) for name in names.split()]
            columns += [
                (values * (1 + 2j)).astype(name) for name in ("complex64", "complex128")
            ]
            writer.append([*columns, np.zeros((2, 0), np.float32), np.float32("nan")])
        writer.create_item("kinds", 1.0, [column[:] for column in writer.history])
        writer.end_episode()


@case(lambda: table("brain"))
def bfloat16(client: reverb.Client) -> None:
    """A column of bfloat16, which only Reverb's TensorFlow client can write."""
    writer = reverb.TFClient(client.server_address)
    one = tf.constant(1.0, tf.float64)[None]
    for number in range(3):
        writer.insert([tf.constant([number, 0.1], tf.bfloat16)], tf.constant(["brain"]), one)


@case(lambda: table("words", signature={"word": tf.TensorSpec([2], tf.string, "word")}))
def strings(client: reverb.Client) -> None:
    """A column of texts, which Reverie refuses."""
    client.insert({"word": np.array(["a", "bc"], object)}, {"words": 1.0})


@case(lambda: table("mixed", FIFO))
def unlike_items(client: reverb.Client) -> None:
    """Items of one table with different columns, which Reverie refuses."""
    client.insert([np.float32([1, 2])], {"mixed": 1.0})
    client.insert([np.float32([1, 2, 3])], {"mixed": 1.0})


@case(lambda: table("nothing"), lambda: table("here", signature=NESTED))
def empty(client: reverb.Client) -> None:
    """Tables without items."""


def _again() -> reverb.Table:
    limiter = reverb.rate_limiters.SampleToInsertRatio(2.0, 1, 1000.0)
    return table("again", FIFO, rate_limiter=limiter, max_size=6)


@case(_again)
def restored(client: reverb.Client) -> None:
    """A server that was restarted from a checkpoint and went on ..."""
    for number in range(8):
        client.insert([np.int32(number)], {"again": 1.0})
    list(client.sample("again", 3))


@case(_again)
def restored(client: reverb.Client) -> None:  # noqa: F811
    """... and this is how it went on."""
    for number in range(3):
        client.insert([np.int32(100 + number)], {"again": 2.0})
    list(client.sample("again", 2))


def _agent_spec() -> trajectory.Trajectory:
    scalar = tf.TensorSpec([], tf.int32)
    return trajectory.Trajectory(
        step_type=scalar,
        observation=tf.TensorSpec([5], tf.float32),
        action=tensor_spec.BoundedTensorSpec([2], tf.float32, -9, [9, 8]),
        policy_info=(),
        next_step_type=scalar,
        reward=tf.TensorSpec([], tf.float32),
        discount=tf.TensorSpec([], tf.float32),
    )


def _agent_table() -> reverb.Table:
    return table("uniform_table", signature=tensor_spec.add_outer_dim(_agent_spec(), 2))


@case(_agent_table)
def tf_agents(client: reverb.Client) -> None:
    """What TF-Agents' trajectory observer writes, two episodes with boundaries."""
    observer = reverb_utils.ReverbAddTrajectoryObserver(client, "uniform_table", 2)
    for episode in range(2):
        for number in range(6):
            kind, following = (
                (2, 0) if number == 5 else (min(number, 1), 2 if number == 4 else 1)
            )
            observer(
                trajectory.Trajectory(
                    np.int32(kind),
                    np.full(5, 10 * episode + number, np.float32),
                    np.float32([number, -number]),
                    (),
                    np.int32(following),
                    np.float32(number),
                    np.float32(1),
                )
            )
    observer.close()
