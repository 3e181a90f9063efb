"""What a run of the demo is made of: its numbers, its buffer, its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

import reverie
from reverie.runtime.optional import require


@dataclass(frozen=True, slots=True)
class Settings:
    """One run of the demo; the defaults train in well under a minute on one core.

    Attributes:
        out: folder of everything the run writes.
        seed: of the environment, the policies, the sampler and the network.
        steps: environment steps at most, random and trained ones together.
        batch_size: transitions in each batch.
        batches_per_round: batches learned from between two visits to the environment.
        steps_per_round: environment steps of each visit.
        rounds_per_point: rounds between two points of the learning curve.
        episodes: played for each point of the learning curve.
        final_episodes: played by the chosen policy at the end.
        solved_in_a_row: points above `pole.SOLVED_RETURN` that end the training.
        exploration: share of random actions while collecting in training.
        max_seconds: of training, for slow machines; the best policy so far is taken.
        clearly_better: how many times the baseline's mean return the agent must reach.
    """

    out: str
    seed: int = 0
    steps: int = 20_000
    batch_size: int = 512
    batches_per_round: int = 10
    steps_per_round: int = 100
    rounds_per_point: int = 2
    episodes: int = 10
    final_episodes: int = 30
    solved_in_a_row: int = 5
    exploration: float = 0.05
    max_seconds: float = 90.0
    clearly_better: float = 4.0

    @classmethod
    def quick(cls, out: str, seed: int = 0, steps: int = 2_000) -> Settings:
        """A run of a few seconds, for tests: it goes every way but learns little."""
        return cls(out, seed, steps, episodes=3, final_episodes=3, clearly_better=0.0)

    @property
    def random_steps(self) -> int:
        """Of `steps`, those by the random policy, before the checkpoint."""
        return min(5_000, self.steps // 4)

    @property
    def capacity(self) -> int:
        """Steps that the buffer may hold: all."""
        return self.steps

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out)

    @property
    def checkpoints(self) -> Path:
        """Where the buffer is saved."""
        return self.folder / "checkpoints"

    @property
    def picture(self) -> Path:
        """The learning curve."""
        return self.folder / "learning_curve.png"

    @property
    def results(self) -> Path:
        """What the training process has measured."""
        return self.folder / "trained.json"

    def write(self) -> Path:
        """Writes the settings for the training process; returns the file."""
        path = self.folder / "settings.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Settings:
        """What `write` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))


def new_buffer(settings: Settings) -> reverie.ReplayBuffer:
    """The run's buffer, empty: steps of the pole, drawn by their errors, three at a time."""
    return reverie.ReplayBuffer(
        {
            "observation": reverie.ArraySpec((4,), np.float32),
            "action": reverie.ArraySpec((), np.int64),
            "reward": reverie.ArraySpec((), np.float32),
        },
        settings.capacity,
        sampler=reverie.samplers.Prioritized(alpha=0.6),
        view=reverie.views.Transitions(n_step=3, gamma=0.99),
        seed=settings.seed,
        checkpoint_dir=settings.checkpoints,
        max_to_keep=1,
    )


def need(module: str) -> ModuleType:
    """Imports a package of the `demo` extra.

    Raises:
        MissingDependencyError: it is not installed; the message has the command.
    """
    return require(module, "demo", "reverie demo")
