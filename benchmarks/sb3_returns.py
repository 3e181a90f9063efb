"""Whether SB3 learns the same on our buffers: `python -m benchmarks.sb3_returns [--json FILE]`.

The DQN and the SAC of `examples/sb3_plug_in.py`, each on SB3's own ReplayBuffer, on that of
`reverie.sb3`, and prioritized, with the same settings. Runs of one seed have the same networks,
environments and exploration to begin with, so returns are compared seed by seed; what differs
is which transitions are drawn, and soon all that follows from it. A run is looked at `LOOKS`
times, at the greedy policy in 20 fresh episodes. Its return is the mean of the looks in the
last fifth of training, for the very last policy alone is a matter of luck; the mean of all
looks says how soon it learnt. Printed are both by seed, and their differences with a 95 %
interval of Student's t. The file grows run by run, and what is in it is not done again.

`--same-draws` trains SB3's own beside ours with SB3's choices of transitions put into it, and
says whether all weights are the same, bit for bit. Needs Stable-Baselines3; with the default
sizes about an hour on one core.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import reverie.sb3
from benchmarks.first_figures import machine
from reverie.weights import LinearSchedule

EPISODES, LOOKS = 20, 10
THEIRS, OURS, PRIORITIZED = KINDS = ("SB3's own", "reverie.sb3", "prioritized")
FIGURES = {"return": LOOKS // 5, "mean of all looks": LOOKS}  # over how many of the last
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
EXAMPLE = importlib.import_module("sb3_plug_in")
STEPS = {"DQN": EXAMPLE.POLE_STEPS, "SAC": EXAMPLE.PENDULUM_STEPS}
ENVIRONMENTS = {"DQN": EXAMPLE.POLE, "SAC": EXAMPLE.PENDULUM}
# DQN's are RL Zoo's but for what lets it oscillate for ever: here targets follow slowly, and
# as many updates come in small portions. SAC's are such that few updates are enough.
SETTINGS: dict[str, dict[str, Any]] = {"DQN": EXAMPLE.BALANCING, "SAC": EXAMPLE.SWINGING}
ALPHA, BETA = 0.6, (0.4, 1.0)
# Student's t of 95 % on both sides, by degrees of freedom.
T_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Looks(BaseCallback):  # type: ignore[misc]
    """Judges the greedy policy now and then, in episodes of its own."""

    def __init__(self, environment: str, steps: int) -> None:
        super().__init__()
        self.env = make_vec_env(environment, EPISODES)
        self.at = {steps * (k + 1) // LOOKS for k in range(LOOKS)}
        self.found: list[float] = []

    def _on_step(self) -> bool:
        if self.num_timesteps in self.at:
            self.env.seed(1_000)  # the same episodes for all
            mean, _ = evaluate_policy(self.model, self.env, EPISODES, deterministic=True)
            self.found.append(float(np.mean(mean)))  # theirs may be a list, say their types
        return True


class SameDraws(reverie.sb3.ReplayBuffer):
    """Ours, with transitions chosen from NumPy's generator as SB3's own buffer chooses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        before = np.random.get_state()
        super().__init__(*args, **kwargs)
        np.random.set_state(before)

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """Through the slots of SB3's arrays: slow, and for this comparison alone."""
        return self._get_samples(np.random.randint(0, self.size(), size=batch_size), env)


def new_model(algorithm: str, kind: str, seed: int, steps: int) -> Any:
    """SB3's model of this algorithm on a buffer of this kind."""
    made: dict[tuple[str, bool], Any] = {
        ("DQN", False): DQN,
        ("SAC", False): SAC,
        ("DQN", True): reverie.sb3.PrioritizedDQN,
        ("SAC", True): reverie.sb3.PrioritizedSAC,
    }
    settings = dict(SETTINGS[algorithm])
    if kind == PRIORITIZED:
        beta = LinearSchedule(*BETA, steps)
        settings["replay_buffer_kwargs"] = {"alpha": ALPHA, "beta": beta}
    else:
        classes = {THEIRS: None, OURS: reverie.sb3.ReplayBuffer, "same draws": SameDraws}
        settings["replay_buffer_class"] = classes[kind]
    cls = made[algorithm, kind == PRIORITIZED]
    return cls("MlpPolicy", ENVIRONMENTS[algorithm], seed=seed, device="cpu", **settings)


