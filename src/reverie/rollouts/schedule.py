"""Who may play, and what comes next, so that nothing is older than allowed when it is used."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class Entry:
    """What is used together: one rollout, or the whole group.

    Attributes:
        version: of the oldest policy in it.
        serial: by completion.
        keys: of its items.
        versions: of each.
    """

    version: int
    serial: int
    keys: list[int] = field(compare=False)
    versions: list[int] = field(compare=False)


@dataclass(slots=True)
class Schedule:
    """Rollouts by the policy that began them, from their admission to their use.

    Knows nothing of time, threads or data. A learner takes `batch_size` rollouts for each
    version of its policy, the oldest first. One that version `a` began is to be used before
    version `a + max_staleness + 1`; so, while `taken` were for version `v`, those of versions
    up to `a`, on their way or complete, may be at most

        (a + max_staleness - v) * batch_size + max(0, batch_size - taken)

    This is the bound of AReaL (Fu et al. 2025), which counts those submitted, for each
    version by itself: so a slow rollout cannot become too old while newer ones go first.

    Attributes:
        batch_size: rollouts that a version is trained on.
        max_staleness: versions; None: no bound, and nobody needs to be admitted.
        group_size: rollouts that are used together.
        version: of the learner's policy.
        taken: rollouts that it has had so far.
        playing: those on their way, by version.
        arriving: of those that are just being stored, whose admission they use, by version.
        open: complete ones of groups that are not, by group: (key, version).
        ready: a heap of what may be taken.
    """

    batch_size: int = 1
    max_staleness: int | None = None
    group_size: int = 1
    version: int = 0
    taken: int = 0
    playing: Counter[int] = field(default_factory=Counter)
    arriving: Counter[int] = field(default_factory=Counter)
    open: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    ready: list[Entry] = field(default_factory=list)
    _serial: int = 0

    def held(self) -> int:
        """Rollouts that are complete, and not yet taken."""
        return self.num_ready() + sum(map(len, self.open.values()))

    def num_ready(self) -> int:
        """Those that may be taken."""
        return sum(len(entry.keys) for entry in self.ready)

    def can_admit(self, n: int) -> bool:
        """Whether `n` more may be begun."""
        if self.max_staleness is None:
            return True
        outstanding = self.playing.total() + self.arriving.total() + self.held()
        left = max(0, self.batch_size - self.taken)
        return outstanding + n <= self.max_staleness * self.batch_size + left

    def admit(self, n: int) -> None:
        """They are on their way, with the newest version."""
        self.playing[self.version] += n

    def arrived(self, versions: Iterable[int]) -> list[int] | None:
        """Whose admission these use, by version; None, and nothing changed: they have none.

        They are on their way still, until `add` or `return_admissions` is told of them. It is
        that of the very version, or else of the newest one before: who was admitted may have
        begun a moment later.
        """
        left, used = Counter(self.playing), []
        for version in sorted(versions):
            found = max((v for v, n in left.items() if n and v <= version), default=None)
            if found is None:
                return None
            left[found] -= 1
            used.append(found)
        self.playing = +left
        self.arriving.update(used)
        return used

    def return_admissions(self, used: Iterable[int]) -> None:
        """What `arrived` took can be taken again."""
        used = list(used)
        self.playing.update(used)
        self._landed(used)

    def _landed(self, used: Iterable[int]) -> None:
        self.arriving.subtract(used)
        self.arriving = +self.arriving

    def withdraw(self, version: int, n: int) -> bool:
        """They will not come; False, and nothing changed: there are no such."""
        if self.playing[version] < n:
            self.playing = +self.playing
            return False
        self.playing[version] -= n
        self.playing = +self.playing
        return True

    def add(
        self,
        keys: Sequence[int],
        versions: Sequence[int],
        groups: Sequence[int],
        used: Iterable[int] = (),
    ) -> None:
        """They are complete; `used` is what `arrived` gave for them."""
        self._landed(used)
        for key, version, group in zip(keys, versions, groups, strict=True):
            members = [(key, version)]
            if self.group_size > 1:
                members = self.open.setdefault(group, [])
                members.append((key, version))
                if len(members) < self.group_size:
                    continue
                del self.open[group]
            self._serial += 1
            several, ages = [k for k, _ in members], [v for _, v in members]
            heapq.heappush(self.ready, Entry(min(ages), self._serial, several, ages))

    def take(self, n: int) -> list[Entry] | None:
        """The next entries, `n` rollouts together, of the oldest versions; None: not now.

        Either there are not so many, or with them those that are still on their way would
        become too old: then they are to be waited for.
        """
        if self.num_ready() < n:
            return None
        chosen: list[Entry] = []
        while sum(len(entry.keys) for entry in chosen) < n:
            chosen.append(heapq.heappop(self.ready))
        waits = self.playing.total() or self.arriving.total() or self.open
        if waits and not self._is_in_time(self.version, self.taken + n):
            self.put_back(chosen)
            return None
        self.taken += n
        return chosen

    def put_back(self, chosen: Iterable[Entry], taken: int = 0) -> None:
        """They were not used after all; `taken` of them were counted."""
        for entry in chosen:
            heapq.heappush(self.ready, entry)
        self.taken -= taken

    def can_advance(self, version: int) -> bool:
        """Whether nothing would be too old with this version."""
        return self.max_staleness is None or self._is_in_time(version, 0)

    def advance(self, version: int) -> None:
        """The learner's policy is that version now."""
        if version != self.version:
            self.version, self.taken = version, 0

    def drop_group(self, group: int) -> list[int]:
        """The keys of an incomplete group, which is no more."""
        return [key for key, _ in self.open.pop(group, [])]

    def clear(self) -> None:
        """Nothing is complete; those on their way still are."""
        self.open.clear()
        self.ready.clear()
        self.taken = 0

    def _is_in_time(self, version: int, taken: int) -> bool:
        if self.max_staleness is None:
            return True
        left = max(0, self.batch_size - taken)
        ages = self.playing + self.arriving
        for entry in self.ready:
            ages.update(entry.versions)
        for members in self.open.values():
            ages.update(v for _, v in members)
        total = 0
        for age in sorted(ages):
            total += ages[age]
            if total > max(0, age + self.max_staleness - version) * self.batch_size + left:
                return False
            if age + self.max_staleness < version and ages[age]:
                return False
        return True
