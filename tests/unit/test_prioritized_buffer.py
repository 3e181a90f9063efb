"""Prioritized replay through the buffer: weights, new priorities, sequences, stale keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.errors import InvalidArgumentError
from reverie.samplers import Prioritized
from reverie.views import Episodes, Sequences, Transitions

SPEC = {
    "observation": reverie.ArraySpec((), np.float32),
    "action": reverie.ArraySpec((), np.int64),
    "reward": reverie.ArraySpec((), np.float32),
}
# p = (1, 2, 3, 4); Schaul et al. 2016: P(i) = p^alpha / sum, w = (N P)^-beta / max w.
CASES = [
    (1.0, 1.0, (0.1, 0.2, 0.3, 0.4), (1, 0.5, 1 / 3, 0.25)),
    (
        *(0.6, 0.4, (0.148230, 0.224674, 0.286555, 0.340542)),
        (1, 0.846745, 0.768229, 0.716978),
    ),
]


def filled(
    count: int, capacity: int = 100, alpha: float = 1.0, **settings: Any
) -> reverie.ReplayBuffer:
    """A buffer of one episode, so many steps long; the action tells the step."""
    sampler = settings.pop("sampler", Prioritized(alpha, eps=0))
    buffer = reverie.ReplayBuffer(SPEC, capacity, sampler=sampler, seed=1, **settings)
    for t in range(count):
        buffer.add(t, t, 1.0, t + 1, False, False)
    return buffer


def of_step(batch: reverie.Batch, values: Any) -> dict[int, float]:
    """A value by the step that it is of."""
    return dict(zip(np.ravel(batch.action).tolist(), np.ravel(values).tolist(), strict=True))


@pytest.mark.parametrize(("alpha", "beta", "chances", "weights"), CASES)
@pytest.mark.parametrize("view", [Transitions(), Transitions(3, 0.9)], ids=repr)
def test_chances_and_weights_are_the_papers(
    alpha: float, beta: float, chances: Any, weights: Any, view: Any
) -> None:
    buffer = filled(4, alpha=alpha, view=view)
    keys = buffer.steps().key
    assert buffer.update_priorities(keys, [1.0, 2.0, 3.0, 4.0]) == 0
    batch = buffer.sample(400, beta=beta)
    assert batch.weight.dtype == np.float32
    found, chance = of_step(batch, batch.weight), of_step(batch, batch.probability)
    assert sorted(found) == [0, 1, 2, 3]
    for t in range(4):
        assert chance[t] == pytest.approx(chances[t], abs=1e-6)
        assert found[t] == pytest.approx(weights[t], abs=1e-6)
    raw = buffer.sample(400, beta=beta, normalize=None)
    assert of_step(raw, raw.weight)[3] == pytest.approx((4 * chances[3]) ** -beta, rel=1e-5)


def test_a_batchs_own_largest_weight_is_one_if_asked() -> None:
    buffer = filled(4)
    keys = buffer.steps().key
    buffer.update_priorities(keys, [1e-9, 2.0, 3.0, 4.0])  # the rarest is in no batch
    batch = buffer.sample(50, beta=1.0, normalize="batch")
    assert batch.weight.max() == 1
    assert buffer.sample(50, beta=1.0).weight.max() < 1e-8


def test_new_steps_get_the_largest_priority_and_it_falls_when_the_largest_leaves() -> None:
    buffer = filled(3, capacity=4)
    keys = buffer.steps().key
    assert buffer.item_info()["priority"].tolist() == [1, 1, 1]
    buffer.update_priorities(keys, [7.0, 0.5, 0.25])
    buffer.add(3, 3, 1.0, 4, False, False)
    assert buffer.item_info()["priority"].tolist() == [7, 0.5, 0.25, 7]
    buffer.update_priorities(buffer.steps().key[-1:], [2.0])
    for t in (4, 5):  # the 7 leaves with the first of these
        buffer.add(t, t, 1.0, t + 1, False, False)
    assert buffer.item_info()["priority"].tolist() == [0.25, 2, 7, 7]


def test_steps_beside_who_adds_have_their_own_priorities() -> None:
    buffer = filled(3, capacity=3)
    buffer.update_priorities(buffer.steps().key, [1.0, 2.0, 3.0])
    core = buffer._core

    class Late:
        """A step comes, and the oldest leaves, before the items are asked for."""

        def __getattr__(self, name: str) -> Any:
            if name == "items":
                buffer.add(3, 3, 1.0, 4, False, False)
                buffer.add(4, 4, 1.0, 5, False, False)
            return getattr(core, name)

    buffer._core = Late()  # type: ignore[assignment]
    batch = buffer.steps()
    assert batch.action.tolist() == [0, 1, 2]
    assert batch.info.priority.tolist() == [0, 0, 3]
    assert [len(field) for field in batch.info] == [3] * 5


def test_an_initial_number_and_eps_are_what_they_say() -> None:
    buffer = filled(2, sampler=Prioritized(0.6, initial=3.0, eps=0.5))
    assert buffer.item_info()["priority"].tolist() == [3, 3]
    buffer.update_priorities(buffer.steps().key, [0.0, 1.0])
    assert buffer.item_info()["priority"].tolist() == [0.5, 1.5]


def test_sequences_take_errors_of_each_step_and_their_mask() -> None:
    buffer = filled(7, view=Sequences(3, stride=3))
    buffer.add(7, 7, 1.0, 8, True, False)
    steps = buffer.steps()
    errors = np.array([[1, 2, 5], [0, 0, 0], [4, 2, 9]], np.float32)
    assert steps.mask.tolist() == [[True] * 3, [True] * 3, [True, True, False]]
    buffer.update_priorities(steps.key, errors, mask=steps.mask)
    wanted = [0.9 * 5 + 0.1 * 8 / 3, 0, 0.9 * 4 + 0.1 * 3]
    assert buffer.item_info()["priority"].tolist() == pytest.approx(wanted)
    assert wanted[0] == pytest.approx(4.766667)


def test_several_batches_may_be_in_flight_and_stale_keys_are_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    buffer = filled(6, capacity=3)
    first, second = buffer.sample(8), buffer.sample(8)
    assert buffer.update_priorities(second.key, np.full(8, 2.0)) == 0
    assert buffer.update_priorities(first.key, np.full(8, 3.0)) == 0
    for t in range(6, 9):
        buffer.add(t, t, 1.0, t + 1, False, False)
    assert not caplog.records
    for _ in range(2):
        assert buffer.update_priorities(first.key, np.full(8, 3.0)) == 8
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["update_priorities()"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda b, k: b.update_priorities(k, [1.0, np.nan, 1.0]), "nan"),
        (lambda b, k: b.update_priorities(k, [1.0, -1.0, 1.0]), "-1"),
        (lambda b, k: b.update_priorities(k, [1.0, 2.0]), "2"),
        (lambda b, k: b.update_priorities(k, [1.0, np.inf, 1.0]), "inf"),
        (lambda b, k: b.update_priorities(k, [1.0, 1, 1], mask=np.ones((3, 1), bool)), "mask"),
        (lambda b, k: b.sample(2, beta=-1.0), "beta"),
        (lambda b, k: b.sample(2, beta=0.5, normalize="best"), "normalize"),
    ],
)
def test_wrong_priorities_change_nothing(wrong: Any, message: str) -> None:
    buffer = filled(3)
    before = buffer.item_info()["priority"].tolist()
    with pytest.raises((InvalidArgumentError, TypeError), match=message):
        wrong(buffer, buffer.steps().key)
    assert buffer.item_info()["priority"].tolist() == before


def test_who_has_no_priorities_is_told_which_sampler_has() -> None:
    buffer = filled(3, sampler=reverie.samplers.Uniform())
    with pytest.raises(InvalidArgumentError, match=r"beta: .*samplers\.Prioritized\(\)"):
        buffer.sample(2, beta=0.4)
    with pytest.raises(InvalidArgumentError, match=r"update_priorities.*samplers\.Prioritized"):
        buffer.update_priorities(buffer.steps().key, [1.0, 1, 1])
    with pytest.raises(AttributeError, match=r"sample\(batch_size, beta="):
        _ = buffer.sample(2).weight


def test_episodes_are_drawn_by_priority_too() -> None:
    buffer = reverie.ReplayBuffer(SPEC, 9, sampler=Prioritized(eps=0), view=Episodes(), seed=0)
    for n in (1, 3):
        for t in range(n):
            buffer.add(t, n, 1.0, t + 1, t == n - 1, False)
    buffer.update_priorities(buffer.steps().key, [1.0, 0.0])
    batch = buffer.sample(20, beta=0.5)
    assert set(batch.action[:, 0].tolist()) == {1}
    assert (batch.weight == 1).all()


def test_a_manager_gives_weights_too(tmp_path: Path) -> None:
    with reverie.ReplayBufferManager(
        {"x": reverie.ArraySpec((), np.int64)}, 9, tmp_path, 1, sampler=Prioritized(1.0)
    ) as manager:
        buffer, observer = manager.create_replay_buffer()
        for i in range(4):
            observer({"x": i})
        keys = buffer.item_info()["key"]
        buffer.update_priorities(keys, [1.0, 2.0, 3.0, 4.0])
        batch = buffer.sample(300, beta=1.0)
        found = dict(zip(batch.data["x"][:, 0].tolist(), batch.weight.tolist(), strict=True))
        assert found == pytest.approx({0: 1, 1: 0.5, 2: 1 / 3, 3: 0.25}, abs=1e-6)


def test_priorities_and_what_new_steps_get_are_saved(tmp_path: Path) -> None:
    buffer = filled(3, sampler=Prioritized(0.6, eps=0.25))
    buffer.update_priorities(buffer.steps().key, [5.0, 1.0, 0.0])
    buffer.save(path=tmp_path)
    again = reverie.open(tmp_path)
    assert again.table.settings.sampler == Prioritized(0.6, eps=0.25)
    again.add(9, 9, 1.0, 10, False, False)
    assert again.item_info()["priority"].tolist() == [5.25, 1.25, 0.25, 5.25]


def test_a_managers_batches_have_weights_too(tmp_path: Path) -> None:
    spec = {"x": reverie.ArraySpec((), np.float32)}
    manager = reverie.ReplayBufferManager(
        spec, 10, tmp_path, 1, sampler=reverie.samplers.Prioritized(1.0)
    )
    buffer, observer = manager.create_replay_buffer()
    for value in range(4):
        observer({"x": np.float32(value)})
    keys = buffer.item_info()["key"]
    manager.update_priorities(keys, [1.0, 2.0, 3.0, 4.0])
    data, info = batch = manager.sample(40, beta=0.5)
    chances = (data["x"][:, 0] + 1) / 10
    np.testing.assert_allclose(info.probability, chances)
    np.testing.assert_allclose(batch.weight, (0.1 / chances) ** 0.5, rtol=1e-6)
    raw = manager.sample(40, beta=0.5, normalize=None)
    np.testing.assert_allclose(raw.weight, (4 * raw.probability) ** -0.5, rtol=1e-6)
    manager.close()
    uniform = reverie.ReplayBufferManager(spec, 10, tmp_path / "u", 1)
    uniform.create_replay_buffer()[1]({"x": np.float32(1)})
    with pytest.raises(InvalidArgumentError, match="beta: found the sampler"):
        uniform.sample(1, beta=0.5)
    uniform.close()
