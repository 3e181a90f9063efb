"""The page of peers: they take turns with ours, give what is asked, or are named as missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks.peers import ours
from benchmarks.peers.__main__ import main
from benchmarks.peers.pairs import TITLES, measured, table
from benchmarks.peers.scenario import ROWS, Row, Rows, WrongBatchError, check_batch

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("torch", "jax", "gymnasium", "stable_baselines3", "cpprb", "torchrl", "tensordict")
PEERS += ("tianshou", "flashbax", "rlox")
CAPACITY = 2_000 // 64 * 64
TINY = ["--capacity", "2000", "--rounds", "1", "--calls", "1"]


def fake(rows: Callable[[int], Rows] = ours.rows) -> Any:
    """A peer: ours under another name."""
    return SimpleNamespace(INSTALL="pip install fake", PACKAGES=("numpy",), rows=rows)


def gone(capacity: int) -> Rows:
    raise ImportError("No module named 'gone'")


def without_sequences(capacity: int) -> Rows:
    return {**ours.rows(capacity), "sequences": "it has none"}


# The runner.


def test_both_have_their_turn_in_each_round() -> None:
    turns: list[str] = []
    sides: list[Rows] = [
        {name: Row(lambda side=side: turns.append(side)) for name in ROWS}  # type: ignore[misc]
        for side in ("ours", "theirs")
    ]
    measured(fake(lambda capacity: sides[1]), sides[0], 0, rounds=2, calls=3)
    checked, turn = ["ours", "theirs"], ["ours"] * 3 + ["theirs"] * 3
    assert turns == (checked + turn * 3 + checked) * len(ROWS)  # the first turn warms up


def test_a_peer_is_paired_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    main(TINY, {"fake": fake(without_sequences)})
    said = capsys.readouterr().out
    assert said.startswith(f"fake {np.__version__} ")
    assert all(label in said for label in ROWS.values())
    assert re.search(r"sequences of 80 steps +- +[\d.]+ us +-  \(it has none\)", said)
    assert len(re.findall(r"us +[\d.]+ us +[\d.]+$", said, re.MULTILINE)) == len(ROWS) - 1


def test_who_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(TINY, {"gone": fake(gone), "fake": fake()})
    said = capsys.readouterr().out
    assert said.startswith("gone: not installed (No module named 'gone'): pip install fake.\n")
    assert "\nfake " in said


def test_figures_of_other_environments_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found"
    main([*TINY, "--json", str(file)], {"one": fake(), "two": fake(gone)})
    main(
        [*TINY, "--json", str(file), "--markdown"],
        {"one": fake(gone), "two": fake(without_sequences)},
    )
    assert set(json.loads(file.read_text("utf-8"))) == {"one", "two"}
    said = capsys.readouterr()
    assert "Its figures in the file are kept." in said.err
    rows = said.out.splitlines()
    assert [row.split()[1] for row in rows if row.startswith("| ")][2:] == ["one", "two"]
    assert "1. two: it has none." in rows


def test_the_figures_of_the_plain_ones_are_all_there(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "benchmarks.peers", "--peer", "plain", "--peer", "limit"]
    run += [*TINY, "--json", str(tmp_path / "found")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads((tmp_path / "found").read_text("utf-8"))
    assert ("limit" in found) is not ("limit: not installed" in done.stdout)
    for figures in (peer["rows"] for peer in found.values()):
        assert figures["transitions"]["times"] > 0
        assert min(row["ours_us"] for row in figures.values()) > 0


def test_every_file_imports_without_its_peer() -> None:
    code = f"import importlib, sys\nsys.modules.update(dict.fromkeys({PEERS}))\n"
    code += (
        f"for name in {tuple(TITLES)}:\n importlib.import_module('benchmarks.peers.' + name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# What comes back.


def batch_of(row: str) -> dict[str, Any]:
    """A right one, of ours."""
    found = ours.rows(64 * 200)[row]
    assert isinstance(found, Row)
    assert found.named is not None
    return {name: np.array(value) for name, value in found.named(found.call()).items()}


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another shape": lambda batch: batch.update(reward=batch["reward"][:, None]),
    "too few": lambda batch: batch.update(observation=batch["observation"][1:]),
    "another action": lambda batch: batch.update(action=1 - batch["action"]),
    "rewards of others": lambda batch: batch.update(reward=np.roll(batch["reward"], 1)),
}
TRANSITIONS = WRONG | {
    "the same state again": lambda b: b.update(next_observation=b["observation"]),
    "other environments": lambda b: b["next_observation"].__iadd__([0, 1, 0, 0]),
    "no end": lambda b: b.update(terminated=np.ones_like(b["terminated"])),
}
WEIGHTS = {
    "no weights": lambda b: b.update(weight=np.ones_like(b["weight"])),
    "weights above 1": lambda b: b.update(weight=b["weight"] * 1e3),
}
SEQUENCES = WRONG | {
    "another environment": lambda b: b["observation"][:, 1:].__iadd__([0, 1, 0, 0]),
    "a step twice": lambda b: b["observation"].__setitem__(
        (slice(None), 1), b["observation"][:, 0]
    ),
    "masked from the front": lambda b: b["mask"].__setitem__((slice(None), 0), False),
    "past the end": lambda b: b.update(mask=np.ones_like(b["mask"])),
}
CASES = [
    *(("transitions", wrong, TRANSITIONS[wrong]) for wrong in TRANSITIONS),
    *(("n-step", wrong, TRANSITIONS[wrong]) for wrong in TRANSITIONS),
    *(("prioritized", wrong, WEIGHTS[wrong]) for wrong in WEIGHTS),
    *(("sequences", wrong, SEQUENCES[wrong]) for wrong in SEQUENCES),
]


@pytest.mark.parametrize("row", [row for row in ROWS if row != "add"])
def test_a_right_batch_passes(row: str) -> None:
    check_batch(row, batch_of(row))


@pytest.mark.parametrize(
    ("row", "spoil"), [(c[0], c[2]) for c in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
def test_a_wrong_batch_is_refused(row: str, spoil: Callable[[dict[str, Any]], Any]) -> None:
    batch = batch_of(row)
    spoil(batch)
    with pytest.raises(WrongBatchError, match=row):
        check_batch(row, batch)


def test_a_peer_that_gives_the_wrong_thing_is_not_measured() -> None:
    def wrong(capacity: int) -> Rows:
        right = ours.rows(capacity)
        return {**right, "n-step": right["transitions"], "transitions": right["n-step"]}

    with pytest.raises(WrongBatchError, match="1 to 1 steps later"):
        measured(fake(wrong), ours.rows(CAPACITY), CAPACITY, rounds=1, calls=1)


# The page.


def test_the_page_has_the_table_that_is_printed() -> None:
    page = (ROOT / "docs" / "peers.md").read_text("utf-8")
    found = measured(fake(), ours.rows(CAPACITY), CAPACITY, rounds=1, calls=1)
    printed = table({name: found for name in TITLES}).splitlines()
    assert "\n".join(printed[:2]) in page
    assert [name for name in TITLES.values() if f"\n| {name} " not in page] == []


def test_where_a_peer_is_faster_is_bold() -> None:
    found = measured(fake(), ours.rows(CAPACITY), CAPACITY, rounds=1, calls=1)
    for name, times in (("add", 0.5), ("transitions", 2.0)):
        found["rows"][name] |= {"theirs_us": 3.0, "times": times}
    row = table({"sb3": found}).splitlines()[3]
    assert row.startswith(f"| Stable-Baselines3 {np.__version__} | **3 (0.5 x)** | 3 (2 x) |")
