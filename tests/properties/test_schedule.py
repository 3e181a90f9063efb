"""Rollouts by their age: nothing is used too late, nothing is lost, nobody waits in vain."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.rollouts.schedule import Entry, Schedule


class Stuck(Exception):
    """Nobody can go on."""


def play(
    schedule: Schedule, rng: random.Random, *, versions: int, withdrawals: float = 0.0
) -> list[tuple[int, int]]:
    """Actors that take between a moment and very long, and a learner; who was used when.

    Returns:
        Of each rollout the version that began it, and the learner's when it was used.

    Raises:
        Stuck: neither an actor nor the learner can do anything.
    """
    size, groups = schedule.group_size, iter(range(10**9))
    playing: list[tuple[int, int, int]] = []  # when it is complete, version, group
    used: list[tuple[int, int]] = []
    begun: dict[int, int] = {}
    now = key = 0
    while schedule.version < versions:
        now += 1
        moved = False
        while schedule.can_admit(size) and rng.random() < 0.9:
            moved = True
            schedule.admit(size)
            group = next(groups)
            for _ in range(size):
                length = 1 if rng.random() < 0.7 else rng.randrange(2, 80)
                playing.append((now + length, schedule.version, group))
        for rollout in sorted(playing)[:]:
            due, version, group = rollout
            if due > now:
                break
            moved = True
            playing.remove(rollout)
            if size == 1 and rng.random() < withdrawals:
                assert schedule.withdraw(version, 1)
                continue
            assert schedule.arrived([version]) is not None
            key += 1
            begun[key] = version
            schedule.add([key], [version], [group])
        wanted = min(schedule.batch_size, size * rng.randrange(1, 4))
        wanted = min(wanted, schedule.batch_size - schedule.taken)
        found = schedule.take(wanted) if wanted else None
        if found is not None:
            moved = True
            for entry in found:
                used += [(begun.pop(one), schedule.version) for one in entry.keys]
        if schedule.taken >= schedule.batch_size:
            assert schedule.can_advance(schedule.version + 1)
            schedule.advance(schedule.version + 1)
            moved = True
        if not moved and not playing and not schedule.can_admit(size):
            raise Stuck
    # What is neither used nor on its way still waits.
    assert sorted(begun) == sorted(
        [k for entry in schedule.ready for k in entry.keys]
        + [k for members in schedule.open.values() for k, _ in members]
    )
    return used


def oldest(used: list[tuple[int, int]]) -> int:
    return max(at - began for began, at in used)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.integers(0, 4),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([0.0, 0.2]),
)
def test_no_batch_is_older_than_allowed(
    seed: int, batches: int, staleness: int, group: int, withdrawals: float
) -> None:
    schedule = Schedule(batches * group, staleness, group)
    used = play(schedule, random.Random(seed), versions=25, withdrawals=withdrawals)
    assert len(used) == 25 * batches * group
    assert oldest(used) <= staleness


class CountsAlone(Schedule):
    """Admission by the number submitted, and nothing else: slow ones are not waited for."""

    def _is_in_time(self, version: int, taken: int) -> bool:
        return True


class NewestFirst(Schedule):
    """Whatever came last."""

    def take(self, n: int) -> list[Entry] | None:
        for entry in self.ready:
            entry.version, entry.serial = -entry.version, -entry.serial
        self.ready.sort()
        found = super().take(n)
        for entry in [*self.ready, *(found or [])]:
            entry.version, entry.serial = abs(entry.version), abs(entry.serial)
        self.ready.sort()
        return found

    def _is_in_time(self, version: int, taken: int) -> bool:
        return True


class AdmitsAll(Schedule):
    """No admission at all."""

    def can_admit(self, n: int) -> bool:
        return sum(self.playing.values()) < 40

    def _is_in_time(self, version: int, taken: int) -> bool:
        return True


@pytest.mark.parametrize("planted", [CountsAlone, NewestFirst, AdmitsAll])
def test_a_planted_schedule_is_found_out(planted: Callable[..., Schedule]) -> None:
    ages = [
        oldest(play(planted(4, 1, 1), random.Random(seed), versions=25)) for seed in range(20)
    ]
    assert max(ages) > 1


def test_long_rollouts_are_used_as_often_as_they_were_begun() -> None:
    """Throwing away what is too old would prefer what is short."""
    rng = random.Random(5)
    schedule, kept, begun = Schedule(8, 2, 1), [0, 0], [0, 0]
    lengths: dict[int, int] = {}
    playing: list[tuple[int, int, int]] = []
    now = key = 0
    while schedule.version < 300:
        now += 1
        while schedule.can_admit(1):
            schedule.admit(1)
            key += 1
            is_long = rng.random() < 0.5
            lengths[key] = int(is_long)
            begun[is_long] += 1
            playing.append((now + (40 if is_long else 1), key, schedule.version))
        for rollout in [one for one in playing if one[0] <= now]:
            playing.remove(rollout)
            assert schedule.arrived([rollout[2]])
            schedule.add([rollout[1]], [rollout[2]], [0])
        for entry in schedule.take(8) or []:
            kept[lengths[entry.keys[0]]] += 1
        if schedule.taken == 8:
            schedule.advance(schedule.version + 1)
    # All but those that are still on their way or wait: at most what may be outstanding.
    assert sum(begun) - sum(kept) <= 24
    assert abs(kept[1] - begun[1]) <= 24


def test_who_began_a_moment_after_its_admission_uses_that() -> None:
    schedule = Schedule(2, 1)
    schedule.admit(2)
    schedule.advance(1)
    assert schedule.arrived([1]) == [0]
    assert schedule.arrived([0]) == [0]
    assert schedule.arrived([0]) is None
    schedule.return_admissions([0])
    assert schedule.withdraw(0, 1)
    assert not schedule.withdraw(0, 1)


def test_what_was_put_back_comes_first_again() -> None:
    schedule = Schedule(group_size=2)
    schedule.add([1, 2, 3], [0, 0, 0], [7, 8, 8])
    assert schedule.num_ready() == 2
    found = schedule.take(2)
    assert found is not None
    assert found[0].keys == [2, 3]
    schedule.put_back(found, 2)
    schedule.add([4], [0], [7])
    assert [entry.keys for entry in schedule.take(4) or []] == [[2, 3], [1, 4]]
    assert schedule.taken == 4
