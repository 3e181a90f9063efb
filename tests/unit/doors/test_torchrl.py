"""TorchRL's calls, against TorchRL's own buffer and against a list of steps."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.torchrl_support import World, by_time, same, theirs

from reverie import samplers
from reverie.errors import (
    InvalidArgumentError,
    SpecError,
    StepMismatchError,
    UnsupportedError,
    WaitTimeoutError,
)

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("torchrl", reason="needs TorchRL")
pytest.importorskip("tensordict", reason="needs tensordict")
ReplayBuffer = importlib.import_module("reverie.torchrl").ReplayBuffer


@pytest.mark.parametrize("envs", [1, 3])
def test_what_is_there_and_what_is_sampled_is_what_torchrl_has(envs: int) -> None:
    world, ours, other = World(envs), ReplayBuffer(100 * envs), theirs(100 * envs)
    for steps in (7, 1, 20, 13, 60, 5, 30):  # beyond the capacity, too
        data = world.collect(steps)
        numbers = ours.extend(data)
        assert torch.equal(by_time(numbers), by_time(numbers).sort().values)
        other.extend(by_time(data))
        assert len(ours) == len(other)
        assert ours.write_count == other.write_count
    everything = other[:]
    oldest = ours.write_count - len(ours)
    place = oldest % (100 * envs)
    same(ours[:], torch.cat([everything[place:], everything[:place]]))
    found = ours.sample(1_000)
    assert set(found["index"].tolist()) <= set(range(oldest, ours.write_count))
    same(found, other[found["index"] % (100 * envs)])
    same(ours[found["index"]], found)
    same(ours[int(found["index"][0])], found[0])
    assert ours.buffer.info().broken_episodes == 0


def test_each_state_is_stored_once_across_calls() -> None:
    world, buffer = World(3), ReplayBuffer(1_000)
    data = [world.collect(steps) for steps in (5, 1, 30, 8)]
    ends = sum(int(each["next", "done"].sum()) for each in data)
    for each in data:
        buffer.extend(each)
    info = buffer.buffer.info()
    # A record for each step, and one for the first state of each episode.
    begun = int((~torch.cat(data, 1)[:, -1:]["next", "done"]).sum()) + ends
    assert info.items == 3 * 44
    assert info.steps == info.items + begun


def test_a_collector_that_cuts_an_episode_off_unsaid_loses_nothing() -> None:
    world, buffer = World(2), ReplayBuffer(1_000, n_step=3, gamma=0.5)
    first = world.collect(4)
    first["next", "done"][:] = first["next", "terminated"][:] = False
    first["next", "truncated"][:] = False
    world.state = world.state + 100  # an environment that was reset in between
    second = world.collect(4)
    buffer.extend(first)
    buffer.extend(second)
    assert buffer.buffer.info().broken_episodes == 0
    last = buffer.sample(500)
    last = last[last["index"] == 7][0]  # step 3 of environment 1
    assert int(last["steps_to_next_obs"]) == 1
    assert torch.equal(last["next", "observation"], first["next", "observation"][1, 3])


@pytest.mark.parametrize(
    ("left_out", "ended"),
    [
        ((), ("terminated", "truncated")),
        (("done", "terminated", "truncated"), ("terminated", "truncated")),
        (("done", ("next", "done")), ("terminated", "truncated")),
        (("truncated", ("next", "terminated"), ("next", "truncated")), ("done", None)),
        (("terminated", ("next", "terminated")), ("terminated", "truncated")),
    ],
)
def test_how_an_episode_ended_is_known_whatever_flags_there_are(
    left_out: Any, ended: Any
) -> None:
    data, buffer = World(3).collect(30), ReplayBuffer(100)
    wanted = by_time(data["next"])
    buffer.extend(data.exclude(*left_out))
    same(buffer[:], by_time(data.exclude(*left_out)))
    steps = buffer.buffer.steps()
    assert np.array_equal(steps.terminated, wanted[ended[0]][:, 0].numpy())
    if ended[1] is None:
        assert not steps.truncated[~steps.terminated].any()
    else:
        assert np.array_equal(steps.truncated, wanted[ended[1]][:, 0].numpy())
    assert buffer.buffer.info().broken_episodes == 0


def test_with_flags_of_agents_alone_an_episode_is_over_when_it_is_for_all() -> None:
    data, buffer = World(2).collect(12), ReplayBuffer(100)
    done = torch.rand(2, 12, 3, 1, generator=torch.Generator().manual_seed(0)) < 0.6
    data = data.exclude(
        *(key for flag in ("done", "terminated", "truncated") for key in (flag, ("next", flag)))
    )
    others = torch.rand(2, 12, 1, generator=torch.Generator().manual_seed(1)) < 0.7
    data["next", "agents", "done"], data["next", "others", "done"] = done, others
    buffer.extend(data)
    same(buffer[:], by_time(data))
    wanted = by_time(done.all(2) & others).numpy()
    assert 0 < wanted.sum() < 24
    assert np.array_equal(buffer.buffer.steps().terminated, wanted)


def n_steps_by_hand(data: Any, n: int, gamma: float) -> Iterator[tuple[int, float, int, int]]:
    """Number, return, steps, and the number of the last of them, of each step of `[N, T]`."""
    done = data["next", "done"][..., 0]
    envs, count = data.shape
    for e in range(envs):
        for t in range(count):
            total, m = 0.0, 0
            while m < n and t + m < count:
                total += gamma**m * float(data["next", "reward"][e, t + m])
                m += 1
                if done[e, t + m - 1]:
                    break
            yield t * envs + e, total, m, (t + m - 1) * envs + e


def test_returns_of_n_steps_are_those_by_hand_and_end_with_the_last_steps_flags() -> None:
    world, buffer = World(3), ReplayBuffer(1_000, n_step=3, gamma=0.9)
    data = world.collect(40)
    for part in data.split([9, 1, 30], 1):
        buffer.extend(part)
    steps = by_time(data)
    wanted = {row[0]: row[1:] for row in n_steps_by_hand(data, 3, 0.9)}
    found = buffer.sample(2_000)
    assert len(set(found["index"].tolist())) == 120
    assert found["next", "reward"].dtype == torch.float64
    for row in found:
        total, m, last = wanted[int(row["index"])]
        assert float(row["next", "reward"]) == pytest.approx(total, rel=1e-6, abs=1e-6)
        assert int(row["steps_to_next_obs"]) == m
        assert float(row["gamma"]) == pytest.approx(0.9**m)
        for key in ("observation", "done", "terminated", "truncated"):
            assert torch.equal(row["next", key], steps["next", key][last])
        assert torch.equal(row["action"], steps["action"][int(row["index"])])


def test_rows_one_at_a_time_and_flattened_are_the_same_steps() -> None:
    rows, stepwise = World(3).collect(25), World(3)
    by_add, by_row, at_once = ReplayBuffer(500), ReplayBuffer(500), ReplayBuffer(500)
    for _ in range(25):
        index = by_add.add(stepwise.step())
        assert index.shape == (3,)
    for row in rows[1]:
        assert int(by_row.add(row)) == by_row.write_count - 1
    at_once.extend(rows.reshape(-1))
    same(by_add[:], by_time(rows))
    same(by_row[:], rows[1])
    same(at_once[:], rows.reshape(-1))


def test_padding_is_left_out() -> None:
    data = World(2).collect(5)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    data["collector", "mask"] = mask
    buffer = ReplayBuffer(100)
    numbers = buffer.extend(data)
    assert numbers.tolist() == [[0, 1, 2, -1, -1], [3, 4, 5, 6, 7]]
    same(buffer[:], data[mask])


def test_weights_and_priorities_are_the_formulas() -> None:
    buffer = ReplayBuffer(8, sampler=samplers.Prioritized(0.6), beta=0.4, batch_size=4_000)
    data = World(2).collect(2)
    data["td_error"] = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    numbers = buffer.extend(data)
    sizes = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()  # by number
    assert numbers.tolist() == [[0, 2], [1, 3]]
    for _ in range(2):
        p = sizes**0.6 / (sizes**0.6).sum()
        weights = (4 * p) ** -0.4
        weights = weights / weights.max()
        found = buffer.sample()
        index = found["index"]
        assert torch.allclose(found["priority_weight"].double(), weights[index], atol=1e-6)
        share = torch.bincount(index, minlength=4) / 4_000
        assert (share - p).abs().max() < 0.05
        sizes = sizes.flip(0)
        found["td_error"] = sizes[index]
        buffer.update_tensordict_priority(found)
    with pytest.raises(InvalidArgumentError, match="wanted 'index'"):
        buffer.update_tensordict_priority(found.exclude("index"))
    with pytest.raises(InvalidArgumentError, match=r"shape \(3,\)"):
        buffer.update_priority(torch.arange(2), torch.ones(3))


def test_priorities_of_steps_that_left_change_no_other_step() -> None:
    buffer = ReplayBuffer(4, sampler=samplers.Prioritized(1.0, eps=0))
    world = World(1)
    buffer.extend(world.collect(4)[0])
    old = buffer.sample(64)
    buffer.update_priority(
        torch.tensor([-1, 4, 99]), torch.tensor(70.0)
    )  # none of them is there
    buffer.extend(world.collect(3)[0])
    buffer.update_priority(torch.arange(3), torch.tensor(70.0))
    old["td_error"] = torch.full((64,), 50.0)
    buffer.update_tensordict_priority(old)
    info = buffer.buffer.item_info()
    assert info["priority"].tolist() == [50.0, 1.0, 1.0, 1.0]  # number 3 alone is still there
    buffer.update_priority(torch.tensor([3, 5, 6]), torch.tensor([[2.0, 1.0], [7, 9], [5, 4]]))
    assert buffer.buffer.item_info()["priority"].tolist() == [2.0, 1.0, 9.0, 5.0]


def test_torchrls_schedulers_change_beta() -> None:
    buffer = ReplayBuffer(10, sampler=samplers.Prioritized(1.0), beta=0.0)
    schedulers = importlib.import_module("torchrl.data.replay_buffers.scheduler")
    scheduler = schedulers.LinearScheduler(buffer, "beta", final_value=1.0, num_steps=2)
    data = World(1).collect(2)[0]
    data["td_error"] = torch.tensor([1.0, 3.0])
    buffer.extend(data)
    lowest = []
    for _ in range(3):
        lowest.append(float(buffer.sample(200)["priority_weight"].min()))
        scheduler.step()
    assert lowest == pytest.approx([1.0, (1 / 3) ** 0.5, 1 / 3])


def test_transforms_prefetch_and_iteration_are_torchrls() -> None:
    transforms = importlib.import_module("torchrl.envs.transforms")
    double = transforms.RewardScaling(0.0, 2.0, in_keys=[("next", "reward")])
    buffer = ReplayBuffer(200, batch_size=16, prefetch=3, transform=double)
    data = World(2).collect(50)
    buffer.extend(data)
    buffer.append_transform(lambda batch: batch.set("seen", torch.ones(batch.shape)))
    steps = by_time(data)
    for count, found in enumerate(buffer):
        assert found.shape == (16,)
        assert found["seen"].all()
        rewards = steps["next", "reward"][found["index"]] * 2
        assert torch.equal(found["next", "reward"], rewards)
        if count == 20:
            break


def test_samples_that_are_drawn_ahead_while_another_thread_extends_are_whole_steps() -> None:
    world, settings = World(3), {"sampler": samplers.Prioritized(0.7), "beta": 0.4}
    parts = [world.collect(7) for _ in range(40)]
    rows = torch.cat([by_time(part) for part in parts])
    buffer = ReplayBuffer(200, batch_size=16, prefetch=3, **settings)
    buffer.extend(parts[0].clone())
    others = threading.Thread(target=lambda: [buffer.extend(p.clone()) for p in parts[1:]])
    others.start()
    count = 0
    while others.is_alive() or count < 20:
        found = buffer.sample()
        same(found.exclude("priority_weight"), rows[found["index"]])
        found["td_error"] = found["next", "reward"].abs()
        buffer.update_tensordict_priority(found)
        count += 1
    others.join()
    same(buffer[:], rows[-200:])


def test_choices_are_seeded_by_the_generator() -> None:
    data = World(1).collect(50)[0]
    found = []
    for seed in (1, 1, 2):
        buffer = ReplayBuffer(50, generator=torch.Generator().manual_seed(seed))
        buffer.extend(data.clone())
        found.append(buffer.sample(30)["index"].tolist())
    assert found[0] == found[1] != found[2]


def test_who_interrupts_an_extension_has_its_first_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, buffer = World(2), ReplayBuffer(100, sampler=samplers.Prioritized(1.0, eps=0))
    first, second, third = (world.collect(5) for _ in range(3))
    buffer.extend(first)
    add, calls = buffer.buffer.add_step, iter(range(2))

    def interrupted(*args: Any) -> int:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return int(add(*args))

    monkeypatch.setattr(buffer.buffer, "add_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        buffer.extend(second)
    monkeypatch.undo()
    numbers = buffer.extend(third)
    assert numbers.min() == 14
    same(buffer[:], torch.cat([by_time(first), by_time(second[:, :2]), by_time(third)]))
    assert torch.equal(buffer[:]["index"], torch.arange(24))
    buffer.update_priority(torch.tensor([14]), torch.tensor(9.0))
    assert buffer.buffer.item_info()["priority"].argmax() == 14


def bad(change: Any) -> Any:
    """Steps `[2, 4]` with something else in them."""
    data = World(2).collect(4)
    found = change(data)
    return data if found is None else found


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: d.exclude("action"), StepMismatchError, r"missing \[\('action',\)\]"),
        (
            lambda d: d.exclude(("next", "observation")),
            StepMismatchError,
            r"missing \[\('next', 'observation'\)\]",
        ),
        (lambda d: d.set("more", d["action"]), StepMismatchError, r"unknown \[\('more',\)\]"),
        (
            lambda d: d.set("action", d["action"].float()),
            StepMismatchError,
            r"\('action',\): found \(\) float32, wanted \(\) int64",
        ),
        (
            lambda d: d.set("observation", d["observation"][..., :2]),
            StepMismatchError,
            r"\('observation',\): found \(2,\)",
        ),
        (lambda d: d[:1], InvalidArgumentError, "steps of 1 environments, wanted 2"),
        (lambda d: d[0, 0], InvalidArgumentError, "without a batch dimension"),
        (lambda d: d.set("text", "no"), SpecError, r"\('text',\): found NonTensor"),
        (
            lambda d: d.set("action", d["action"].bfloat16()),
            SpecError,
            r"\('action',\): found torch.bfloat16",
        ),
    ],
)
def test_what_is_no_such_step_is_refused_by_name(change: Any, error: Any, words: str) -> None:
    buffer = ReplayBuffer(100)
    buffer.extend(World(2).collect(4))
    before = buffer[:].clone()
    with pytest.raises(error, match=words):
        buffer.extend(bad(change))
    same(buffer[:], before)
    assert buffer.write_count == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.exclude("next"), r"wanted one of \('next', 'done'\)"),
        (lambda d: d.set("a/b", d["action"]), "without a slash"),
        (lambda d: d.exclude(("next", "reward")), r"no \('next', 'reward'\)"),
        (lambda d: d.set(("next", "more"), d["action"]), r"\('next', 'more'\)\] within"),
    ],
)
def test_first_data_that_cannot_be_are_refused(change: Any, words: str) -> None:
    buffer = ReplayBuffer(100, n_step=2)
    with pytest.raises(InvalidArgumentError, match=words):
        buffer.extend(bad(change))
    buffer.extend(World(3).collect(4))  # what was refused has no say
    assert len(buffer) == 12


def test_what_this_buffer_cannot_do_says_so() -> None:
    buffer = ReplayBuffer(100, batch_size=4)
    with pytest.raises(WaitTimeoutError, match="nothing was added"):
        buffer.sample()
    buffer.extend(World(1).collect(4)[0])
    with pytest.raises(UnsupportedError, match="share"):
        buffer.share()
    with pytest.raises(UnsupportedError, match="cannot be written to"):
        buffer[0] = buffer[1]
    for call in (buffer.set_sampler, buffer.set_storage, buffer.set_writer):
        with pytest.raises(UnsupportedError, match="Make a new one"):
            call(None)
    with pytest.raises(InvalidArgumentError, match=r"beta: found 0\.4"):
        ReplayBuffer(100, beta=0.4)
    with pytest.raises(InvalidArgumentError, match="capacity"):
        ReplayBuffer(0)


def test_an_untested_torchrl_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrl = importlib.import_module("torchrl")
    bases = importlib.import_module("reverie.torchrl.bases")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(bases)
    monkeypatch.setattr(torchrl, "__version__", "0.99.0")
    with pytest.warns(UserWarning, match=r"tested with TorchRL 0\.13 and 0\.14; found 0\.99"):
        importlib.reload(bases)
