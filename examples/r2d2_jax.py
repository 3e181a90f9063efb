"""A recurrent agent in JAX that remembers: stored states, burn-in, masks, priorities.

    pip install '.[jax]'                        # in a clone
    python examples/r2d2_jax.py                 # about ten seconds
    python examples/r2d2_jax.py --quick         # does everything work here?
    python examples/r2d2_jax.py --picture curve.png    # needs matplotlib

A corridor of 4 to 12 cells ends in a junction (Bakker 2002). At its beginning, and nowhere
else, a sign says which way is right there: whoever decides by what is to be seen now goes wrong
half of the time. Each step costs a little, bumping into a wall a little more.

The agent is a small R2D2 (Kapturowski et al. 2019): a double DQN over a GRU, whose state is
stored with each step. What that takes of a replay buffer: `views.Sequences`, of whose `once`
the state of a sequence's first step comes alone; the masks, which say which steps are real, and
which of them only bring that state up to date; `update_priorities` by errors `[B, T]`.
Printed is the return of the greedy policy in 500 fresh episodes, beside those of a random one
and of the best that remembers nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import reverie
from reverie.jax import ArrayBatch, arrays

CELLS, LIMIT = (4, 12), 40
FORWARD, LEFT, RIGHT = range(3)
NUM_ENVS = 8
HIDDEN = 32
BATCH = 64
LENGTH, BURN_IN, STRIDE = 16, 4, 8
LEARNING_STARTS = 200  # sequences
EXPLORATION = (1.0, 0.05, 0.5)  # from, to, over this part of the steps
GAMMA, RATE = 0.95, 2e-3

Parameters = dict[str, Any]
Policy = Callable[[Any, Any], tuple[Any, Any]]  # observations and states: actions, states


class Corridors:
    """Many corridors; each begins anew after its last step."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.rng = count, np.random.default_rng(seed)
        self.place, self.end, self.sign, self.time = np.zeros((4, count), np.int64)
        self._begin(np.ones(count, bool))

    def _begin(self, which: NDArray[np.bool_]) -> None:
        count = int(which.sum())
        self.place[which] = self.time[which] = 0
        self.end[which] = self.rng.integers(CELLS[0], CELLS[1] + 1, count)
        self.sign[which] = self.rng.integers(LEFT, RIGHT + 1, count)

    def seen(self) -> NDArray[np.float32]:
        """Of each: corridor, sign to the left, to the right, junction; one of them is 1."""
        found = np.where(self.place == 0, self.sign, 0)
        return np.eye(4, dtype=np.float32)[np.where(self.place == self.end, 3, found)]

    def step(self, action: NDArray[np.int64]) -> tuple[Any, ...]:
        """What came, reward, terminated, truncated, and what each begins with then."""
        turns = (self.place == self.end) & (action != FORWARD)
        bumps = (self.place < self.end) & (action != FORWARD)
        reward = np.where(turns, np.where(action == self.sign, 1, -1), 0) - 0.02 - 0.1 * bumps
        self.place = np.where(
            action == FORWARD, np.minimum(self.place + 1, self.end), self.place
        )
        self.time += 1
        truncated = (self.time >= LIMIT) & ~turns
        came = self.seen()
        self._begin(turns | truncated)
        return came, reward.astype(np.float32), turns, truncated, self.seen()


def new_parameters(seed: int) -> Parameters:
    """Of a GRU and of a layer that reads the values of the actions from its state."""
    rng = np.random.default_rng(seed)

    def matrix(inputs: int, outputs: int) -> Any:
        return jnp.asarray(rng.normal(0, inputs**-0.5, (inputs, outputs)), jnp.float32)

    return {
        "input": matrix(4, 3 * HIDDEN),
        "state": matrix(HIDDEN, 3 * HIDDEN),
        "bias": jnp.zeros(3 * HIDDEN),
        "values": jnp.zeros((HIDDEN, 3)),  # all actions are alike to begin with
        "value_bias": jnp.zeros(3),
    }


