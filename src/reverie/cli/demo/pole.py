"""The environment: a pole on a cart, which needs nothing installed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ENVIRONMENT = "CartPole"
SOLVED_RETURN = 475.0  # where Gymnasium calls its CartPole-v1 solved
MOST_STEPS = 500

_GRAVITY, _CART, _POLE, _HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s^2, kg, kg, m
_FORCE, _SECONDS = 10.0, 0.02  # N, of each step
_MOST_METRES, _MOST_RADIANS = 2.4, math.radians(12)


class Pole:
    """Balances a pole on a cart that is pushed left (0) or right (1).

    Observes, as float32, the cart's position (m) and velocity (m/s), the pole's angle (rad)
    and angular velocity (rad/s). Each step earns 1. An episode terminates where the pole
    leans or the cart is too far away, and is cut off after `MOST_STEPS`. (Barto, Sutton and
    Anderson 1983; the numbers are those of Gymnasium's CartPole-v1.)

    Args:
        seed: of the states that episodes begin in.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._state = (0.0, 0.0, 0.0, 0.0)
        self._steps = 0

    def reset(self) -> NDArray[np.float32]:
        """Begins an episode, near the middle."""
        self._steps = 0
        x, v, angle, spin = self._rng.uniform(-0.05, 0.05, 4).tolist()
        self._state = x, v, angle, spin
        return np.array(self._state, np.float32)

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool]:
        """Observation, reward, terminated, truncated."""
        x, v, angle, spin = self._state
        sin, cos, mass = math.sin(angle), math.cos(angle), _CART + _POLE
        push = (_FORCE if action else -_FORCE) + _POLE * _HALF_LENGTH * spin**2 * sin
        turn = (_GRAVITY * sin - cos * push / mass) / (
            _HALF_LENGTH * (4 / 3 - _POLE * cos**2 / mass)
        )
        speed_up = (push - _POLE * _HALF_LENGTH * turn * cos) / mass
        x, angle = x + _SECONDS * v, angle + _SECONDS * spin
        self._state = x, v + _SECONDS * speed_up, angle, spin + _SECONDS * turn
        self._steps += 1
        terminated = abs(x) > _MOST_METRES or abs(angle) > _MOST_RADIANS
        truncated = self._steps >= MOST_STEPS
        return np.array(self._state, np.float32), 1.0, terminated, truncated
