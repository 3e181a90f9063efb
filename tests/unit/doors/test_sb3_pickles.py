"""Buffers in pickles: what SB3's `save_replay_buffer` writes and `load_replay_buffer` reads."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.errors import CheckpointNotFoundError, InvalidArgumentError

torch = pytest.importorskip("torch", reason="needs PyTorch")
spaces = pytest.importorskip("gymnasium", reason="needs gymnasium").spaces
sb3 = importlib.import_module("reverie.sb3")

BOX = spaces.Box(-1, 1, (3,), np.float32)
KINDS = {
    "ReplayBuffer": {},
    "DictReplayBuffer": {},
    "NStepReplayBuffer": {"n_steps": 3, "gamma": 0.5},
    "PrioritizedReplayBuffer": {"n_steps": 3, "gamma": 0.5, "alpha": 0.7},
}


def state(kind: str, t: int) -> Any:
    rows = np.array([[e, t, 0] for e in range(2)], np.float32)
    return {"a": rows} if kind.startswith("Dict") else rows


def add(buffer: Any, kind: str, steps: range) -> None:
    for t in steps:
        infos = [{}, {"TimeLimit.truncated": t % 5 == 4}]
        done = np.full(2, t % 5 == 4)
        buffer.add(state(kind, t), state(kind, t + 1), np.zeros((2, 3)), [t, t], done, infos)


def filled(kind: str, steps: int = 13, **settings: Any) -> Any:
    space = spaces.Dict({"a": BOX}) if kind.startswith("Dict") else BOX
    buffer = getattr(sb3, kind)(20, space, BOX, "cpu", n_envs=2, **{**KINDS[kind], **settings})
    add(buffer, kind, range(steps))
    return buffer


def assert_alike(one: Any, other: Any) -> None:
    """The same in them, and the same draws from now on."""
    assert type(one) is type(other)
    assert one.buffer.view == other.buffer.view
    assert one.buffer.table.settings == other.buffer.table.settings
    assert (one.pos, one.size(), one.full) == (other.pos, other.size(), other.full)
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        mine, theirs = getattr(one, name), getattr(other, name)
        for key in mine if isinstance(mine, dict) else [...]:
            assert np.array_equal(mine[key], theirs[key]), name
    assert np.array_equal(one.timeouts, other.timeouts)
    if one.size():
        first, second = one.sample(50), other.sample(50)
        for name in first._fields:
            mine, theirs = getattr(first, name), getattr(second, name)
            for key in mine if isinstance(mine, dict) else [...]:
                assert mine is theirs is None or np.array_equal(mine[key], theirs[key])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 3, 13])
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_buffer_comes_back_with_its_next_draws(kind: str, steps: int, protocol: int) -> None:
    buffer = filled(kind, steps)
    again = pickle.loads(pickle.dumps(buffer, protocol))
    assert_alike(buffer, again)
    assert_alike(again, copy.deepcopy(again))
    for each in (buffer, again):
        add(each, kind, range(steps, steps + 9))
    assert np.array_equal(buffer.rewards, again.rewards)
    with pytest.raises(InvalidArgumentError, match="made without a folder"):
        again.buffer.save()


def test_a_changed_pickle_is_seen() -> None:
    buffer = filled("ReplayBuffer")
    again = copy.deepcopy(buffer)
    add(again, "ReplayBuffer", range(1))
    with pytest.raises(AssertionError):
        assert_alike(buffer, again)


def test_with_a_folder_the_pickle_holds_its_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = filled("ReplayBuffer", checkpoint_dir="kept")
    first = pickle.dumps(buffer)
    assert len(pickle.dumps(filled("ReplayBuffer"))) > 5 * len(first)
    add(buffer, "ReplayBuffer", range(50, 52))
    second = pickle.dumps(buffer)
    monkeypatch.chdir("/")
    assert pickle.loads(first).rewards.max() == 12
    again = pickle.loads(second)
    assert_alike(buffer, again)
    # And goes on being saved there.
    third = pickle.dumps(again)
    assert len(list((tmp_path / "kept").glob("ckpt-*"))) == 3
    assert_alike(again, pickle.loads(third))
    (tmp_path / "kept").rename(tmp_path / "moved")
    with pytest.raises(CheckpointNotFoundError, match="kept"):
        pickle.loads(third)


def test_a_damaged_pickle_is_refused() -> None:
    """SB3's own loads it, with other numbers."""
    raw = pickle.dumps(filled("ReplayBuffer"))
    flipped = raw.replace(np.float32(12).tobytes(), np.float32(13).tobytes())
    assert flipped != raw
    with pytest.raises(Exception, match="ckpt-") as found:
        pickle.loads(flipped)
    assert "Corrupt" in type(found.value).__name__


def test_the_last_trajectory_is_cut_off_by_a_load() -> None:
    """Its steps bootstrap from their own next states; nothing after the load is theirs."""
    buffer = filled("NStepReplayBuffer", 3)
    again = copy.deepcopy(buffer)
    for each in (buffer, again):
        add(each, "NStepReplayBuffer", range(3, 4))
    for each, rewards, discounts in (
        (buffer, [0 + 0.5 + 0.5, 1 + 1 + 0.75, 2 + 1.5, 3], [0.125, 0.125, 0.25, 0.5]),
        (again, [0 + 0.5 + 0.5, 1 + 1, 2, 3], [0.125, 0.25, 0.5, 0.5]),
    ):
        found = each._get_samples(np.arange(4))
        assert found.rewards.flatten().tolist() == rewards
        assert found.discounts.flatten().tolist() == discounts
        assert not found.dones.any()


@pytest.mark.parametrize(("place", "truncate"), [("path", True), ("file", False)])
def test_sb3_saves_and_loads_it(truncate: bool, place: str, tmp_path: Path) -> None:
    stable_baselines3 = pytest.importorskip(
        "stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3"
    )
    model = stable_baselines3.DQN(
        "MlpPolicy",
        "CartPole-v1",
        replay_buffer_class=sb3.NStepReplayBuffer,
        replay_buffer_kwargs={"n_steps": 3, "gamma": 0.9},
        buffer_size=300,
        learning_starts=20,
        policy_kwargs={"net_arch": [8]},
        device="cpu",
        seed=0,
    ).learn(120)
    before = copy.deepcopy(model.replay_buffer)
    target: Any = tmp_path / "deep" / "buffer" if place == "path" else io.BytesIO()
    if place == "path":
        target.parent.mkdir()
    model.save_replay_buffer(target)
    model.replay_buffer = None
    if place == "file":
        target.seek(0)
    model.device = torch.device("meta")
    model.load_replay_buffer(target, truncate_last_traj=truncate)
    assert model.replay_buffer.device == torch.device("meta")
    model.device = model.replay_buffer.device = torch.device("cpu")
    assert_alike(before, model.replay_buffer)
    model.learn(60, reset_num_timesteps=False)
    assert model.replay_buffer.size() == 180
    model.save(tmp_path / "model")
    loaded = stable_baselines3.DQN.load(tmp_path / "model", env=model.get_env())
    assert type(loaded.replay_buffer) is sb3.NStepReplayBuffer
    assert (loaded.replay_buffer.n_steps, loaded.replay_buffer.size()) == (3, 0)
