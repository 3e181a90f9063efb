"""How many batches a call brings, by a clock of the test's own."""

from __future__ import annotations

import time

import pytest

from reverie.runtime.pace import Pace


class Clock:
    """Seconds that pass only when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def after(least: int, most: int, *calls: tuple[float, ...]) -> list[int]:
    """Batches of each next call, after calls of seconds waited, worked, and waited within."""
    clock, work = Clock(), Clock()
    pace = Pace(least, most, clock, work)
    found = []
    for waited_s, worked_s, *within_s in calls:
        asked_s = clock.now
        clock.now += waited_s
        pace.begin(asked_s)
        clock.now += worked_s + sum(within_s)
        work.now += worked_s
        pace.end()
        found.append(pace.batches)
    return found


DEAR, CHEAP = (0.005, 0.0002), (0.00001, 0.0002)


def test_calls_that_wait_long_bring_twice_as_many_up_to_the_most() -> None:
    assert after(4, 32, *[DEAR] * 5) == [8, 16, 32, 32, 32]
    assert after(1, 5, *[DEAR] * 4) == [2, 4, 5, 5]


def test_calls_that_do_not_wait_bring_half_as_many_down_to_the_least() -> None:
    assert after(4, 32, *[DEAR] * 3, *[CHEAP] * 4) == [8, 16, 32, 16, 8, 4, 4]


@pytest.mark.parametrize("most", [4, 3, 0])
def test_nothing_grows_above_what_is_allowed(most: int) -> None:
    assert after(4, most, *[DEAR] * 3) == [4, 4, 4]


def test_a_wait_in_proportion_to_the_work_changes_nothing() -> None:
    assert after(4, 32, DEAR, (0.005, 0.005), (0.005, 0.005)) == [8, 8, 8]


def test_a_wait_within_a_call_is_one_too() -> None:
    assert after(4, 32, (0.00001, 0.0002, 0.005), (0.0, 0.003, 0.02)) == [8, 16]


def test_work_is_what_this_thread_did() -> None:
    pace = Pace(1, 8)
    for _ in range(3):
        pace.begin(time.time())
        time.sleep(0.01)
        pace.end()
    assert pace.batches == 8


def test_a_clock_that_was_set_back_is_no_wait() -> None:
    assert after(4, 32, (-3600.0, 0.0002), (0.00001, -3600.0)) == [4, 4]