def advance(parameters: Parameters, state: Any, seen: Any) -> tuple[Any, Any]:
    """The state after `seen`, `[B, HIDDEN]`, and the values of the actions, `[B, 3]`."""
    inputs = seen @ parameters["input"] + parameters["bias"]
    update, reset, new = jnp.split(inputs, 3, -1)
    by_state = jnp.split(parameters["state"], 3, -1)
    update = jax.nn.sigmoid(update + state @ by_state[0])
    reset = jax.nn.sigmoid(reset + state @ by_state[1])
    new = jnp.tanh(new + (reset * state) @ by_state[2])
    state = update * state + (1 - update) * new
    return state, state @ parameters["values"] + parameters["value_bias"]


def unroll(parameters: Parameters, batch: ArrayBatch, learnt: Any) -> Any:
    """The values of all actions in all states of sequences, `[T + 1, B, 3]`.

    The state after a sequence's last step comes right behind it; what follows is padding.
    """
    places = jnp.arange(LENGTH + 1)
    after = (places == batch.data["length"][:, None])[..., None]
    seen = jnp.pad(batch.observation, ((0, 0), (0, 1), (0, 0)))
    seen = jnp.where(after, batch.next_observation[:, None], seen)

    def step(state: Any, now: tuple[Any, Any]) -> tuple[Any, Any]:
        state, values = advance(parameters, state, now[0])
        # No gradient through what only brings the state up to date.
        return jnp.where(now[1][:, None], state, jax.lax.stop_gradient(state)), values

    steps = seen.swapaxes(0, 1), jnp.pad(learnt, ((0, 0), (0, 1))).T
    return jax.lax.scan(step, batch.data["state"], steps)[1]


def learn(
    online: Parameters, target: Parameters, moments: Any, count: Any, batch: ArrayBatch
) -> tuple[Parameters, Parameters, Any, Any, Any]:
    """A step of Adam on a batch; networks, moments, errors `[B, T]`, which steps are learnt.

    These are the real ones but for burn-in; where an episode begins there is no need of it.
    """
    burn_in = batch.data["burn_in_mask"] & ~batch.data["begins"][:, None]
    learnt = batch.data["mask"] & ~burn_in
    later = unroll(target, batch, learnt)[1:]

    def loss(parameters: Parameters) -> tuple[Any, Any]:
        values = unroll(parameters, batch, learnt)
        best = values[1:].argmax(-1, keepdims=True)  # double Q-learning
        value = jnp.take_along_axis(later, best, -1)[..., 0].T
        wanted = batch.reward + GAMMA * ~batch.terminated * value
        found = jnp.take_along_axis(values[:-1], batch.action.T[..., None], -1)[..., 0].T
        errors = jnp.where(learnt, wanted - found, 0)
        each = (errors**2).sum(1) / jnp.maximum(learnt.sum(1), 1)
        return (batch.weight * each).mean(), errors

    gradients, errors = jax.grad(loss, has_aux=True)(online)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradients)
    second = jax.tree.map(lambda m, g: 0.999 * m + 0.001 * g**2, moments[1], gradients)
    rate = RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    online = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), online, first, second
    )
    target = jax.tree.map(lambda slow, fast: 0.98 * slow + 0.02 * fast, target, online)
    return online, target, (first, second), errors, learnt


def judge(policy: Policy, seed: int, episodes: int = 500) -> float:
    """The mean return in fresh episodes."""
    envs, returns, alive = (
        Corridors(episodes, seed),
        np.zeros(episodes),
        np.ones(episodes, bool),
    )
    obs, state = envs.seen(), np.zeros((episodes, HIDDEN), np.float32)
    for _ in range(LIMIT):
        action, state = policy(obs, state)
        _, reward, terminated, truncated, obs = envs.step(action)
        returns += reward * alive
        alive &= ~(terminated | truncated)
    return float(returns.mean())


