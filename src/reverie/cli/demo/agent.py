"""The agent: fitted Q-iteration with scikit-learn's network."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reverie
from reverie.cli.demo.settings import need

# Half the range in which an episode goes on (position, angle), or of that order.
SCALE = np.array([2.4, 2.0, 0.21, 2.0], np.float32)


class QAgent:
    """Learns the value of each action from batches of transitions.

    Fitted Q-iteration (Ernst, Geurts and Wehenkel, 2005, "Tree-Based Batch Mode
    Reinforcement Learning") with a neural network (Riedmiller, 2005, "Neural
    Fitted Q Iteration"): the network states the targets of a whole batch, then
    makes one pass over it. The network and its optimiser, Adam, are
    scikit-learn's `MLPRegressor`.

    Args:
        seed: of the network's first weights and of its passes.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """

    def __init__(self, seed: int) -> None:
        self._network: Any = need("sklearn.neural_network").MLPRegressor(
            hidden_layer_sizes=(128, 128),
            learning_rate_init=2e-3,
            alpha=0.0,  # no weight decay: values of 100 need large weights
            batch_size=64,
            random_state=seed,
        )
        # Weights exist after a first pass: all values start at about zero.
        self._network.partial_fit(np.zeros((64, 4), np.float32), np.zeros((64, 2), np.float32))

    def learn(self, batch: reverie.Batch) -> NDArray[np.float32]:
        """One pass over a batch of transitions; the sizes of its errors, `[B]`."""
        targets = self._network.predict(batch.observation / SCALE)
        best = self._network.predict(batch.next_observation / SCALE).max(axis=1)
        chosen = np.arange(len(targets)), batch.action
        # The discount is 0 where the episode was over: nothing can be earned after.
        errors = batch.reward + batch.discount * best - targets[chosen]
        # Of a squared error, a weight is how far the target is from what is there.
        targets[chosen] += batch.weight * errors
        self._network.partial_fit(batch.observation / SCALE, targets)
        return np.asarray(np.abs(errors), np.float32)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The best known actions `[N]` for observations `[N, 4]`."""
        values = self._network.predict(observations / SCALE)
        return np.asarray(values.argmax(axis=1), np.int64)

    def frozen(self) -> QAgent:
        """A copy that later learning does not change."""
        return copy.deepcopy(self)
