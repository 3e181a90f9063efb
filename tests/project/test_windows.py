"""The first loops that a reader sees lose no transition, and the picture of windows is true."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tests.project.draw_windows import PICTURE, drawn, windows
from tests.project.test_docs import README, blocks_to_run, run

import reverie

LOOP = next(block for block in blocks_to_run(README) if "observer(" in block)
_, *DOCSTRING = str(reverie.__doc__).split("\n\n    import numpy", 1)
# The code, the column of observations, and one that is 0 in a boundary record alone.
LOOPS = {
    "README": (LOOP, "observation", "reward"),
    "docstring": (textwrap.dedent("    import numpy" + DOCSTRING[0]), "obs", "action"),
}


def saved(code: str, folder: Path) -> reverie.ReplayBuffer:
    """What a program leaves in its folder of checkpoints."""
    done = run(code, folder)
    assert done.returncode == 0, done.stderr
    return reverie.open(folder / "checkpoints")


def lost(buffer: reverie.ReplayBuffer, observation: str, column: str) -> int:
    """Records that count and yet begin no window, so that nobody learns what followed."""
    items = [data for _, data in buffer.iter_items()]
    begin = {data[observation][0].tobytes() for data in items}
    assert len(begin) == len(items), "observations that repeat: windows cannot be told apart"
    ends = {data[observation][1].tobytes(): data[column][1] for data in items}
    return sum(value != 0 for seen, value in ends.items() if seen not in begin)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_we_show_loses_no_transition(name: str, tmp_path: Path) -> None:
    code, observation, column = LOOPS[name]
    buffer = saved(code, tmp_path)
    assert buffer.num_frames() > 0
    assert lost(buffer, observation, column) == 0


def test_the_readmes_terminal_transitions_are_sampled(tmp_path: Path) -> None:
    buffer = saved(LOOP, tmp_path)
    data, _ = buffer.sample(4096)  # of 60 windows one is missed once in 1e28 runs
    terminal = data["discount"][:, 0] == 0
    assert len({seen.tobytes() for seen in data["observation"][terminal, 0]}) == 3
    assert set(data["reward"][terminal, 0]) == {1.0}


def test_a_loop_without_boundary_records_is_seen(tmp_path: Path) -> None:
    played = '"discount": 1.0 - terminated}'
    kept = [line for line in LOOP.splitlines() if "last=True" not in line]
    code = "\n".join(kept).replace(f"{played})", f"{played}, last=terminated)")
    assert "last=terminated" in code
    buffer = saved(code, tmp_path)
    assert lost(buffer, "observation", "reward") == 3


def test_the_picture_shows_the_windows_as_they_are() -> None:
    is_true = PICTURE.read_text("utf-8") == drawn()
    assert is_true, "draw it anew: python -m tests.project.draw_windows"


def test_the_picture_follows_what_the_manager_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert windows((2, 1)) == [[(0, 0), (0, 1)], [(0, 1), (0, 2)], [(1, 0), (1, 1)]]
    as_it_is = drawn()
    assert drawn((3, 1)) != as_it_is
    monkeypatch.setattr("tests.project.draw_windows.windows", lambda _: windows()[:-1])
    assert drawn() != as_it_is