def run(algorithm: str, kind: str, seed: int, steps: int) -> dict[str, Any]:
    """One training: what its looks found, their mean, and its seconds."""
    start = time.perf_counter()
    looks = Looks(ENVIRONMENTS[algorithm], steps)
    new_model(algorithm, kind, seed, steps).learn(steps, callback=looks)
    return {
        "algorithm": algorithm,
        "kind": kind,
        "seed": seed,
        "steps": steps,
        "looks": looks.found,
        **{name: statistics.mean(looks.found[-last:]) for name, last in FIGURES.items()},
        "seconds": time.perf_counter() - start,
    }


def are_weights_the_same(algorithm: str, seed: int, steps: int) -> bool:
    """Whether SB3's own and ours with its choices train the same networks, bit for bit."""
    theirs, ours = (
        list(new_model(algorithm, kind, seed, steps).learn(steps).policy.parameters())
        for kind in (THEIRS, "same draws")
    )
    return all(map(torch.equal, theirs, ours))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences, and half of its 95 % interval of Student's t."""
    count = len(differences)
    if count < 2:
        return differences[0], float("inf")
    error = statistics.stdev(differences) / count**0.5
    return statistics.mean(differences), T_95[min(count - 2, len(T_95) - 1)] * error


def row(name: str, cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {name} | {' | '.join(cells)} |"


def table(runs: Sequence[dict[str, Any]], algorithm: str) -> str:
    """Figures by seed, in Markdown; below them means, and what ours has more than SB3's."""
    runs = [each for each in runs if each["algorithm"] == algorithm]
    columns = [(figure, kind) for figure in FIGURES for kind in KINDS]
    found = {(r["seed"], figure, r["kind"]): r[figure] for r in runs for figure in FIGURES}
    seeds = [
        seed
        for seed in sorted({each["seed"] for each in runs})
        if all((seed, figure, kind) in found for figure, kind in columns)
    ]
    lines = [
        row(f"{algorithm}, seed", [f"{figure}, {kind}" for figure, kind in columns]),
        row("---", ["---:"] * len(columns)),
    ]
    lines += [
        row(str(seed), [f"{found[seed, figure, kind]:.1f}" for figure, kind in columns])
        for seed in seeds
    ]
    means, differences = [], []
    for figure, kind in columns if seeds else []:
        values = [found[seed, figure, kind] for seed in seeds]
        theirs = [found[seed, figure, THEIRS] for seed in seeds]
        means.append(f"{statistics.mean(values):.1f}")
        mean, half = interval([a - b for a, b in zip(values, theirs, strict=True)])
        differences.append("" if kind == THEIRS else f"{mean:+.1f} ± {half:.1f}")
    return "\n".join([*lines, row("mean", means), row("minus SB3's own", differences)])


def main() -> None:
    """Trains what is not in the file yet, and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, help="the default is enough to learn")
    parser.add_argument("--same-draws", action="store_true")
    parser.add_argument("--json", type=Path, help="where the figures are, and go")
    given = parser.parse_args()
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    figures: dict[str, Any] = {"runs": []}
    if given.json and given.json.exists():
        figures = json.loads(given.json.read_text())
    figures["machine"] = machine()
    figures["versions"] = {
        each.__name__: each.__version__ for each in (stable_baselines3, torch, gymnasium)
    }
    there = {(r["algorithm"], r["kind"], r["seed"], r["steps"]) for r in figures["runs"]}
    for algorithm in given.algorithms:
        steps = given.steps or STEPS[algorithm]
        for seed in given.seeds:
            if given.same_draws:
                same = are_weights_the_same(algorithm, seed, steps)
                print(f"{algorithm}, seed {seed}, {steps} steps: same weights: {same}")
                continue
            for kind in KINDS:
                if (algorithm, kind, seed, steps) in there:
                    continue
                figures["runs"].append(run(algorithm, kind, seed, steps))
                print(json.dumps(figures["runs"][-1]), flush=True)
                if given.json:
                    given.json.write_text(json.dumps(figures, indent=2) + "\n")
        if not given.same_draws:
            print(f"\n{table(figures['runs'], algorithm)}\n", flush=True)


if __name__ == "__main__":
    main()
