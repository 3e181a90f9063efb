"""The example that trains SB3's algorithms on our buffers, on a small scale."""

from __future__ import annotations

from tests.example_support import example


def test_sb3_learns_on_our_buffers() -> None:
    plug_in = example("sb3_plug_in", "torch", "stable_baselines3")
    for name, (score, chance) in plug_in.main(("DQN", "PrioritizedDQN"), part=0.1).items():
        assert score > 3 * chance, name
    ((score, chance),) = plug_in.main(("SAC",)).values()
    assert score > -300
    assert chance < -900
