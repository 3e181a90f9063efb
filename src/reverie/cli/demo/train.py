"""The new process: opens the checkpoint, trains the agent, writes what came of it.

`python -m reverie.cli.demo.train SETTINGS` is how the first process starts it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import reverie
from reverie.cli.demo.agent import QAgent
from reverie.cli.demo.bars import progress_bar
from reverie.cli.demo.play import Player, play_episodes
from reverie.cli.demo.pole import SOLVED_RETURN
from reverie.cli.demo.results import Point, Sizes, Trained
from reverie.cli.demo.settings import Settings
from reverie.errors import ReverieError


def train(settings: Settings) -> Trained:
    """Opens the newest checkpoint and trains from it.

    Learning from batches and collecting with the agent's own policy take turns, on one
    buffer. The policy of the curve's best point is chosen, and judged
    by episodes that had no part in the choice.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        MissingDependencyError: the `demo` extra is not installed.
    """
    begun = time.perf_counter()
    with reverie.open(settings.checkpoints) as buffer:
        done = Trained(len(buffer), time.perf_counter() - begun)
        print(
            f"Process {os.getpid()} opened it in {1e3 * done.load_seconds:.1f} ms:\n{buffer}.",
            flush=True,
        )
        best = _learn(settings, buffer, done)
        done.sizes = Sizes.of(buffer)
    seeds = _seeds(settings, 0, settings.final_episodes)
    done.returns = tuple(play_episodes(best.act, seeds).tolist())
    done.seconds = time.perf_counter() - begun
    return done


def _learn(settings: Settings, buffer: reverie.ReplayBuffer, done: Trained) -> QAgent:
    """Fills `done`; returns the agent of the curve's best point."""
    end = time.perf_counter() + settings.max_seconds
    agent = best = QAgent(settings.seed)
    player = Player(buffer, settings.seed + 1, adds=done.adds)
    rounds = max(1, (settings.steps - settings.random_steps) // settings.steps_per_round)
    beta = reverie.weights.LinearSchedule(0.4, 1.0, rounds)
    with progress_bar() as progress:
        task = progress.add_task("train", total=rounds, note="")
        for number in range(rounds + 1):
            if number % settings.rounds_per_point == 0 or number == rounds:
                done.curve.append(_point(settings, agent, done))
                top = max(point.mean for point in done.curve)
                mean = done.curve[-1].mean
                if mean == top:  # of equals the one that has learned longest
                    best = agent.frozen()
                note = f"return {mean:3.0f}, best {top:3.0f}"
                progress.update(task, completed=number, note=note)
                if _solved(settings, done.curve):
                    done.ended = "solved"
                    progress.update(task, total=number, note=f"return {mean:.0f}: solved")
                    break
            if number == rounds:
                break
            if time.perf_counter() > end:
                done.ended = "time"
                break
            for _ in range(settings.batches_per_round):
                batch = done.batches.time(buffer.sample, settings.batch_size, beta=beta(number))
                done.updates.time(buffer.update_priorities, batch.key, agent.learn(batch))
            for _ in range(settings.steps_per_round):
                player.step(agent.act, settings.exploration)
    return best


def _point(settings: Settings, agent: QAgent, done: Trained) -> Point:
    seeds = _seeds(settings, 1 + len(done.curve), settings.episodes)
    return Point(done.batches.calls, tuple(play_episodes(agent.act, seeds).tolist()))


def _solved(settings: Settings, curve: list[Point]) -> bool:
    last = curve[-settings.solved_in_a_row :]
    return len(last) == settings.solved_in_a_row and all(
        point.mean >= SOLVED_RETURN for point in last
    )


def _seeds(settings: Settings, purpose: int, count: int) -> list[int]:
    """Seeds of `count` episodes, others for each purpose."""
    state = np.random.SeedSequence([settings.seed, purpose]).generate_state(count)
    return [int(seed) for seed in state]


def main(argv: Sequence[str]) -> int:
    """Trains by the settings file that `argv` names; returns the exit code."""
    settings = Settings.read(Path(argv[0]))
    try:
        train(settings).write(settings.results)
    except (ReverieError, OSError) as error:
        print(f"reverie: error in the training process: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
