"""Steps that do not fit: an error that says what to do, and nothing is stored."""

from __future__ import annotations

import logging
import re
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.errors import InvalidArgumentError, ReverieError, StepMismatchError

N = 3
SPEC = {
    "observation": {"pos": np.zeros((4,), np.float32), "pic": np.zeros((5, 6), np.uint8)},
    "action": np.zeros((2,), np.float32),
    "reward": np.zeros((), np.float32),
    "logp": np.zeros((), np.float32),
}


def step(count: int | None = N, at: int = 0) -> dict[str, Any]:
    """Arguments of `add`, right in every way."""
    lead = () if count is None else (count,)

    def obs(at: int) -> Any:
        pos = np.full((*lead, 4), at, np.float32)
        return {"pos": pos, "pic": np.full((*lead, 5, 6), at, np.uint8)}

    return {
        "obs": obs(at),
        "action": np.zeros((*lead, 2), np.float32),
        "reward": np.zeros(lead, np.float32),
        "next_obs": obs(at + 1),
        "terminated": np.zeros(lead, np.bool_),
        "truncated": np.zeros(lead, np.bool_),
        "extra": {"logp": np.zeros(lead, np.float32)},
    }


def buffer_of(**settings: Any) -> reverie.ReplayBuffer:
    return reverie.ReplayBuffer(SPEC, 100, **settings)


@contextmanager
def refused(
    buffer: reverie.ReplayBuffer, words: str, kind: Any = ReverieError
) -> Iterator[None]:
    """Within, an error with these words is raised, and nothing is stored."""
    data, size = buffer.steps().data, len(buffer)
    with pytest.raises(kind, match=words) as caught:
        yield
    assert "othing was stored" in str(caught.value)
    assert len(buffer) == size
    after = buffer.steps().data
    assert all(np.array_equal(after[key], data[key]) for key in ("action", "reward"))
    assert np.array_equal(after["observation"]["pos"], data["observation"]["pos"])


class Torchlike:
    """A tensor that requires grad."""

    shape = (N,)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use detach()")


