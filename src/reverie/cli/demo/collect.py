"""The first process: a random policy fills the buffer, and a checkpoint is saved."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.cli.demo.bars import progress_bar
from reverie.cli.demo.play import Player
from reverie.cli.demo.settings import Settings, make_manager


@dataclass(frozen=True, slots=True)
class Collected:
    """What the first process has done.

    Attributes:
        returns: of the random policy's finished episodes: the baseline.
        adds: observer calls.
        add_seconds: spent in them.
        items: in the checkpoint.
        steps: likewise.
        record_nbytes: of the stored steps.
        checkpoint: its folder.
        checkpoint_nbytes: of its files.
        save_seconds: from the call of `save` until it was durable.
    """

    returns: tuple[float, ...]
    adds: int
    add_seconds: float
    items: int
    steps: int
    record_nbytes: int
    checkpoint: Path
    checkpoint_nbytes: int
    save_seconds: float


def collect(settings: Settings) -> Collected:
    """Plays `settings.random_steps` steps at random, stores them, saves them."""
    with make_manager(settings) as manager:
        with warnings.catch_warnings():
            # The folder may hold an earlier run's checkpoint; ours will be newer.
            warnings.simplefilter("ignore", UserWarning)
            _, observer = manager.create_replay_buffer()
        player = Player(observer, settings.seed)
        _play(player, settings.random_steps)
        start = time.perf_counter()
        checkpoint = manager.save()
        seconds = time.perf_counter() - start
        info = manager.info()
    return Collected(
        returns=tuple(player.returns),
        adds=player.adds.calls,
        add_seconds=player.adds.seconds,
        items=info.items,
        steps=info.steps,
        record_nbytes=info.nbytes,
        checkpoint=checkpoint,
        checkpoint_nbytes=sum(f.stat().st_size for f in Path(checkpoint).iterdir()),
        save_seconds=seconds,
    )


def _play(player: Player, steps: int) -> None:
    with progress_bar() as progress:
        task: Any = progress.add_task("collect", total=steps, note="")
        for done in range(1, steps + 1):
            player.step(None, exploration=1.0)
            if done % 100 == 0 or done == steps:
                recent = player.returns[-50:]
                mean = f"return {sum(recent) / len(recent):.0f}" if recent else ""
                progress.update(task, completed=done, note=f"random policy, {mean}")
