"""The table of docs/from-reverb.md, for Reverie's Reverb and for dm-reverb."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.page_support import DOCS, InTurn, always, at_ends, rows, run_rows, transitions, walks

TEXT = (DOCS / "from-reverb.md").read_text("utf-8")
PAGE = rows(TEXT, "Reverb")
STEPS = walks()
REPEATED = {
    row.old: at_ends if "end_episode" in row.old else always
    for row in PAGE
    if row.old and any(f"writer.{call}" in row.old for call in ("app", "create", "end", "epi"))
}
(WHOLE,) = transitions(STEPS)
REWARDS = WHOLE[:, 3]
SHARES = REWARDS**0.6 / (REWARDS**0.6).sum()
WINDOWS = np.array(
    [
        [t, n, t + 1, n, t + 2, n, *(k + t + 10 * n for k in (1, 2, 3))]
        for n in range(2)
        for t in range(3)
    ]
)


WANTED: dict[str, Any] = {
    "len(buffer)": InTurn((10, 0, 6)),
    "batch.observation, batch.action, batch.reward, batch.next_observation, batch.terminated": (
        WHOLE,
    ),
    "len(set(batch.key))": 10,
    "batch.info.probability[0], batch.info.table_size[0]": lambda found: (
        np.isclose(found[0], 0.1) and found[1] == 10
    ),
    "buffer.sample(8, view=views.Transitions(n_step=3, gamma=0.99)).n_steps.shape": (8,),
    "buffer.steps().reward.tolist()": REWARDS.tolist(),
    "buffer.update_priorities(batch.key, batch.reward)": 0,
    "batch.reward, batch.probability": (REWARDS, SHARES),
    "batch.reward, batch.weight": (REWARDS, (SHARES / SHARES.min()) ** -0.4),
    "batch.observation, batch.reward": (WINDOWS,),
    "reverie.ReplayBuffer(spec, 9, sampler=samplers.Lifo()).capacity": lambda found: (
        found in (9, "x")
    ),
}


def run(side: str, names: dict[str, Any]) -> int:
    """Runs a column; how many rows."""
    return run_rows(PAGE, side, names, STEPS, REPEATED, WANTED)
