"""A TF-Agents agent that learns to heat a house, from experience kept by Reverie.

    pip install '.[tf-agents]'                  # in a clone; Python 3.11 at most
    python examples/tf_agents_sac.py            # about half a minute on two cores
    python examples/tf_agents_sac.py --quick    # a third of the training

A soft actor-critic agent (SAC) collects with TF-Agents' own `PyDriver` and trains
on `manager.get_dataset()`, exactly as with TF-Agents' Reverb buffer, but in one
process and on any system. Half way the buffer is checkpointed and thrown away;
a second manager loads it, as a new process would, and training goes on. Printed
are the returns of the greedy policy, which rise.

The house has two thermal masses, air and walls, and a heater. An episode is a
winter's day in steps of half an hour. Being away from 21 degrees costs; so does heat.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tf_agents.agents.ddpg.critic_network import CriticNetwork
from tf_agents.agents.sac.sac_agent import SacAgent
from tf_agents.agents.sac.tanh_normal_projection_network import TanhNormalProjectionNetwork
from tf_agents.drivers.py_driver import PyDriver
from tf_agents.environments.py_environment import PyEnvironment
from tf_agents.networks.actor_distribution_network import ActorDistributionNetwork
from tf_agents.policies.greedy_policy import GreedyPolicy
from tf_agents.policies.py_tf_eager_policy import PyTFEagerPolicy
from tf_agents.policies.random_py_policy import RandomPyPolicy
from tf_agents.specs import array_spec, tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

import reverie

WANTED_C = 21.0
HOURS = 0.5  # per step
STEPS_PER_DAY = 48


class House(PyEnvironment):
    """Air and walls that cool towards the weather, and a heater.

    Observes the temperatures of air, walls and outdoors, and the time of day. The
    action is the heater's power, from -1 (off) to 1 (full). The reward is minus
    the degrees away from `WANTED_C`, minus half the share of full power.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)
        self._observation_spec = array_spec.ArraySpec((5,), np.float32, "observation")
        self._action_spec = array_spec.BoundedArraySpec((1,), np.float32, -1.0, 1.0, "action")

    def observation_spec(self) -> Any:
        """Five numbers of about -1 to 1."""
        return self._observation_spec

    def action_spec(self) -> Any:
        """One number from -1 to 1."""
        return self._action_spec

    def _reset(self) -> Any:
        self._step_of_day = 0
        self._mean_outdoors = self._rng.uniform(-5, 10)
        self._air, self._walls = self._rng.uniform(14, 26, 2)
        return ts.restart(self._observe())

    def _step(self, action: Any) -> Any:
        if self.current_time_step().is_last():
            return self.reset()
        power = float(np.clip((action[0] + 1) / 2, 0, 1))
        # Newton's law of cooling for both masses; 12 degrees an hour at full power.
        warmer = 12 * power + (self._outdoors() - self._air) / 4 + (self._walls - self._air) / 2
        self._walls += HOURS * (self._air - self._walls) / 10
        self._air += HOURS * warmer
        self._step_of_day += 1
        reward = -abs(self._air - WANTED_C) - 0.5 * power
        if self._step_of_day == STEPS_PER_DAY:
            # The day ends, the house does not: no terminal state.
            return ts.truncation(self._observe(), reward)
        return ts.transition(self._observe(), reward)

    def _outdoors(self) -> float:
        angle = 2 * np.pi * self._step_of_day / STEPS_PER_DAY
        return float(self._mean_outdoors - 4 * np.cos(angle))

    def _observe(self) -> Any:
        angle = 2 * np.pi * self._step_of_day / STEPS_PER_DAY
        temperatures = np.array([self._air, self._walls, self._outdoors()])
        return np.array(
            [*(temperatures - WANTED_C) / 10, np.sin(angle), np.cos(angle)], np.float32
        )


