"""Rollouts by their age: nothing is used too late, nothing is lost, nobody waits in vain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

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
    storing: list[tuple[int, int, list[int]]] = []  # version, group, its admission
    used: list[tuple[int, int]] = []
    begun: dict[int, int] = {}
    now = key = 0
    while schedule.version < versions:
        now += 1
        moved = False
        if now > 100_000:
            raise Stuck
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
            admission = schedule.arrived([version])
            assert admission is not None
            storing.append((version, group, admission))
        if rng.random() < 0.7:  # it takes a while
            for version, group, admission in storing:
                moved = True
                key += 1
                begun[key] = version
                schedule.add([key], [version], [group], admission)
            storing.clear()
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
        if not moved and not playing and not storing and not schedule.can_admit(size):
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


class OverlooksWhatIsBeingStored(Schedule):
    """It is neither on its way nor complete, and counts nowhere."""

    def arrived(self, versions: Iterable[int]) -> list[int] | None:
        used = super().arrived(versions)
        self.arriving.clear()
        return used


def test_what_is_being_stored_counts() -> None:
    found = 0
    for seed in range(20):
        try:
            used = play(OverlooksWhatIsBeingStored(4, 1, 1), random.Random(seed), versions=25)
            found += oldest(used) > 1
        except (AssertionError, Stuck):  # more wait than the next version may leave behind
            found += 1
    assert found > 10


@pytest.mark.parametrize("planted", [CountsAlone, NewestFirst, AdmitsAll])
def test_a_planted_schedule_is_found_out(planted: Callable[..., Schedule]) -> None:
    ages = [
        oldest(play(planted(4, 1, 1), random.Random(seed), versions=25)) for seed in range(20)
    ]
    assert max(ages) > 1


class AdmitsOneMore(Schedule):
    """The bound of admissions, read as "less or equal"."""

    def can_admit(self, n: int) -> bool:
        return super().can_admit(n - 1)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("staleness", [0, 1, 4])
def test_who_is_admitted_is_so_by_the_rule_of_areal(batch: int, staleness: int) -> None:
    """floor((submitted - 1) / B) <= version + staleness, where each version takes B."""

    def look(schedule: Schedule) -> None:
        submitted = 0
        rng = random.Random(batch)
        while schedule.version < 12:
            may = submitted // batch <= schedule.version + staleness  # of the next one
            assert schedule.can_admit(1) == may
            if may and rng.random() < 0.9:
                schedule.admit(1)
                submitted += 1
                used = schedule.arrived([schedule.version])
                schedule.add([submitted], [schedule.version], [0], used or ())
            if rng.random() < 0.2 and schedule.taken < batch:
                schedule.take(1)
            if schedule.taken == batch:
                schedule.advance(schedule.version + 1)

    look(Schedule(batch, staleness))
    for planted in (AdmitsOneMore(batch, staleness), Schedule(batch, staleness + 1)):
        with pytest.raises(AssertionError):
            look(planted)


class Discards(Schedule):
    """Everybody may begin; what is too old when it comes is thrown away."""

    def can_admit(self, n: int) -> bool:
        return self.playing.total() + self.held() + n <= 40

    def _is_in_time(self, version: int, taken: int) -> bool:
        return True

    def take(self, n: int) -> list[Entry] | None:
        assert self.max_staleness is not None
        self.ready = [e for e in self.ready if self.version - e.version <= self.max_staleness]
        return super().take(n)


def uses(schedule: Schedule) -> tuple[list[int], list[int]]:
    """How many short and long rollouts were begun, and used."""
    rng = random.Random(5)
    kept, begun = [0, 0], [0, 0]
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
            used = schedule.arrived([rollout[2]])
            assert used is not None
            schedule.add([rollout[1]], [rollout[2]], [0], used)
        for entry in schedule.take(8) or []:
            kept[lengths[entry.keys[0]]] += 1
        if schedule.taken == 8:
            schedule.advance(schedule.version + 1)
    return begun, kept


def test_long_rollouts_are_used_as_often_as_they_were_begun() -> None:
    """Throwing away what is too old would prefer what is short."""
    begun, kept = uses(Schedule(8, 2, 1))
    # All but those that are still on their way or wait: at most what may be outstanding.
    assert sum(begun) - sum(kept) <= 24
    assert abs(kept[1] - begun[1]) <= 24
    begun, kept = uses(Discards(8, 2, 1))
    assert begun[1] - kept[1] > 24
    assert kept[1] / begun[1] < 0.5 < kept[0] / begun[0]


def latest(schedule: Schedule) -> int:
    """How many others were used at most between a group's completion and its use."""
    done: dict[int, int] = {}
    used = longest = key = 0
    for group in range(60):
        for _ in range(2):
            key += 1
            schedule.add([key], [0], [group])
        done[key] = used
        if group >= 10:  # ten wait, all the time
            (entry,) = schedule.take(2) or []
            longest = max(longest, used - done.pop(max(entry.keys)))
            used += 1
    return max(longest, *(used - since for since in done.values()))


def test_no_group_starves() -> None:
    assert latest(Schedule(group_size=2)) == 10
    assert latest(NewestFirst(group_size=2)) > 40


class Splits(Schedule):
    """Each answer as soon as it comes, whoever belongs to it."""

    def add(self, keys: Sequence[int], versions: Sequence[int], groups: Sequence[int]) -> None:
        Schedule.add(alone := Schedule(), keys, versions, groups)
        for entry in alone.ready:
            self._serial += 1
            self.ready.append(Entry(entry.version, self._serial, entry.keys, entry.versions))


def test_groups_are_whole_whatever_comes_between() -> None:
    def look(schedule: Schedule) -> None:
        rng = random.Random(1)
        answers = [(3 * group + k, group) for group in range(40) for k in range(3)]
        rng.shuffle(answers)
        seen: list[int] = []
        for key, group in answers:
            schedule.add([key], [0], [group])
            for entry in schedule.take(3) or []:
                assert len({one // 3 for one in entry.keys}) == 1
                assert len(entry.keys) == 3
                seen += entry.keys
        assert sorted(seen) == list(range(120))

    look(Schedule(group_size=3))
    with pytest.raises(AssertionError):
        look(Splits(group_size=3))


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
