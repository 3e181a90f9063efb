"""A pytest plugin: SB3 with Reverie's buffers in the place of its own.

`pytest -p sb3_on_reverie`, before SB3's tests are imported. Nothing of SB3 is changed but
what its modules' names of these classes mean.
"""

from __future__ import annotations

import sys

from stable_baselines3.common import buffers
from stable_baselines3.her import her_replay_buffer

import reverie.sb3

# Where SB3 has each. Whoever imports it later gets what stands there by then.
NAMES = {
    "ReplayBuffer": buffers,
    "DictReplayBuffer": buffers,
    "NStepReplayBuffer": buffers,
    "HerReplayBuffer": her_replay_buffer,
}

for name, home in NAMES.items():
    own, ours = getattr(home, name), getattr(reverie.sb3, name)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("stable_baselines3") and vars(module).get(name) is own:
            setattr(module, name, ours)


def pytest_terminal_summary(terminalreporter: object) -> None:
    """So that the log says whose buffers it was."""
    assert all(getattr(at, name) is getattr(reverie.sb3, name) for name, at in NAMES.items())
    terminalreporter.write_line("Reverie served all of SB3's buffers")  # type: ignore[attr-defined]