def new_buffer(seed: int) -> reverie.ReplayBuffer:
    """Steps with the state that the agent had before each, drawn as sequences."""
    spec = {
        "observation": reverie.ArraySpec((4,), np.float32),
        "action": reverie.ArraySpec((), np.int32),
        "reward": reverie.ArraySpec((), np.float32),
        "state": reverie.ArraySpec((HIDDEN,), np.float32),
        "begins": reverie.ArraySpec((), np.bool_),
    }
    view = reverie.views.Sequences(LENGTH, BURN_IN, STRIDE, once=("state", "begins"))
    sampler = reverie.samplers.Prioritized(alpha=0.9)
    return reverie.ReplayBuffer(
        spec, 50_000, num_envs=NUM_ENVS, sampler=sampler, view=view, seed=seed
    )


def main(
    steps: int = 20_000, seed: int = 0, picture: str | None = None
) -> tuple[float, float, float]:
    """Trains and prints; the returns of the policy, of the best without memory, of chance."""
    rng = np.random.default_rng(seed)
    envs, buffer = Corridors(NUM_ENVS, seed), new_buffer(seed)
    online = target = new_parameters(seed)
    moments = (jax.tree.map(jnp.zeros_like, online),) * 2
    act, update, updates = jax.jit(advance), jax.jit(learn), 0
    first, last, part = EXPLORATION

    def greedy(obs: Any, state: Any) -> tuple[Any, Any]:
        state, values = act(online, state, obs)
        return np.asarray(values).argmax(-1), np.asarray(state)

    def forgetful(obs: Any, state: Any) -> tuple[Any, Any]:
        return np.where(obs[:, 3] == 1, LEFT, FORWARD), state

    def chance(obs: Any, state: Any) -> tuple[Any, Any]:
        return rng.integers(0, 3, len(obs)), state

    curve: list[tuple[int, float]] = []
    obs, begins = envs.seen(), np.ones(NUM_ENVS, bool)
    state = np.zeros((NUM_ENVS, HIDDEN), np.float32)
    for step in range(0, steps, NUM_ENVS):
        action, after = greedy(obs, state)
        explore = max(last, first + (last - first) * step / (part * steps))
        random = rng.random(NUM_ENVS) < explore
        action = np.where(random, rng.integers(0, 3, NUM_ENVS), action)
        next_obs, reward, terminated, truncated, begin = envs.step(action)
        extra = {"state": state, "begins": begins}
        buffer.add(obs, action, reward, next_obs, terminated, truncated, extra=extra)
        obs, begins = begin, terminated | truncated
        state = np.where(begins[:, None], np.float32(0), after)
        if len(buffer) >= LEARNING_STARTS:
            updates += 1
            batch = arrays(buffer.sample(BATCH, beta=0.6))
            online, target, moments, errors, learnt = update(
                online, target, moments, updates, batch
            )
            # A tail that is burn-in alone teaches nothing: all its errors are 0, and count.
            counts = jnp.where(learnt.any(1, keepdims=True), learnt, batch.data["mask"])
            buffer.update_priorities(batch.key, jnp.abs(errors), mask=counts, eta=0.9)
        if (step + NUM_ENVS) * 10 // steps != step * 10 // steps:
            curve.append((step + NUM_ENVS, judge(greedy, seed + 1)))
            print(
                f"{curve[-1][0]:7d} steps   return {curve[-1][1]:6.2f}   {buffer}", flush=True
            )
    score, without, random_score = (
        judge(each, seed + 2) for each in (greedy, forgetful, chance)
    )
    print(
        f"return of the greedy policy in 500 episodes: {score:.2f}, of the best without "
        f"memory: {without:.2f}, of a random one: {random_score:.2f}"
    )
    if picture is not None:
        draw(curve, {"best without memory": without, "random policy": random_score}, picture)
    return score, without, random_score


def draw(curve: list[tuple[int, float]], lines: dict[str, float], path: str) -> None:
    """The learning curve, and the baselines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*curve, strict=True), marker="o", label="greedy policy")
    for style, (name, value) in zip(("--", ":"), lines.items(), strict=True):
        axes.axhline(value, linestyle=style, label=name)
    axes.set(xlabel="steps of the environments", ylabel="return", title="corridors")
    axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="half of the steps")
    parser.add_argument("--picture", help="where to save the learning curve")
    given = parser.parse_args()
    main(given.steps // 2 if given.quick else given.steps, given.seed, given.picture)
