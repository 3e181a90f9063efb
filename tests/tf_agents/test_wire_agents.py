"""TF-Agents' own buffer and observer of Reverb, on a server of Reverie in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("reverb")
pytest.importorskip("tf_agents")
pytest.importorskip("grpc")
pytest.importorskip("cramjam")

import tensorflow as tf
from tests.tf_agents.wire_support import PATIENCE_S, ROOT, environment, within
from tf_agents.replay_buffers import reverb_replay_buffer, reverb_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step, trajectory

SERVER = """
import sys
from reverie import reverb
from tests.tf_agents.test_wire_agents import spec, tensor_spec
server = reverb.Server([reverb.Table(
    "t", reverb.selectors.Uniform(), reverb.selectors.Fifo(), 1000,
    reverb.rate_limiters.MinSize(1), signature=tensor_spec.add_outer_dim(spec()),
)])
print(server.port, flush=True)
sys.stdin.read()
"""
STEPS = 12


def spec() -> Any:
    observation = tensor_spec.TensorSpec([3], tf.float32)
    action = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 4)
    steps = time_step.time_step_spec(observation)
    return trajectory.from_transition(
        steps,
        _policy_step(action),
        steps,
    )


def _policy_step(action: Any) -> Any:
    from tf_agents.trajectories import policy_step

    return policy_step.PolicyStep(action=action, state=(), info=())


@pytest.fixture
def address() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert process.stdout is not None
    yield f"localhost:{int(process.stdout.readline())}"
    process.kill()
    process.communicate()


def test_the_buffer_and_the_observer_of_tf_agents_run_on_it(address: str) -> None:
    buffer = reverb_replay_buffer.ReverbReplayBuffer(
        spec(), table_name="t", sequence_length=2, server_address=address
    )
    observer = reverb_utils.ReverbAddTrajectoryObserver(
        buffer.py_client, table_name="t", sequence_length=2
    )
    for n in range(STEPS):
        step = trajectory.first if n == 0 else trajectory.mid
        reward, discount = np.float32(n), np.float32(1)
        observer(step(np.full(3, n, np.float32), np.int64(n % 4), (), reward, discount))
    observer.close()
    assert int(buffer.num_frames()) == STEPS - 1
    dataset = buffer.as_dataset(sample_batch_size=8, num_steps=2)
    experience, info = within(PATIENCE_S, lambda: next(iter(dataset)))
    first = experience.reward.numpy()[:, 0]
    np.testing.assert_array_equal(experience.reward.numpy(), np.stack([first, first + 1], 1))
    np.testing.assert_array_equal(experience.observation.numpy()[:, :, 2], experience.reward)
    np.testing.assert_allclose(info.probability.numpy(), 1 / (STEPS - 1))
    # TF-Agents' own update_priorities speaks to the first server that its process ever knew.
    buffer.py_client.mutate_priorities("t", {int(info.key[0, 0]): 2.0})
    buffer.clear()
    assert int(buffer.num_frames()) == 0
