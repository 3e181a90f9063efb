"""Batches a second onto a GPU: `python -m benchmarks.device`. Without one it says so.

A million steps of Atari's shape are too many for a page, so: 100,000 small steps, and
10,000 images of 84 x 84 x 4. Each way brings fresh random batches to the device, where their
sum is taken, so that nothing is left in flight. Ways are measured in turns within one run,
and the median is printed as JSON.

    ours              reverie.torch.Loader: gathered into pinned slots, one copy on a stream
    pin_memory().to() the same batches, each leaf pinned and sent, as one does by hand
    to()              the same batches, each leaf sent from pageable memory
    torchrl           its ReplayBuffer with pin_memory, where it is installed
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import reverie
from reverie.errors import MissingDependencyError

SHAPES = {"small": ((17,), np.float32, 100_000), "images": ((4, 84, 84), np.uint8, 10_000)}


def filled(shape: tuple[int, ...], dtype: Any, steps: int) -> reverie.ReplayBuffer:
    """A buffer with one long episode in it."""
    spec = {
        "observation": reverie.ArraySpec(shape, dtype),
        "action": reverie.ArraySpec((), np.int64),
        "reward": reverie.ArraySpec((), np.float32),
    }
    buffer = reverie.ReplayBuffer(spec, steps, seed=0)
    states = np.random.default_rng(0).integers(0, 255, (steps + 1, *shape)).astype(dtype)
    buffer.add_episode(
        {
            "observation": states,
            "action": np.arange(steps),
            "reward": np.ones(steps, np.float32),
        }
    )
    return buffer


def ways(torch: Any, buffer: reverie.ReplayBuffer, batch_size: int) -> dict[str, Any]:
    """By name, what brings the next batch to the device: a dict of its tensors."""
    from reverie.torch import Loader

    batches: Iterator[Any] = iter(Loader(buffer, batch_size, device="cuda"))

    def by_hand(pin: bool) -> Callable[[], dict[str, Any]]:
        def bring() -> dict[str, Any]:
            found = {}
            for key, array in buffer.sample(batch_size).data.items():
                tensor = torch.from_numpy(array)
                tensor = tensor.pin_memory() if pin else tensor
                found[key] = tensor.to("cuda", non_blocking=pin)
            return found

        return bring

    found: dict[str, Any] = {
        "ours": lambda: next(batches).data,
        "pin_memory().to()": by_hand(True),
        "to()": by_hand(False),
    }
    try:
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage, ReplayBuffer
    except ImportError:
        return found
    theirs = ReplayBuffer(
        storage=LazyTensorStorage(buffer.capacity), batch_size=batch_size, pin_memory=True
    )
    data = {key: torch.from_numpy(array) for key, array in buffer.steps().data.items()}
    theirs.extend(TensorDict(data, batch_size=[len(buffer)]))
    found["torchrl"] = lambda: dict(theirs.sample().to("cuda", non_blocking=True).items())
    return found


def measured(torch: Any, ways: dict[str, Any], rounds: int, repeat: int) -> dict[str, float]:
    """Batches a second: medians over rounds, in each of which every way has its turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, bring in ways.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            total = torch.zeros((), device="cuda")
            for _ in range(repeat):
                for tensor in bring().values():
                    total += tensor.sum()
            torch.cuda.synchronize()
            found[name].append(repeat / (time.perf_counter() - start))
    return {name: round(statistics.median(speeds), 1) for name, speeds in found.items()}


def main() -> None:
    """Prints one JSON object, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=100)
    arguments = parser.parse_args()
    try:
        import reverie.torch
    except MissingDependencyError as error:
        print(f"Nothing was measured: {error}")
        return
    import torch

    if not torch.cuda.is_available():
        print("Nothing was measured: this machine has no GPU that PyTorch can use.")
        return
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "reverie": reverie.__version__,
        "batch_size": arguments.batch_size,
    }
    for name, shape in SHAPES.items():
        with filled(*shape) as buffer:
            each = ways(torch, buffer, arguments.batch_size)
            measured(torch, each, 1, 10)  # to warm up
            found[name] = measured(torch, each, arguments.rounds, arguments.repeat)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
