"""What users do with `reverie.tf`: a DQN of a few lines, and Keras' own `fit`."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer, samplers, views

tf: Any = pytest.importorskip("tensorflow", reason="needs TensorFlow: nox -s tf")
door: Any = importlib.import_module("reverie.tf")

PLACES, GAMMA = 5, 0.9
SPEC = {
    "observation": ArraySpec((PLACES,), np.float32),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}


def corridor(**settings: Any) -> ReplayBuffer:
    """A random walk: 1 for reaching the right end, where it ends; after 12 steps it is cut."""
    buffer = ReplayBuffer(SPEC, 5_000, seed=0, **settings)
    rng, places = np.random.default_rng(0), np.eye(PLACES, dtype=np.float32)
    for _ in range(100):
        at = 0
        for t in range(12):
            action = int(rng.integers(2))
            to = max(0, at + 2 * action - 1)
            done = to == PLACES - 1
            buffer.add(places[at], action, float(done), places[to], done, not done and t == 11)
            if done:
                break
            at = to
    return buffer


def learned(buffer: ReplayBuffer, updates: int = 300, **settings: Any) -> Any:
    """The action values of a linear Q, `[PLACES - 1, 2]`, of batches of 64."""
    tf.keras.utils.set_random_seed(0)
    q = tf.keras.Sequential([tf.keras.layers.Dense(2, use_bias=False)])
    q.build((None, PLACES))
    optimizer = tf.keras.optimizers.SGD(2.0)

    @tf.function
    def train(data: Any, weight: Any) -> Any:
        best = tf.reduce_max(q(data["next_observation"]), axis=-1)
        target = data["reward"] + data["discount"] * best
        with tf.GradientTape() as tape:
            chosen = tf.gather(q(data["observation"]), data["action"], batch_dims=1)
            error = target - chosen
            loss = tf.reduce_mean(weight * error**2)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, q.trainable_variables), q.trainable_variables, strict=True)
        )
        return error

    for data, info in door.dataset(buffer, 64, **settings).take(updates):
        error = train(data, getattr(info, "weight", tf.ones(64)))
        if "beta" in settings:
            buffer.update_priorities(info.key, tf.abs(error))
    return q(np.eye(PLACES, dtype=np.float32)[:-1]).numpy()


TRUE = GAMMA ** np.arange(PLACES - 2, -1, -1)  # of going right


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({}, {"view": views.Transitions(gamma=GAMMA)}),
        ({"sampler": samplers.Prioritized(0.6)}, {"beta": 0.5}),
        (
            {"sampler": samplers.Prioritized(0.6)},
            {"beta": reverie.weights.LinearSchedule(0.4, 1.0, 300)},
        ),
    ],
    ids=["uniform", "prioritized", "schedule"],
)
def test_a_dqn_learns_the_values_of_a_corridor(
    made: dict[str, Any], asked: dict[str, Any]
) -> None:
    with corridor(view=views.Transitions(gamma=GAMMA), **made) as buffer:
        values = learned(buffer, **asked)
        assert (values.argmax(axis=1) == 1).all()
        assert values[:, 1] == pytest.approx(TRUE, abs=0.05)
        # A target without discounts would be another.
        wrong = learned(buffer, view=views.Transitions(gamma=1.0)) if not made else 0 * values
        assert wrong[:, 1] != pytest.approx(TRUE, abs=0.05)


def test_keras_fits_a_model_of_the_world() -> None:
    with corridor() as buffer:
        pairs = door.dataset(buffer, 64).map(
            lambda data, info: (data["observation"], data["next_observation"][:, 0])
        )
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("adam", "mse")
        history = model.fit(pairs, steps_per_epoch=50, epochs=2, verbose=0, shuffle=False)
    first, second = history.history["loss"]
    assert second < first
