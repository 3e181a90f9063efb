"""Real building-control experience, loaded from the files that Reverb wrote.

    pip install '.[reverb-files]'
    python examples/smart_buildings.py [FOLDER]

FOLDER defaults to the checkpoint in `tests/golden/smart_buildings`: a schedule
policy that ran Google's Smart Buildings simulator for a while in June 2025. No
Reverb and no TensorFlow is needed. The script loads it, says what is in it, and
samples batches as a training loop would.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import reverie

DEFAULT = (
    Path(__file__).parents[1]
    / "tests"
    / "golden"
    / "smart_buildings"
    / "initial_exploration_buffer"
)

SPEC = reverie.Trajectory(
    step_type=reverie.ArraySpec((), np.int32),
    observation=reverie.ArraySpec((53,), np.float32),
    action=reverie.ArraySpec((2,), np.float32),
    policy_info=(),
    next_step_type=reverie.ArraySpec((), np.int32),
    reward=reverie.ArraySpec((), np.float32),
    discount=reverie.ArraySpec((), np.float32),
)


def summarise(windows: reverie.Trajectory) -> None:
    """Prints what the stored windows say, column by column."""
    print(f"{'column':<16}{'dtype':<9}{'shape':<14}{'min':>11}{'mean':>11}{'max':>11}")
    for name, values in windows._asdict().items():
        if isinstance(values, np.ndarray):
            print(
                f"{name:<16}{values.dtype!s:<9}{values.shape!s:<14}"
                f"{values.min():>11.4g}{values.mean():>11.4g}{values.max():>11.4g}"
            )


def main(folder: Path) -> None:
    """Loads, summarises, samples, and saves in the native format."""
    manager = reverie.ReplayBufferManager(SPEC, capacity=50_000, checkpoint_dir=folder)
    replay_buffer, _ = manager.load_replay_buffer()
    print(f"{replay_buffer!r}\n{manager.info()}\n")
    windows = manager.gather_all()
    summarise(windows)

    # Consecutive windows share a step: the second of one is the first of the next.
    shared = np.array_equal(windows.observation[1:, 0], windows.observation[:-1, 1])
    count = len(windows.reward)
    print(f"\n{count} windows of 2 steps; each goes on where the last began: {shared}")

    start = time.perf_counter()
    batches = 1000
    for _ in range(batches - 1):
        manager.sample(64)
    data, info = manager.sample(64)
    seconds = (time.perf_counter() - start) / batches
    print(f"sample(64): {seconds * 1e6:.1f} us, observations {data.observation.shape}, "
          f"probability of each item {info.probability[0]:.4f}")  # fmt: skip

    # Saving writes the native format; the Reverb files are left as they are.
    with tempfile.TemporaryDirectory() as scratch:
        copy = reverie.ReplayBufferManager(SPEC, 50_000, scratch)
        _, observer = copy.create_replay_buffer()
        for window in range(len(windows.reward)):
            step = [leaf[window, 0] if len(leaf) else leaf for leaf in windows]
            observer(reverie.Trajectory(*step))
        print(
            f"added {len(windows.reward)} of its steps anew, saved {copy.save().name}: {copy!r}"
        )
        copy.close()
    manager.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    try:
        main(parser.parse_args().folder)
    except reverie.ReverieError as error:
        sys.exit(f"{type(error).__name__}: {error}")