def new_agent(house: House) -> SacAgent:
    """SAC with small networks."""
    observation = tensor_spec.from_spec(house.observation_spec())
    action = tensor_spec.from_spec(house.action_spec())
    agent = SacAgent(
        ts.time_step_spec(observation),
        action,
        CriticNetwork((observation, action), joint_fc_layer_params=(64, 64)),
        ActorDistributionNetwork(
            observation,
            action,
            fc_layer_params=(64, 64),
            continuous_projection_net=TanhNormalProjectionNetwork,
        ),
        actor_optimizer=tf.keras.optimizers.Adam(3e-3),
        critic_optimizer=tf.keras.optimizers.Adam(3e-3),
        alpha_optimizer=tf.keras.optimizers.Adam(3e-3),
        target_update_tau=0.02,
        gamma=0.95,
        reward_scale_factor=0.2,
    )
    agent.initialize()
    agent.train = common.function(agent.train)
    return agent


def mean_return(policy: Any, num_days: int = 5) -> float:
    """What the policy earns in a day, on the same days each time."""
    house = House(seed=1)
    total = 0.0
    for _ in range(num_days):
        step = house.reset()
        while not step.is_last():
            step = house.step(policy.action(step).action)
            total += float(step.reward)
    return total / num_days


def train(
    manager: reverie.ReplayBufferManager, agent: Any, house: House, num_rounds: int
) -> None:
    """Collects and trains by turns: one step of the house, one of the agent."""
    _, observer = manager.get_replay_buffer_and_observer()
    policy = PyTFEagerPolicy(agent.collect_policy, use_tf_function=True)
    driver = PyDriver(house, policy, [observer], max_steps=1)
    batches = iter(manager.get_dataset(batch_size=128))
    step = house.current_time_step() or house.reset()
    for _ in range(num_rounds):
        step, _ = driver.run(step)
        experience, _ = next(batches)
        agent.train(experience)


def main(arguments: list[str] | None = None) -> int:
    """Runs the example; 0 if the agent became better."""
    parser = argparse.ArgumentParser(description="SAC on a buffer kept by Reverie.")
    parser.add_argument("--quick", action="store_true", help="a third of the training")
    quick = parser.parse_args(arguments).quick
    rounds, legs = (250, 4) if quick else (750, 4)
    start = time.monotonic()
    tf.keras.utils.set_random_seed(0)
    house = House(seed=0)
    agent = new_agent(house)
    greedy = PyTFEagerPolicy(GreedyPolicy(agent.policy), use_tf_function=True)
    returns = [mean_return(greedy)]
    print(f"{'trained on':>12}{'items':>8}{'return of a day':>17}{'seconds':>9}")

    def report(trained: int, items: int) -> None:
        spent = time.monotonic() - start
        print(f"{trained:>12}{items:>8}{returns[-1]:>17.1f}{spent:>9.0f}", flush=True)

    report(0, 0)
    with tempfile.TemporaryDirectory() as folder:
        settings = (agent.collect_data_spec, 100_000, Path(folder))
        manager = reverie.ReplayBufferManager(*settings, sequence_length=2, seed=0)
        _, observer = manager.create_replay_buffer()
        random = RandomPyPolicy(house.time_step_spec(), house.action_spec(), seed=0)
        PyDriver(house, random, [observer], max_episodes=10, max_steps=None).run(house.reset())
        for leg in range(1, legs + 1):
            if leg == legs // 2 + 1:
                path = manager.save()
                manager.close()
                manager = reverie.ReplayBufferManager(*settings, sequence_length=2)
                manager.load_replay_buffer()
                print(
                    f"{'':12}{manager.num_frames():>8}  items loaded from {path and path.name}"
                )
                house.reset()  # an open episode is not in a checkpoint
            train(manager, agent, house, rounds)
            returns.append(mean_return(greedy))
            report(leg * rounds, manager.num_frames())
        manager.close()
    better = returns[-1] > returns[0] / 2
    print("The house is warm." if better else "The agent learnt nothing.")
    return 0 if better else 1


if __name__ == "__main__":
    sys.exit(main())