ONE = step(None)
WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a batch axis is missing": (
        lambda s: s.update(obs=ONE["obs"]),
        r"obs: .*'observation/pic': .*shape \(5, 6\); wanted uint8 of shape \(3, 5, 6\): the "
        r"batch axis is missing.*env_ids=\[i\]",
    ),
    "of the reward, too": (
        lambda s: s.update(reward=1.0),
        r"'reward': found float, shape \(\); wanted float32 of shape \(3,\): the batch axis",
    ),
    "one environment too many": (
        lambda s: s.update(action=np.zeros((4, 2), np.float32)),
        r"'action': .*: there are 4 environments, and 3 were wanted",
    ),
    "one environment too few": (
        lambda s: s.update(next_obs=step(2)["obs"]),
        r"next_obs: .*: there are 2 environments, and 3 were wanted. For some of them pass",
    ),
    "all of other environments": (
        lambda s: s.update(step(5)),
        r"found shape \(5,\).*there are 5 environments, and 3 were wanted",
    ),
    "batch axis last": (
        lambda s: s.update(action=np.zeros((2, 3), np.float32)),
        r"'action': .*the batch axis stands last. np.moveaxis",
    ),
    "transposed": (
        lambda s: s["next_obs"].update(pic=np.zeros((3, 6, 5), np.uint8)),
        r"next_obs: .*'observation/pic': .*transposed",
    ),
    "an axis of one": (
        lambda s: s.update(reward=np.zeros((3, 1), np.float32)),
        r"'reward': .*shape \(3, 1\).*the axes of 1.*reshape",
    ),
    "another shape": (
        lambda s: s.update(action=np.zeros((3, 7), np.float32)),
        r"'action': found ndarray, shape \(3, 7\); wanted float32 of shape \(3, 2\)\. Nothing",
    ),
    "a key is missing": (
        lambda s: s["obs"].pop("pos"),
        r"obs: .*missing \['observation/pos'\]",
    ),
    "a key is missing afterwards": (
        lambda s: s["next_obs"].pop("pos"),
        r"next_obs: .*missing \['observation/pos'\]",
    ),
    "an unknown key": (
        lambda s: s["next_obs"].update(speed=np.zeros(N)),
        r"next_obs: .*unknown \['observation/speed'\]",
    ),
    "no dict": (
        lambda s: s.update(obs=np.zeros((N, 4), np.float32)),
        r"obs: .*at 'observation': found ndarray, wanted a mapping",
    ),
    "None": (lambda s: s.update(next_obs=None), r"next_obs: .*found NoneType, wanted a map"),
    "extra is missing": (
        lambda s: s.update(extra=None),
        r"extra: found NoneType: missing \['logp'\]; wanted a dict",
    ),
    "extra has an unknown key": (
        lambda s: s["extra"].update(lopg=1),
        r"extra: .*unknown \['lopg'\]; wanted .*\['logp'\]",
    ),
    "extra is no dict": (lambda s: s.update(extra=[1]), r"extra: found .*list.*wanted a dict"),
    "extra has the reward": (
        lambda s: s["extra"].update(reward=1),
        r"extra: .*unknown \['reward'\]",
    ),
    "terminated is None": (
        lambda s: s.update(terminated=None),
        "terminated: found None, wanted",
    ),
    "terminated is text": (
        lambda s: s.update(terminated=["False"] * 3),
        r"terminated: found \['False'.*wanted True or False",
    ),
    "truncated is NaN": (
        lambda s: s.update(truncated=np.array([0, np.nan, 1])),
        "truncated: found array.*nan.*wanted True or False",
    ),
    "truncated is 2": (lambda s: s.update(truncated=[0, 2, 1]), "truncated: found .*2"),
    "terminated of one": (
        lambda s: s.update(terminated=False),
        r"terminated: found shape \(\), wanted bools of shape \(3,\): the batch axis is miss",
    ),
    "truncated of too many": (
        lambda s: s.update(truncated=np.zeros(4, bool)),
        r"truncated: found shape \(4,\).*there are 4 environments, and 3 were wanted",
    ),
    "terminated is masked": (
        lambda s: s.update(terminated=np.ma.masked_array([True] * 3, [True, False, False])),
        "terminated: found a masked array",
    ),
    "env_ids out of range": (
        lambda s: s.update(env_ids=[0, 1, 3]),
        r"env_ids: found \[3\], wanted 0 to 2: there are 3 environments",
    ),
    "env_ids below 0": (
        lambda s: s.update(env_ids=[0, -1, 2]),
        r"env_ids: found \[-1\], wanted",
    ),
    "env_ids twice": (
        lambda s: s.update(env_ids=[1, 0, 1]),
        r"env_ids: found \[1\] twice, wanted one step a call",
    ),
    "env_ids of another length": (
        lambda s: s.update(env_ids=[0, 1]),
        r"found shape \(3,\), wanted bools of shape \(2,\)",
    ),
    "env_ids are bools": (
        lambda s: s.update(env_ids=[True, False, True]),
        "env_ids: found .*wanted a list of integers",
    ),
    "env_ids is one number": (lambda s: s.update(env_ids=1), "env_ids: found 1, wanted a list"),
    "env_ids are masked": (
        lambda s: s.update(env_ids=np.ma.masked_array([0, 1, 2], [1, 0, 0])),
        "env_ids: found a masked array",
    ),
    "env_ids are floats": (lambda s: s.update(env_ids=[0.0, 1.0, 2.0]), "wanted a list of int"),
    "a dtype that cannot be cast": (
        lambda s: s["obs"].update(pic=np.zeros((3, 5, 6), np.float32)),
        r"obs: .*'observation/pic': found ndarray, dtype float32; wanted uint8.*fraction",
    ),
    "a number that does not fit": (
        lambda s: s["next_obs"].update(pic=np.full((3, 5, 6), 256, np.uint16)),
        r"next_obs: .*'observation/pic': found the value 256",
    ),
    "text": (
        lambda s: s.update(action=[["a", "b"]] * 3),
        r"'action': found .*wanted float32.*no number",
    ),
    "a masked array": (
        lambda s: s.update(action=np.ma.masked_array(np.zeros((3, 2)), np.eye(3, 2))),
        r"'action': found a masked array.*filled\(",
    ),
    "a tensor that requires grad": (
        lambda s: s.update(reward=Torchlike()),
        r"'reward': found Torchlike, which is no array \(Can't call numpy.*detach",
    ),
    "ragged": (
        lambda s: s.update(action=[[1.0, 2.0], [1.0], [1.0, 2.0]]),
        r"'action': found list, which is no array",
    ),
}


