"""The first process: a random policy fills the buffer, and a checkpoint is saved."""

from __future__ import annotations

import time

from reverie.cli.demo.bars import progress_bar
from reverie.cli.demo.play import Player
from reverie.cli.demo.results import Collected, Sizes
from reverie.cli.demo.settings import Settings, new_buffer


def collect(settings: Settings) -> Collected:
    """Plays `settings.random_steps` steps at random, stores them, saves them.

    Raises:
        CheckpointError: the checkpoint could not be written.
        MissingDependencyError: the `demo` extra is not installed.
    """
    with new_buffer(settings) as buffer:
        player = Player(buffer, settings.seed)
        _play(player, settings.random_steps)
        start = time.perf_counter()
        checkpoint = buffer.save()
        seconds = time.perf_counter() - start
        returns = tuple(player.returns)
        return Collected(returns, Sizes.of(buffer), player.adds, checkpoint, seconds)


def _play(player: Player, steps: int) -> None:
    with progress_bar() as progress:
        task = progress.add_task("collect", total=steps, note="")
        for done in range(1, steps + 1):
            player.step(None, exploration=1.0)
            if player.returns and (done % 100 == 0 or done == steps):
                mean = sum(player.returns) / len(player.returns)
                progress.update(task, completed=done, note=f"random policy, return {mean:.0f}")
