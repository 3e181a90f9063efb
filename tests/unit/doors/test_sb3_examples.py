"""The example that trains SB3's algorithms on our buffers, on a small scale."""

from __future__ import annotations

from tests.example_support import example


def test_sb3_learns_on_our_buffers() -> None:
    plug_in = example("sb3_plug_in", "torch", "stable_baselines3")
    found = plug_in.main(part=0.1)
    assert list(found) == ["DQN", "PrioritizedDQN", "SAC"]
    for name in ("DQN", "PrioritizedDQN"):
        score, chance = found[name]
        assert score > 3 * chance