@pytest.mark.parametrize("mode", ["Disabled", "NextStep", "SameStep"])
@pytest.mark.parametrize("name", WRONG)
def test_it_is_refused_with_the_likely_cause_and_nothing_is_stored(
    name: str, mode: str
) -> None:
    buffer = buffer_of(num_envs=N, autoreset=mode)
    infos = {"final_obs": np.array([ONE["obs"]] * N, object)}
    good = step()
    good["terminated"][1] = True
    buffer.add(**good, infos=infos)
    change, words = WRONG[name]
    bad = step(at=1)
    change(bad)
    with refused(buffer, "(?s)" + words):
        buffer.add(**bad, infos=infos)
    assert buffer.add(**step(at=1), infos=infos) == N - (mode == "NextStep")
    assert buffer.info().broken_episodes == 0


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"pos": np.zeros(5), "pic": np.zeros((5, 6))}, r"'observation/pos': .*shape \(5,\); "),
        ({"pos": np.zeros(4), "pic": np.zeros((6, 5))}, "transposed"),
        ({"pos": np.zeros((4, 7)), "pic": np.zeros((7, 5, 6))}, "the batch axis stands last"),
        ({"pos": np.zeros((2, 3, 4)), "pic": np.zeros((5, 6))}, r"\('N', 4\) of N"),
        (
            {"pos": np.zeros((2, 4)), "pic": np.zeros((3, 5, 6))},
            "found leaves of .*2.*one number",
        ),
        ({"pos": np.zeros((2, 4)), "pic": np.zeros((5, 6))}, "None: no batch axis"),
        ({"pos": np.zeros((0, 4)), "pic": np.zeros((0, 5, 6))}, "at least one"),
        ({"pos": np.zeros((2, 4))}, r"obs: .*missing \['observation/pic'\]"),
        ({"pos": Torchlike(), "pic": Torchlike()}, r"obs: .*shape \(3,\)"),
    ],
)
def test_a_first_step_of_a_strange_shape_decides_nothing(first: Any, words: str) -> None:
    buffer = buffer_of()
    with refused(buffer, "(?s)" + words, StepMismatchError):
        buffer.add(**{**step(), "obs": first})
    assert buffer.add(**step()) == N


def test_a_first_step_that_is_wrong_elsewhere_decides_nothing() -> None:
    buffer = buffer_of()
    with refused(buffer, "a batch axis, of 3, and this buffer's steps .* single environment"):
        buffer.add(**{**step(None), "action": np.zeros((3, 2))})
    assert buffer.add(**step()) == N


def test_the_number_of_environments_stays() -> None:
    buffer = buffer_of()
    buffer.add(**step())
    for other in (step(4), step(None)):
        with refused(buffer, "wanted bools of shape"):
            buffer.add(**other)


def test_env_ids_need_a_number_of_environments() -> None:
    with refused(buffer_of(), r"env_ids: .*num_envs=, or for_env\(\)"):
        buffer = buffer_of()
        buffer.add(**step(), env_ids=[0, 1, 2])
    buffer = buffer_of()
    with refused(buffer, "env_ids: found .*single environment"):
        buffer.add(**step(None), env_ids=[0])


