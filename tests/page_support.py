"""Pages for who comes from another library: their tables and programs, run on both sides."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DOCS = Path(__file__).resolve().parents[1] / "docs"
_CELL = r"(?:`(?P<{0}>[^`|]+)`[^|]*|none[^|]*)"
ROW = re.compile(rf"\| {_CELL.format('old')} \| {_CELL.format('new')} \|")
PROGRAM = re.compile(r"^(Before|After):\n\n```python\n(.*?)^```", re.M | re.S)

Step = dict[str, Any]


def always(step: Step) -> bool:
    """For each step."""
    return True


def at_ends(step: Step) -> bool:
    """For those that end an episode, of any environment."""
    return bool(np.any(step["terminated"]) or np.any(step["truncated"]))


class Row(NamedTuple):
    """Code of a table's row; None where a side has none."""

    old: str | None
    new: str | None


def rows(text: str, library: str) -> list[Row]:
    """Of all tables; AssertionError where a row is not read."""
    heads = ("|---|---|", f"| {library} | Reverie |")
    found = []
    for line in text.splitlines():
        if line.startswith("|") and line not in heads:
            match = ROW.fullmatch(line)
            assert match, f"a row has another form: {line}"
            found.append(Row(match["old"], match["new"]))
    return found


def evaluated(code: str, names: dict[str, Any]) -> Any:
    """Runs it; the value of its last part where that is an expression."""
    *first, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        first, last = [*first, last], None  # type: ignore[list-item]
    exec(compile(ast.Module(first, []), code, "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), code, "eval"), names)


def plain(value: Any) -> Any:
    """What two libraries can be compared by.

    Columns of a batch become the different rows of it, in order: two large batches of the same
    transitions are then equal, whatever chance chose.
    """
    if isinstance(value, tuple) and value and hasattr(value[0], "dtype") and np.ndim(value[0]):
        columns = [np.asarray(column, np.float64) for column in value]
        table = np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)
        return np.unique(np.round(table, 4), axis=0).tolist()
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value


class InTurn(tuple[Any, ...]):
    """What rows of the same code give, one after the other."""

    __slots__ = ()


def run_rows(
    page: Iterable[Row],
    side: str,
    names: dict[str, Any],
    steps: Sequence[Step],
    repeated: Mapping[str, Callable[[Step], bool]],
    wanted: Mapping[str, Any],
) -> int:
    """Runs a column from top to bottom, in one namespace, and checks each value.

    Args:
        page: its rows.
        side: "old" or "new".
        names: what the code finds there.
        steps: of environments; each is put into `names` for rows that are `repeated`.
        repeated: by the code of a row's left side (or right, if there is none) for which
            steps it runs. Such rows in a row take turns.
        wanted: by the code of that side, or else of the right one, what it gives, or a
            function that says whether a value is right, or an `InTurn` of such.

    Returns:
        How many rows ran.
    """
    ran = 0
    turns = {code: iter(each) for code, each in wanted.items() if isinstance(each, InTurn)}
    for again, group in itertools.groupby(page, lambda row: (row.old or row.new) in repeated):
        pieces = [(row, getattr(row, side)) for row in group if getattr(row, side)]
        ran += len(pieces)
        for step in steps if again else [{}]:
            names.update(step)
            for row, code in pieces:
                if again and not repeated[row.old or row.new](step):
                    continue
                value = evaluated(code, names)
                if not again:
                    check(side, row, value, wanted, turns)
    return ran


def check(
    side: str,
    row: Row,
    value: Any,
    wanted: Mapping[str, Any],
    turns: Mapping[str, Iterator[Any]],
) -> None:
    """AssertionError where a row gave something else, or what nobody looked at."""
    if value is None:
        return
    code = row.old if side == "old" and row.old in wanted else row.new
    assert code in wanted, f"nothing says what {row!r} gives: {value!r}"
    expected = next(turns[code]) if code in turns else wanted[code]
    if callable(expected):
        assert expected(value), f"{row!r} gave {value!r}"
    else:
        assert plain(value) == plain(expected), f"{row!r}"


def walks(environments: int = 1, length: int = 5, episodes: int = 2) -> list[Step]:
    """Steps of environments together, `[N, ...]`; of one without that axis.

    A state is its time in the episode and which episode it is, over all environments; odd
    episodes are cut off, the others terminate.
    """
    found = []
    for episode, t in itertools.product(range(episodes), range(length)):
        number = np.arange(environments) + episode * environments
        obs = np.stack([np.full(environments, t), number], axis=1).astype(np.float32)
        ends = np.full(environments, t == length - 1)
        step = {
            "obs": obs,
            "action": (t + number) % 2,
            "reward": (1 + t + 10 * number).astype(np.float32),
            "next_obs": obs + np.array([1, 0], np.float32),
            "terminated": ends & (number % 2 == 0),
            "truncated": ends & (number % 2 == 1),
        }
        if environments == 1:
            step = {name: leaf[0] for name, leaf in step.items()}
        found.append(step)
    return found


def transitions(steps: Sequence[Step], n_step: int = 1, gamma: float = 1.0) -> Any:
    """What a batch of these steps holds, slowly: state, action, return, next state, end."""
    found: list[list[float]] = []
    several = np.ndim(steps[0]["reward"]) > 0
    for env in range(len(steps[0]["reward"]) if several else 1):
        own = [{k: v[env] for k, v in step.items()} if several else step for step in steps]
        for t, first in enumerate(own):
            total = 0.0
            for k, step in enumerate(own[t : t + n_step]):
                total += gamma**k * float(step["reward"])
                if at_ends(step):
                    break
            state, after = first["obs"].tolist(), step["next_obs"].tolist()
            found.append([*state, first["action"], total, *after, step["terminated"]])
    return (np.array(found, np.float64),)


def programs(text: str) -> tuple[str, str]:
    """The programs of a page, before and after."""
    found = PROGRAM.findall(text)
    assert [name for name, _ in found] == ["Before", "After"], "wanted two programs"
    return found[0][1], found[1][1]


def printed(code: str, folder: Path, *, warnings: str = "error") -> str:
    """What a program prints that runs by itself."""
    command = [sys.executable, "-W", warnings, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unequal(weights: Any) -> bool:
    """Whether these are weights: at most 1, and not all the same."""
    found: NDArray[Any] = np.asarray(weights)
    return bool((found > 0).all() and found.max() <= 1.001 and np.ptp(found) > 0)
