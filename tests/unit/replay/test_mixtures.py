"""Several buffers in one batch, with exact counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer, mixtures
from reverie.errors import ClosedError, InvalidArgumentError, WaitTimeoutError
from reverie.samplers import Prioritized
from reverie.views import Episodes, Sequences, Transitions
from reverie.weights import LinearSchedule

SPEC = {
    "observation": {"x": ArraySpec((2,), np.float32)},
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}


def filled(first: int, steps: int = 30, spec: Any = SPEC, **settings: Any) -> ReplayBuffer:
    """Steps numbered from `first`, in observation and action."""
    buffer = ReplayBuffer(spec, 1000, seed=first, **settings)
    for k in range(first, first + steps):
        now, after = ({"x": np.full(2, k + i, np.float32)} for i in (0, 1))
        buffer.add(now, k, 0.0, after, k % 10 == 9, False)
    return buffer


def two(**settings: Any) -> dict[str, ReplayBuffer]:
    return {"online": filled(1000, **settings), "offline": filled(2000, **settings)}


@pytest.mark.parametrize(
    ("size", "fractions", "counts"),
    [
        (256, None, [128, 128]),
        (255, {"online": 0.5}, [127, 128]),
        (255, {"offline": 0.5}, [127, 128]),
        (100, {"online": 0.25}, [25, 75]),
        (10, {"online": 0.3, "offline": 0.7}, [3, 7]),
        (1, {"online": 0.5}, [0, 1]),
        (7, {"online": 1.0}, [7, 0]),
        (7, {"online": 0}, [0, 7]),
    ],
)
def test_counts_are_exact(size: int, fractions: Any, counts: list[int]) -> None:
    mixture = reverie.mix(two(), fractions)
    assert list(mixture.counts(size).values()) == counts
    for _ in range(5):
        batch = mixture.sample(size)
        assert np.bincount(batch.source, minlength=2).tolist() == counts
        # Each row is of the buffer that it says.
        assert (batch.action // 1000 - 1 == batch.source).all()
        assert (batch.observation["x"][:, 0] == batch.action).all()
        assert (batch.next_observation["x"][:, 0] == batch.action + 1).all()
        assert (batch.weight == 1).all()


@pytest.mark.parametrize("parts", [3, 7, 10])
def test_counts_of_many_add_up(parts: int) -> None:
    buffers = {str(k): filled(1000 * (k + 1)) for k in range(parts)}
    mixture = reverie.mix(buffers)
    for size in range(1, 60):
        counts = list(mixture.counts(size).values())
        assert sum(counts) == size
        assert max(counts) - min(counts) <= 1


def test_a_schedule() -> None:
    mixture = reverie.mix(two(), {"online": LinearSchedule(0.0, 1.0, 10)})
    found = [mixture.counts(100, step=step)["online"] for step in (0, 3, 5, 10, 99)]
    assert found == [0, 30, 50, 100, 100]
    batch = mixture.sample(10, step=4)
    assert np.bincount(batch.source).tolist() == [4, 6]


def test_weights_and_priorities_are_each_buffers_own() -> None:
    buffers = {
        "plain": filled(1000),
        "one": filled(2000, sampler=Prioritized(1.0, eps=0.0)),
        "two": filled(3000, sampler=Prioritized(1.0, eps=0.0)),
    }
    mixture = reverie.mix(buffers)
    batch = mixture.sample(300, beta=1.0)
    assert (batch.weight == 1).all()
    # Keys of different buffers may be the same: each goes to its own.
    stale = mixture.update_priorities(batch, np.where(batch.source == 2, 8.0, 2.0))
    assert stale == 0
    assert set(buffers["one"].sample(200).info.priority.tolist()) <= {2.0, 1.0}
    assert 8.0 in buffers["two"].sample(200).info.priority
    assert 8.0 not in buffers["one"].sample(200).info.priority
    again = mixture.sample(300, beta=1.0)
    assert (again.weight[again.source == 0] == 1).all()
    assert again.weight[again.source == 2].min() < 0.2


def test_sequences_and_another_view() -> None:
    mixture = reverie.mix(two(view=Sequences(4, stride=1)))
    assert mixture.sample(9).mask.shape == (9, 4)
    assert mixture.sample(9, view=Transitions(3)).n_steps.shape == (9,)


def test_what_is_said_of_it() -> None:
    buffers = two()
    mixture = reverie.mix(buffers, {"online": 0.25})
    assert repr(mixture) == "Mixture(online: 0.25 of 30 steps, offline: 0.75 of 30 steps)"
    assert len(mixture) == 60
    with pytest.raises(AttributeError, match="of one buffer"):
        _ = buffers["online"].sample(1).source


@pytest.mark.parametrize(
    ("fractions", "words"),
    [
        ({"online": 0.5, "offline": 0.6}, "add up to 1.1"),
        ({"online": 0.5, "offline": 0.4}, "add up to 0.9"),
        ({"online": 1.5}, "wanted 0 to 1"),
        ({"online": -0.1}, "wanted 0 to 1"),
        ({"online": float("nan")}, "wanted 0 to 1"),
        ({"onlin": 0.5}, "names of the buffers"),
        ({}, "found none for"),
        ({"online": lambda step: 2.0}, "wanted 0 to 1"),
    ],
)
def test_fractions_that_do_not_add_up_are_refused(fractions: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        reverie.mix(two(), fractions)


def test_buffers_that_do_not_fit_are_refused(tmp_path: Any) -> None:
    odd = {**SPEC, "reward": ArraySpec((), np.float64)}
    more = {**SPEC, "task": ArraySpec((), np.int32)}
    manager = reverie.ReplayBufferManager(SPEC, 10, tmp_path, 2)
    for wrong, words in (
        (filled(2000, spec=odd), "'reward': .*float64.*float32"),
        (filled(2000, 0, spec=more), "task"),
        (filled(2000, view=Transitions(3)), "found the view"),
        (filled(2000, view=Episodes()), "as long as its longest"),
        (manager.create_replay_buffer()[0], "with a view"),
        (3, "wanted a reverie.ReplayBuffer"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            reverie.mix({"a": filled(1000), "b": wrong})  # type: ignore[dict-item]
    for nothing in ({}, [filled(1)]):
        with pytest.raises(InvalidArgumentError, match="wanted a dict"):
            reverie.mix(nothing)  # type: ignore[arg-type]
    manager.close()


def test_an_empty_buffer_is_named() -> None:
    buffers = {"online": filled(1000, 0), "offline": filled(2000)}
    with pytest.raises(WaitTimeoutError, match=r"'online' .* gives 5 of 10: .*is empty"):
        reverie.mix(buffers).sample(10)
    assert reverie.mix(buffers, {"online": 0.0}).sample(10).source.tolist() == [1] * 10
    buffers["offline"].close()
    with pytest.raises(ClosedError):
        reverie.mix(buffers, {"online": 0.0}).sample(10)


def test_updates_that_mean_nothing_are_refused() -> None:
    mixture = reverie.mix(two())
    batch = mixture.sample(4)
    with pytest.raises(InvalidArgumentError, match="no buffer of this mixture"):
        mixture.update_priorities(batch, np.ones(4))
    with pytest.raises(InvalidArgumentError, match="found 3, wanted one for each of 4"):
        mixture.update_priorities(batch, np.ones(3))
    one = mixture.buffers["online"].sample(4)
    with pytest.raises(InvalidArgumentError, match="single buffer"):
        mixture.update_priorities(one, np.ones(4))


# Planted faults.


def by_chance(size: int, share: float, rng: Any) -> list[int]:
    online = int((rng.random(size) < share).sum())
    return [online, size - online]


def each_rounded(size: int, share: float, rng: Any) -> list[int]:
    return [round(size * share + 0.01), round(size * (1 - share) + 0.01)]


def one_at_least(size: int, share: float, rng: Any) -> list[int]:
    online = max(1, int(size * share))
    return [online, size - online]


def exact(size: int, share: float, rng: Any) -> list[int]:
    return list(reverie.mix(two(), {"online": share}).counts(size).values())


def look_at_counts(counts: Any) -> None:
    rng = np.random.default_rng(0)
    wanted = {(255, 0.5): [127, 128], (100, 0.25): [25, 75], (8, 0.0): [0, 8]}
    assert {each: counts(*each, rng) for each in wanted} == wanted


def test_counts_that_are_not_exact_are_seen() -> None:
    look_at_counts(exact)
    for planted in (by_chance, each_rounded, one_at_least):
        with pytest.raises(AssertionError):
            look_at_counts(planted)


def test_a_source_of_fewer_items_gives_its_share_all_the_same() -> None:
    buffers = {"online": filled(1000, 3), "offline": filled(2000)}

    def look(batch: reverie.Batch) -> None:
        assert np.bincount(batch.source).tolist() == [50, 50]
        assert len(batch.action) == 100

    look(reverie.mix(buffers).sample(100))

    class AsManyAsThereAre(reverie.Mixture):
        def counts(self, *arguments: Any) -> dict[str, int]:
            found = super().counts(*arguments)
            return {name: min(n, len(self.buffers[name])) for name, n in found.items()}

    with pytest.raises(AssertionError):
        look(AsManyAsThereAre(buffers).sample(100))


def test_columns_that_only_nearly_fit_are_not_cast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unseen, float32 beside float64 would be float64, and every update another program."""
    double = {**SPEC, "observation": {"x": ArraySpec((2,), np.float64)}}
    buffers = {"a": filled(1000), "b": filled(2000, spec=double)}

    def look() -> None:
        with pytest.raises(InvalidArgumentError, match=r"observation.*float64.*float32"):
            reverie.mix(buffers)

    look()
    monkeypatch.setattr(mixtures, "_check_fits", lambda *_: None)
    with pytest.raises(pytest.fail.Exception):
        look()
    assert reverie.mix(buffers).sample(4).observation["x"].dtype == np.float64


def test_priorities_go_to_the_buffer_that_gave_the_item() -> None:
    class ToTheFirst(reverie.Mixture):
        """Keys look alike: of both buffers they begin with the same numbers."""

        def update_priorities(self, batch: Any, priorities: Any, **settings: Any) -> int:
            return next(iter(self.buffers.values())).update_priorities(batch.key, priorities)

    def look(kind: Any) -> None:
        mixture = kind(two(sampler=Prioritized(1.0, eps=0.0)))
        batch = mixture.sample(2_000)
        mixture.update_priorities(batch, batch.action)  # each step its own number
        for buffer in mixture.buffers.values():
            steps = buffer.steps()
            np.testing.assert_array_equal(steps.info.priority, steps.action)

    look(reverie.Mixture)
    with pytest.raises(AssertionError):
        look(ToTheFirst)