def test_no_environment_is_no_step() -> None:
    buffer = buffer_of(num_envs=N)
    assert buffer.add(**step(0), env_ids=[]) == 0


FINAL = ONE["obs"]


@pytest.mark.parametrize(
    ("infos", "words"),
    [
        (None, 'infos: found NoneType and no "final_obs", wanted .*environments .1'),
        ({}, r'infos: found the keys \[\] and no "final_obs"'),
        ({"final_obs": None}, 'no "final_obs"'),
        (
            {"final_obs": np.array([FINAL, None, None], object)},
            r"\[1\]: found None, wanted the",
        ),
        ({"final_obs": [FINAL, FINAL]}, "found list of 2, wanted one of each of 3"),
        ({"final_obs": [FINAL, {"pos": 1}, None]}, r"\[1\]: .*missing \['observation/pic'\]"),
        (
            {"final_obs": [None, {**FINAL, "pos": np.zeros(3)}, None]},
            r"\[1\]: .*'observation/pos'.*shape \(3,\)",
        ),
        ({"final_obs": {"pos": np.zeros((3, 4)), "pic": np.zeros((2, 5, 6))}}, "of 2, wanted"),
        (
            {"final_obs": [None, {**FINAL, "pic": np.full((5, 6), 300, np.uint16)}, None]},
            "the value 300",
        ),
    ],
)
def test_same_step_wants_the_last_observation(infos: Any, words: str) -> None:
    buffer = buffer_of(num_envs=N, autoreset="SameStep")
    ended = step()
    ended["terminated"][1] = True
    with refused(buffer, words):
        buffer.add(**ended, infos=infos)
    assert buffer.add(**step()) == N  # nothing ended: nothing is asked


@pytest.mark.parametrize("form", ["objects", "list", "batch"])
def test_last_observations_come_in_several_forms(form: str) -> None:
    final = {"pos": np.arange(4.0), "pic": np.full((5, 6), 7, np.uint8)}
    batch = {"pos": np.tile(final["pos"], (N, 1)), "pic": np.tile(final["pic"], (N, 1, 1))}
    forms = {
        "objects": np.array([None, final, None], object),
        "list": [None, final, None],
        "batch": batch,
    }
    buffer = buffer_of(num_envs=N, autoreset="SameStep")
    ended = step()
    ended["truncated"][1] = True
    buffer.add(**ended, infos={"final_obs": forms[form]})
    found = buffer.steps().data["next_observation"]
    assert found["pos"].tolist() == [[1] * 4, [0, 1, 2, 3], [1] * 4]
    assert found["pic"][:, 0, 0].tolist() == [1, 7, 1]
    assert ended["next_obs"]["pos"].tolist() == [[1] * 4] * N  # the caller's stays
    assert buffer.add(**step(at=1)) == N
    assert buffer.info().broken_episodes == 0


def test_a_step_that_begins_elsewhere_ends_the_episode_is_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    buffer = buffer_of(num_envs=N)
    with caplog.at_level(logging.WARNING):
        buffer.add(**step())
        other = step(at=1)
        other["obs"]["pos"][2] += 1
        buffer.add(**other)
        buffer.add(**step(at=9))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "environment 2 does not begin in the state" in caplog.text
    assert buffer.info().broken_episodes == 4
    assert buffer.get_table_info().broken_episodes == 4
    data = buffer.steps().data
    assert data["truncated"].tolist() == [False, False, True] + [True] * 3 + [False] * 3
    assert not data["terminated"].any()
    buffer.clear()
    assert buffer.info().broken_episodes == 0


