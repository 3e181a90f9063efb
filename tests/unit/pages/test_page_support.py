"""What the tests of the pages are told by their helper, and that they see what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import (
    Row,
    always,
    at_ends,
    plain,
    printed,
    programs,
    rows,
    run_rows,
    transitions,
    walks,
)

TABLE = "| Old | Reverie |\n|---|---|\n| `a = 1` | `a = 2` (words) |\n| none | `a + 1` |\n"


def test_rows_are_read_and_one_of_another_form_is_seen() -> None:
    assert rows(TABLE, "Old") == [Row("a = 1", "a = 2"), Row(None, "a + 1")]
    with pytest.raises(AssertionError, match="another form"):
        rows(TABLE + "| a | `b` |\n", "Old")


@pytest.mark.parametrize(
    ("wanted", "complaint"), [({}, "nothing says"), ({"a + 1": 4}, "a \\+ 1")]
)
def test_a_value_that_is_wrong_or_that_nobody_checks_is_seen(
    wanted: dict[str, Any], complaint: str
) -> None:
    page = rows(TABLE, "Old")
    assert run_rows(page, "new", {}, [], {}, {"a + 1": 3}) == 2
    with pytest.raises(AssertionError, match=complaint):
        run_rows(page, "new", {}, [], {}, wanted)


def test_rows_for_each_step_take_turns() -> None:
    page = [Row("seen.append(reward)", None), Row("seen.append('end')", None)]
    names: dict[str, Any] = {"seen": []}
    repeated = {"seen.append(reward)": always, "seen.append('end')": at_ends}
    run_rows(page, "old", names, walks(length=2), repeated, {})
    assert names["seen"] == [1, 2, "end", 11, 12, "end"]


def test_batches_are_equal_when_their_transitions_are() -> None:
    batch = (np.array([[1, 2], [3, 4], [1, 2]]), np.array([5.0, 6, 5]))
    assert plain(batch) == plain((np.array([[3, 4], [1, 2]]), np.array([6.0, 5])))
    assert plain(batch) != plain((np.array([[3, 4], [1, 2]]), np.array([5.0, 6])))


def test_returns_stop_at_an_end() -> None:
    (found,) = transitions(walks(), 3, 0.5)
    assert found[:, 3].tolist()[2:5] == [3 + 2 + 1.25, 4 + 2.5, 5]
    assert found[:, 4].tolist()[2:5] == [5, 5, 5]
    assert found[:, 6].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert len(transitions(walks(3))[0]) == 30


def test_programs_are_found_and_one_that_fails_is_seen(tmp_path: Path) -> None:
    text = "Before:\n\n```python\nprint(1)\n```\n\nAfter:\n\n```python\nprint(x)\n```\n"
    before, after = programs(text)
    assert printed(before, tmp_path) == "1\n"
    with pytest.raises(AssertionError, match="NameError"):
        printed(after, tmp_path)
    with pytest.raises(AssertionError, match="two programs"):
        programs(text[20:])
