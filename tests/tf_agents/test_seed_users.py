"""Code that was written for Smart Control's manager and Reverb, run as it stands on ours."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.support import same, windows  # noqa: E402
from tf_agents.agents.ddpg import critic_network  # noqa: E402
from tf_agents.agents.sac import sac_agent, tanh_normal_projection_network  # noqa: E402
from tf_agents.networks import actor_distribution_network  # noqa: E402
from tf_agents.policies import random_tf_policy  # noqa: E402
from tf_agents.specs import tensor_spec  # noqa: E402
from tf_agents.trajectories import time_step, trajectory  # noqa: E402

from smart_control.reinforcement_learning.replay_buffer import replay_buffer  # noqa: E402

CHECKPOINTS = (
    Path(__file__).resolve().parents[1] / "golden/smart_buildings/initial_exploration_buffer"
)
TABLE = "uniform_table"
# What the Smart Buildings environment and its agents say of themselves.
OBSERVATION = tf.TensorSpec((53,), tf.float32, "observation")
ACTION = tensor_spec.BoundedTensorSpec((2,), tf.float32, -1.0, 1.0, "action")
TIME_STEP = time_step.time_step_spec(OBSERVATION)
DATA_SPEC = random_tf_policy.RandomTFPolicy(TIME_STEP, ACTION).trajectory_spec


def steps_of_an_episode(num_steps: int) -> list[Any]:
    rng = np.random.default_rng(num_steps)
    return [
        trajectory.Trajectory(
            step_type=np.int32(2 if index == num_steps - 1 else 1 if index else 0),
            observation=rng.normal(size=53).astype(np.float32),
            action=rng.uniform(-1, 1, 2).astype(np.float32),
            policy_info=(),
            next_step_type=np.int32(0 if index == num_steps - 1 else 1),
            reward=np.float32(index),
            discount=np.float32(1.0),
        )
        for index in range(num_steps)
    ]


def test_the_seeds_calls_work_unchanged(tmp_path: Path) -> None:
    checkpoint_dir = str(tmp_path / "replay_buffer")
    manager = replay_buffer.ReplayBufferManager(DATA_SPEC, 50_000, checkpoint_dir, 2)
    with pytest.raises(RuntimeError):
        manager.get_dataset()
    manager.create_replay_buffer()
    buffer, observer = manager.get_replay_buffer_and_observer()
    steps = steps_of_an_episode(31)
    for step in steps:
        observer(step)
    assert buffer.num_frames() == manager.num_frames() == 30
    path = buffer.py_client.checkpoint()
    assert Path(path).parent == Path(checkpoint_dir)
    assert observer.py_client.checkpoint() != path
    for experience, info in manager.get_dataset(batch_size=64, num_steps=2).take(3):
        assert experience.observation.shape == (64, 2, 53)
        assert info.key.shape == (64, 2)
    observer.close()
    manager.close()

    other = replay_buffer.ReplayBufferManager(
        data_spec=DATA_SPEC, capacity=50_000, checkpoint_dir=checkpoint_dir, sequence_length=2
    )
    buffer, observer = other.load_replay_buffer()
    assert other.get_replay_buffer_and_observer() == (buffer, observer)
    assert other.num_frames() == 30
    found = [item for _, item in buffer.iter_items()]
    assert all(same(a, b) for a, b in zip(found, windows(steps, 2), strict=True))
    other.clear()
    assert other.num_frames() == 0
    for step in steps_of_an_episode(4):
        observer(step)
    assert other.num_frames() == 3
    other.close()


def restored_by_reverb(root: Path) -> dict[int, Any]:
    """Every item that dm-reverb finds in the newest checkpoint under `root`, by key."""
    reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
    checkpointers = pytest.importorskip("reverb.platform.checkpointers_lib")
    server = reverb.Server(
        [
            reverb.Table(
                TABLE,
                reverb.selectors.Uniform(),
                reverb.selectors.Fifo(),
                50_000,
                reverb.rate_limiters.MinSize(1),
            )
        ],
        checkpointer=checkpointers.DefaultCheckpointer(path=str(root)),
    )
    try:
        client = reverb.Client(f"localhost:{server.port}")
        size = client.server_info()[TABLE].current_size
        items: dict[int, Any] = {}
        for _ in range(200):
            for sample in client.sample(TABLE, 5 * size, emit_timesteps=False):
                items[int(sample.info.key)] = tf.nest.pack_sequence_as(DATA_SPEC, sample.data)
            if len(items) == size:
                return items
        raise AssertionError(f"{len(items)} of {size} items after {1000 * size} draws")
    finally:
        server.stop()


def as_bytes(item: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(item))


def test_the_real_checkpoint_loads_bit_for_bit_as_reverb_restores_it(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS, tmp_path / "reverbs")
    theirs = list(restored_by_reverb(tmp_path / "reverbs").values())
    manager = replay_buffer.ReplayBufferManager(DATA_SPEC, 50_000, CHECKPOINTS, 2)
    buffer, _ = manager.load_replay_buffer()
    ours = [item for _, item in buffer.iter_items()]
    assert len(ours) == len(theirs) == manager.num_frames() == 49
    wanted = {as_bytes(item): item for item in theirs}
    assert len(wanted) == 49
    assert {as_bytes(item) for item in ours} == set(wanted)
    assert all(same(item, wanted[as_bytes(item)]) for item in ours)
    changed = tf.nest.map_structure(np.array, ours[0])
    changed.observation[1, 7] = np.nextafter(changed.observation[1, 7], np.float32(9))
    assert as_bytes(changed) not in wanted  # one bit matters

    seen: set[bytes] = set()
    for experience, _ in manager.get_dataset(16).take(100):
        for index in range(16):
            seen.add(
                as_bytes(
                    tf.nest.map_structure(lambda leaf, i=index: leaf.numpy()[i], experience)
                )
            )
    assert seen == set(wanted)
    manager.close()


def test_an_agent_trains_on_the_datasets_elements_unchanged(tmp_path: Path) -> None:
    agent = sac_agent.SacAgent(
        TIME_STEP,
        ACTION,
        critic_network.CriticNetwork(
            (OBSERVATION, ACTION), joint_fc_layer_params=(8,), name="critic"
        ),
        actor_distribution_network.ActorDistributionNetwork(
            OBSERVATION,
            ACTION,
            fc_layer_params=(8,),
            continuous_projection_net=(
                tanh_normal_projection_network.TanhNormalProjectionNetwork
            ),
        ),
        actor_optimizer=tf.keras.optimizers.Adam(1e-3),
        critic_optimizer=tf.keras.optimizers.Adam(1e-3),
        alpha_optimizer=tf.keras.optimizers.Adam(1e-3),
        target_update_tau=0.01,
    )
    agent.initialize()
    manager = replay_buffer.ReplayBufferManager(agent.collect_data_spec, 50_000, CHECKPOINTS)
    manager.load_replay_buffer()
    before = [np.array(variable) for variable in agent.trainable_variables]
    losses = [
        float(agent.train(experience).loss)
        for experience, _ in manager.get_dataset(batch_size=16).take(3)
    ]
    assert np.isfinite(losses).all()
    assert any(
        (old != new).any()
        for old, new in zip(before, map(np.array, agent.trainable_variables), strict=True)
    )
    manager.close()