def test_a_typo_of_a_keyword_is_not_swallowed() -> None:
    buffer = buffer_of(num_envs=N)
    calls: list[Callable[[], Any]] = [
        lambda: buffer.add(**step(), env_id=[0]),  # type: ignore[call-arg]
        lambda: buffer.add_step({}, {}, terminate=True),  # type: ignore[call-arg]
        lambda: buffer.add_episode({}, terminate=True),  # type: ignore[call-arg]
        lambda: buffer_of(smapler=None),
        lambda: reverie.ReplayBuffer.for_env(Spaces(), 10, smapler=None),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"unexpected keyword argument '(env_id|term|smap)"):
            call()


class Spaces:
    """What has the spaces of an environment."""

    observation_space = action_space = np.zeros(3)


def test_add_step_names_its_own_arguments() -> None:
    spec = {"a": np.zeros(2), "b": np.zeros(3), "act": np.zeros(())}
    buffer = reverie.ReplayBuffer(spec, 10, next_of=("b", "a"))
    good = {"a": np.zeros(2), "b": np.zeros(3), "act": 1.0}
    states = {"a": np.ones(2), "b": np.ones(3)}
    wrong: list[tuple[Any, Any, str]] = [
        ([1], states, r"step: found list, wanted a dict with the keys \['b', 'a'\]"),
        ({"a": 1, "act": 1}, states, r"step: found no \['b'\] among"),
        (good, {"a": np.ones(2)}, r"after: found no \['b'\] among"),
        (good, None, "after: found NoneType, wanted a dict"),
        (good, {**states, "act": 2.0}, r"after: found .*'act'.* wanted the states"),
        ({**good, "axt": 1}, states, r"unknown \['axt'\]"),
        ({k: good[k] for k in "ab"}, states, r"missing \['act'\]"),
        (good, {**states, "a": np.ones(5)}, r"after: .*'a': found .*shape \(5,\)"),
    ]
    for step_, after, words in wrong:
        with pytest.raises(ReverieError, match=words) as caught:
            buffer.add_step(step_, after)
        assert "Nothing was stored" in str(caught.value)
        assert len(buffer) == 0
    with pytest.raises(InvalidArgumentError, match=r"add\(\): .*or use add_step\(\)"):
        buffer.add(0, 0, 0, 0, False, False)
    assert buffer.add_step(good, states) == 1
    assert buffer.add_step({**good, **states}, states, False, True) == 1
    assert buffer.add_step(ChainMap(good), ChainMap(states), False, True) == 1
    assert re.search("3 of 10 steps", repr(buffer))


def test_last_observations_of_several_states_are_a_dict_of_them() -> None:
    spec = {"a": np.zeros(2), "b": np.zeros(3), "act": np.zeros(())}
    buffer = reverie.ReplayBuffer(
        spec, 10, next_of=("b", "a"), num_envs=1, autoreset="SameStep"
    )
    one = {"a": np.zeros((1, 2)), "b": np.zeros((1, 3)), "act": [1.0]}
    states = {"a": np.ones((1, 2)), "b": np.ones((1, 3))}
    final = {"a": np.full(2, 5.0), "b": np.full(3, 6.0)}
    buffer.add_step(one, states, [True], [False], {"final_obs": [final]})
    data = buffer.steps().data
    assert (data["next_a"].tolist(), data["next_b"].tolist()) == ([[5, 5]], [[6, 6, 6]])


def test_steps_that_end_nothing_need_no_flags() -> None:
    spec = {"obs": np.zeros((2,), np.float32), "act": np.zeros((), np.int64)}
    for count in (None, 3):
        lead = () if count is None else (count,)
        buffer = reverie.ReplayBuffer(spec, 100, next_of=("obs",), num_envs=count)
        for at in range(4):
            now, after = (np.full((*lead, 2), k, np.float32) for k in (at, at + 1))
            step = {"obs": now, "act": np.full(lead, at)}
            assert buffer.add_step(step, {"obs": after}) == (count or 1)
        assert not buffer.steps().terminated.any()
        assert not buffer.steps().truncated.any()
        assert buffer.info().broken_episodes == 0
