"""The examples that train learn what they say, on a small scale."""

from __future__ import annotations

import pytest
from tests.example_support import example


def test_goals_are_reached_with_hindsight_and_not_without() -> None:
    reached, without = example("hindsight_torch", "torch").main(bits=7, calls=200)
    assert reached > 0.8
    assert without < 0.4


def test_a_lock_is_opened_with_the_logs_and_not_without() -> None:
    opened, without, logged = example("offline_online_torch", "torch").main(steps=1_600)
    assert (opened, without) == (1, 0)
    assert 0.2 < logged < 0.9


def test_a_pendulum_is_swung_up() -> None:
    score, chance = example("sac_torch", "torch", "gymnasium").main(steps=5_000)
    assert score > -250
    assert chance < -900


def test_the_way_is_remembered() -> None:
    score, forgetful, chance = example("r2d2_jax", "jax").main(steps=10_000)
    assert score > 0.7
    assert chance < forgetful < 0


def test_without_a_recurrent_state_the_way_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r2d2 = example("r2d2_jax", "jax")
    advance = r2d2.advance
    monkeypatch.setattr(r2d2, "advance", lambda p, state, seen: advance(p, 0 * state, seen))
    score, forgetful, _ = r2d2.main(steps=10_000)
    assert score < forgetful + 0.2
