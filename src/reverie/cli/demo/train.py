"""The new process: loads the checkpoint, trains the agent, writes what came of it.

`python -m reverie.cli.demo.train SETTINGS` is how the first process starts it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie.cli.demo.agent import QAgent
from reverie.cli.demo.bars import progress_bar
from reverie.cli.demo.play import Player, Stopwatch, play_episodes
from reverie.cli.demo.settings import SOLVED_RETURN, Settings, make_manager
from reverie.errors import ReverieError


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the learning curve.

    Attributes:
        batches: sampled before it.
        returns: of each episode played without exploration.
    """

    batches: int
    returns: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))


@dataclass(slots=True)
class Trained:
    """What the training process has done; fields as in `Collected`.

    Attributes:
        curve: the learning curve, the untrained network first.
        returns: of fresh episodes by the policy of the best point.
        chosen: batches which that policy had learned from.
        ended: why the training ended: "solved", "steps" or "time".
        samples: batches.
        sample_seconds: spent in `manager.sample`.
        load_seconds: spent in `manager.load_replay_buffer`.
        loaded_items: in the buffer after it.
        seconds: of the whole training.
    """

    curve: list[Point] = field(default_factory=list)
    returns: tuple[float, ...] = ()
    chosen: int = 0
    ended: str = "steps"
    samples: int = 0
    sample_seconds: float = 0.0
    load_seconds: float = 0.0
    loaded_items: int = 0
    seconds: float = 0.0
    adds: int = 0
    add_seconds: float = 0.0
    items: int = 0
    steps: int = 0
    record_nbytes: int = 0

    def write(self, folder: Path) -> None:
        """Writes `trained.json` for the first process."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        (folder / "trained.json").write_text(text, "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Trained:
        """What `write` wrote."""
        values = json.loads((folder / "trained.json").read_text("utf-8"))
        curve = [Point(point["batches"], tuple(point["returns"])) for point in values["curve"]]
        return cls(**{**values, "curve": curve, "returns": tuple(values["returns"])})


def train(settings: Settings) -> Trained:
    """Loads the newest checkpoint and trains from it.

    Learning from batches and collecting with the agent's own policy take turns,
    through one manager. The policy of the curve's best point is chosen, and judged
    by episodes that had no part in the choice.
    """
    begun = time.perf_counter()
    with make_manager(settings) as manager:
        start = time.perf_counter()
        _, observer = manager.load_replay_buffer()
        done = Trained(load_seconds=time.perf_counter() - start)
        done.loaded_items = manager.num_frames()
        best = _learn(settings, manager, observer, done, begun)
        info = manager.info()
    done.items, done.steps, done.record_nbytes = info.items, info.steps, info.nbytes
    final = _seeds(settings, 1, settings.final_episodes)
    done.returns = tuple(play_episodes(best.act, final).tolist())
    done.seconds = time.perf_counter() - begun
    return done


def _learn(
    settings: Settings,
    manager: reverie.ReplayBufferManager,
    observer: Any,
    done: Trained,
    begun: float,
) -> QAgent:
    """Fills `done`; returns the agent of the curve's best point."""
    agent = best = QAgent(settings.seed)
    player = Player(observer, settings.seed + 1)
    batches = Stopwatch()
    seeds = iter(range(2, 10**6))
    in_a_row, best_mean = 0, -1.0
    rounds = max(1, (settings.steps - settings.random_steps) // settings.steps_per_round)
    with progress_bar() as progress:
        task = progress.add_task("train", total=rounds, note="")
        for number in range(rounds + 1):
            if number % settings.rounds_per_evaluation == 0 or number == rounds:
                evaluation = _seeds(settings, next(seeds), settings.episodes)
                returns = play_episodes(agent.act, evaluation)
                point = Point(batches.calls, tuple(returns.tolist()))
                done.curve.append(point)
                in_a_row = in_a_row + 1 if point.mean >= SOLVED_RETURN else 0
                if point.mean >= best_mean:  # of equals the one that has learned longest
                    best, best_mean, done.chosen = agent.frozen(), point.mean, point.batches
                note = f"return {point.mean:3.0f}, best {best_mean:3.0f}"
                progress.update(task, completed=number, note=note)
            if in_a_row == settings.solved_in_a_row:
                done.ended = "solved"
                progress.update(task, total=number, note=f"{note}: solved")
                break
            if time.perf_counter() - begun > settings.max_seconds:
                done.ended = "time"
                break
            if number < rounds:
                for _ in range(settings.batches_per_round):
                    data, _info = batches.time(manager.sample, settings.batch_size)
                    agent.learn(data)
                for _ in range(settings.steps_per_round):
                    player.step(agent.act, settings.exploration)
    done.samples, done.sample_seconds = batches.calls, batches.seconds
    done.adds, done.add_seconds = player.adds.calls, player.adds.seconds
    return best


def _seeds(settings: Settings, purpose: int, count: int) -> list[int]:
    """Seeds of `count` episodes; other ones for each purpose."""
    state = np.random.SeedSequence([settings.seed, purpose]).generate_state(count)
    return [int(seed) for seed in state]


def main(argv: Sequence[str]) -> int:
    """Trains by the settings file that `argv` names; returns the exit code."""
    settings = Settings.read(Path(argv[0]))
    try:
        train(settings).write(settings.folder)
    except (ReverieError, OSError) as error:
        print(f"reverie: error in the training process: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
