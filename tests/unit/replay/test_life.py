"""A buffer's life: closing, forks, threads that add and sample at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.errors import ClosedError, ForkedProcessError, WaitTimeoutError

SPEC = {"observation": np.zeros(64, np.int64), "action": np.int64(0), "reward": np.float32(0)}
N = 4


def obs(env: int, at: int) -> Any:
    """A state whose every number says where it is."""
    return np.full(64, env * 1_000_000 + at, np.int64)


def add(buffer: reverie.ReplayBuffer, env: int, at: int, last: bool = False) -> int:
    return buffer.add(
        obs(env, at)[None],
        [env * 1_000_000 + at],
        [at % 100],
        obs(env, at + 1)[None],
        [last],
        [False],
        env_ids=[env],
    )


def made(**settings: Any) -> reverie.ReplayBuffer:
    return reverie.ReplayBuffer(SPEC, 500, num_envs=N, **settings)


USES: dict[str, Callable[[reverie.ReplayBuffer], Any]] = {
    "add": lambda buffer: add(buffer, 0, 1),
    "add_step": lambda buffer: buffer.add_step(
        {"observation": obs(0, 0), "action": 1, "reward": 1}, {"observation": obs(0, 1)}
    ),
    "add_episode": lambda buffer: buffer.add_episode(
        {"observation": np.zeros((2, 64)), "action": [1], "reward": [1.0]}
    ),
    "add_episodes": lambda buffer: buffer.add_episodes([]),
    "sample": lambda buffer: buffer.sample(1),
    "steps": lambda buffer: buffer.steps(),
    "len": len,
    "info": lambda buffer: buffer.info(),
    "clear": lambda buffer: buffer.clear(),
    "save": lambda buffer: buffer.save(path="/nowhere"),
    "update": lambda buffer: buffer.update([1], {"value": [1.0]}),
    "update_priorities": lambda buffer: buffer.update_priorities([1], [1.0]),
}


@pytest.mark.parametrize("was_used", [False, True])
@pytest.mark.parametrize("use", USES)
def test_a_closed_buffer_says_so(use: str, was_used: bool) -> None:
    with made() as buffer:
        assert buffer is buffer.__enter__()
        if was_used:
            add(buffer, 0, 0)
    buffer.close()  # once more is no harm
    with pytest.raises(ClosedError, match=r"The replay buffer is closed\. Make a new"):
        USES[use](buffer)
    assert "closed" in repr(buffer)


def test_an_error_within_closes_it_too() -> None:
    buffer = made()
    with pytest.raises(KeyError), buffer:
        raise KeyError("user's")
    with pytest.raises(ClosedError):
        len(buffer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("was_used", [False, True])
def test_a_forked_child_is_refused_even_while_another_thread_adds(was_used: bool) -> None:
    buffer = made()
    if was_used:
        add(buffer, 0, 0)
    with buffer._adding:  # as a thread would hold it that the child has not
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for use in USES.values():
                    try:
                        use(buffer)
                    except ForkedProcessError:
                        continue
                    break
                else:
                    code = 0
            finally:
                os._exit(code)
    end = time.monotonic() + 10
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if found == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert found == (child, 0)
    assert add(buffer, 1, 0) == 1  # the parent's goes on
    buffer.close()


@pytest.mark.parametrize(
    "view", [reverie.views.Transitions(3, 0.5), reverie.views.Sequences(4)]
)
@pytest.mark.parametrize("clears", [False, True])
def test_what_several_threads_add_is_never_torn(view: Any, clears: bool) -> None:
    buffer = made(view=view, timeout=5)
    end = time.monotonic() + 1.5
    errors: list[BaseException] = []
    added = [0] * N

    def adds(env: int) -> None:
        try:
            while time.monotonic() < end or added[env] <= 20:  # locks need not be fair
                at = added[env]
                assert add(buffer, env, at, last=at % 7 == 6) == 1
                added[env] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=adds, args=(env,)) for env in range(N)]
    for thread in threads:
        thread.start()
    batches = 0
    while time.monotonic() < end:
        try:
            look(buffer.sample(64, timeout=0.2 if clears else 5), view)
        except WaitTimeoutError:  # cleared, and then nobody's turn, or nobody left to add
            assert clears
            continue
        batches += 1
        if clears and batches % 5 == 0:
            buffer.clear()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
    assert batches > 3
    assert buffer.info().broken_episodes == 0
    look(buffer.steps(), view)


def look(batch: reverie.Batch, view: Any) -> None:
    """That each row is of one environment and one episode, whole."""
    data = batch.data
    if isinstance(view, reverie.views.Sequences):
        mask, where = data["mask"], data["observation"]
        first = where[:, 0, 0]
        whole = (first[:, None] + np.arange(4))[:, :, None]
        assert (where == whole)[mask].all()
        assert (data["action"] == whole[..., 0])[mask].all()
        assert (data["next_observation"] == (first + data["length"])[:, None]).all()
        ends = (whole[..., 0] % 1_000_000) % 7 == 6
        assert (data["terminated"] == (ends & mask)).all()
        return
    where, then, steps = data["observation"], data["next_observation"], data["n_steps"]
    assert (where == where[:, :1]).all()
    assert (data["action"] == where[:, 0]).all()
    assert (then == where[:, :1] + steps[:, None]).all()
    at = where[:, 0] % 1_000_000
    assert ((at % 7) + steps <= 7).all()
    assert (data["terminated"] == ((at % 7) + steps == 7)).all()
    rewards = [
        sum(0.5**k * ((a + k) % 100) for k in range(m)) for a, m in zip(at, steps, strict=True)
    ]
    assert np.allclose(data["reward"], rewards)


def test_threads_that_begin_at_once_agree_on_the_streams() -> None:
    for _ in range(20):
        buffer, gate = made(), threading.Barrier(N)

        def begin(env: int, buffer: Any = buffer, gate: Any = gate) -> None:
            gate.wait(10)
            for at in range(3):
                add(buffer, env, at)

        threads = [threading.Thread(target=begin, args=(env,)) for env in range(N)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(buffer) == 3 * N
        assert buffer.info().broken_episodes == 0
        look(buffer.steps(), reverie.views.Transitions())


def test_a_repr_counts_steps_where_items_are_steps() -> None:
    for view, word in (
        (None, "steps"),
        (reverie.views.Sequences(4), "items"),
        (reverie.views.Sequences(4, stride=1), "steps"),
        (reverie.views.Episodes(), "items"),
    ):
        buffer = reverie.ReplayBuffer(
            {"observation": reverie.ArraySpec((), "f4")}, 9, view=view
        )
        assert repr(buffer).startswith(f"ReplayBuffer(0 of 9 {word}, ")
