"""TorchRL's collector and trainer run on this buffer."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from tests.torchrl_support import by_time, same

from reverie import samplers

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("torchrl", reason="needs TorchRL")
pytest.importorskip("gymnasium", reason="needs gymnasium")
pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks' own: of versions, of devices
ReplayBuffer = importlib.import_module("reverie.torchrl").ReplayBuffer


def cartpole() -> Any:
    envs = importlib.import_module("torchrl.envs")
    env = envs.GymEnv("CartPole-v1", categorical_action_encoding=True)
    return envs.TransformedEnv(env, envs.Compose(envs.StepCounter(), envs.RewardSum()))


def several(count: int) -> Any:
    env = importlib.import_module("torchrl.envs").SerialEnv(count, cartpole)
    env.set_seed(0)
    return env


@pytest.mark.parametrize("extend", [True, False])
def test_a_collector_fills_the_buffer_with_what_it_saw(
    extend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    buffer, seen = ReplayBuffer(500, batch_size=32, prefetch=2), []
    for name in ("add", "extend"):
        method = getattr(buffer.writer, name)

        def kept(data: Any, method: Any = method) -> Any:
            seen.append(data.clone())
            return method(data)

        monkeypatch.setattr(buffer.writer, name, kept)
    collector = importlib.import_module("torchrl.collectors").Collector(
        several(3),
        None,
        frames_per_batch=30,
        total_frames=300,
        replay_buffer=buffer,
        extend_buffer=extend,
    )
    assert list(collector) == [None] * 10
    collector.shutdown()
    rows = torch.cat([by_time(data) if data.ndim == 2 else data for data in seen])
    assert len(buffer) == buffer.write_count == 300
    same(buffer[:], rows)
    found = buffer.sample()
    same(found, rows[found["index"]])
    assert buffer.buffer.info().broken_episodes == 0
    ends = int(rows["next", "done"].sum())
    assert ends > 5
    assert buffer.buffer.info().steps <= 300 + 3 + ends  # states are stored once


@pytest.mark.parametrize("flatten", [True, False])
def test_a_trainer_learns_from_weights_and_sets_priorities(flatten: bool) -> None:
    torch.manual_seed(0)
    modules = importlib.import_module("torchrl.modules")
    trainers = importlib.import_module("torchrl.trainers")
    spec = cartpole().action_spec
    network = modules.MLP(in_features=4, out_features=2, num_cells=[32])
    actor = modules.QValueActor(network, in_keys=["observation"], spec=spec)
    loss = importlib.import_module("torchrl.objectives").DQNLoss(
        actor, action_space="categorical", delay_value=True
    )
    loss.make_value_estimator(gamma=0.99)
    buffer = ReplayBuffer(
        1_000, batch_size=32, sampler=samplers.Prioritized(0.6), beta=0.4, n_step=3, gamma=0.99
    )
    collector = importlib.import_module("torchrl.collectors").Collector(
        several(2), actor, frames_per_batch=50, total_frames=200
    )
    trainer = trainers.Trainer(
        collector=collector,
        total_frames=200,
        frame_skip=1,
        optim_steps_per_batch=4,
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters(), 1e-3),
        progress_bar=False,
    )
    hook = trainers.ReplayBufferTrainer(buffer, batch_size=32, flatten_tensordicts=flatten)
    hook.register(trainer)
    before = [value.clone() for value in loss.parameters()]
    trainer.train()
    assert len(buffer) == buffer.write_count == 200
    assert buffer.buffer.info().samples == 4 * 4 * 32
    assert len(set(buffer.buffer.item_info()["priority"].tolist())) > 100
    assert any(not torch.equal(*pair) for pair in zip(before, loss.parameters(), strict=True))
    again = ReplayBuffer(
        1_000, batch_size=32, sampler=samplers.Prioritized(0.6), beta=0.4, n_step=3, gamma=0.99
    )
    trainers.ReplayBufferTrainer(again).load_state_dict(hook.state_dict())
    same(again.sample(), buffer.sample())
