"""Our observers on a server of ours, TF-Agents' own on a real Reverb server: the same items.

What a served table adds to the tests of `test_observer_parity`, which compare the manager's
observer: the sequence and the episode observer, several tables, and one environment of a
parallel observer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")
reverb = pytest.importorskip("reverb", reason="needs dm-reverb")

from tests.observer_support import Served  # noqa: E402
from tests.tf_agents.support import SPEC, episode, same  # noqa: E402
from tf_agents.replay_buffers import reverb_utils  # noqa: E402
from tf_agents.specs import tensor_spec  # noqa: E402

from reverie import observers  # noqa: E402

TABLES = ("first", "second")
KINDS = ("trajectory", "sequence", "episode")
THEIRS = {
    "trajectory": reverb_utils.ReverbAddTrajectoryObserver,
    "sequence": reverb_utils.ReverbTrajectorySequenceObserver,
    "episode": reverb_utils.ReverbAddEpisodeObserver,
}
OURS = {
    "trajectory": observers.TrajectoryObserver,
    "sequence": observers.TrajectorySequenceObserver,
    "episode": observers.EpisodeObserver,
}
SIGNATURE = tensor_spec.add_outer_dim(SPEC)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of a real Reverb server on this machine with two queues."""
    server = reverb.Server([reverb.Table.queue(name, max_size=100_000) for name in TABLES])
    yield reverb.Client(f"localhost:{server.port}")
    server.stop()


class OneOfMany:
    """One environment of a parallel observer, which is told of others in between."""

    ENV = 2

    def __init__(self, client: Any, tables: Any, *args: Any, items: str, **kwargs: Any) -> None:
        self.observer = observers.ParallelObserver(
            client, "first", *args, num_envs=3, items=items, **kwargs
        )

    def __call__(self, step: Any) -> None:
        self.observer(
            tf.nest.map_structure(lambda leaf: np.asarray(leaf)[None], step), [self.ENV]
        )

    def reset(self, write: bool = True) -> None:
        self.observer.reset(write, self.ENV)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.observer, name)


class Both:
    """Tells two observers the same, errors included."""

    def __init__(self, client: Any, kind: str, args: tuple[Any, ...], ours: Any = None) -> None:
        for table in TABLES:
            client.reset(table)
        self.client = client
        self.served = Served(*TABLES, signature=SIGNATURE)
        self.theirs = THEIRS[kind](client, TABLES, *args)
        self.ours = (ours or OURS[kind])(self.served.client, TABLES, *args)
        self.number = 0

    def step(self, step: Any) -> None:
        errors = []
        for observer in (self.ours, self.theirs):
            try:
                observer(step)
            except ValueError as error:
                errors.append(str(error))
        assert len(errors) in (0, 2), errors
        assert all("max_sequence_length" in error for error in errors)

    def episode(self, length: int) -> None:
        for step in episode(length, self.number):
            self.step(step)
        self.number += 1

    def steps(self, length: int) -> None:
        for step in episode(length + 1, self.number)[:-1]:
            self.step(step)
        self.number += 1

    def each(self, method: str, *args: Any) -> None:
        for observer in (self.ours, self.theirs):
            getattr(observer, method)(*args)

    def compare(self, tables: tuple[str, ...] = TABLES) -> int:
        """Asserts that both sides' tables hold the same; returns how many items."""
        self.theirs.flush()
        self.ours.flush()
        for table in tables:
            size = self.client.server_info()[table].current_size
            wanted = []
            if size:
                samples = self.client.sample(table, size, emit_timesteps=False)
                wanted = [tf.nest.pack_sequence_as(SPEC, sample.data) for sample in samples]
            found = [tf.nest.pack_sequence_as(SPEC, item) for item in self.served.items(table)]
            assert len(found) == len(wanted)
            assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
        return len(wanted)


@st.composite
def programs(draw: Any) -> tuple[str, tuple[Any, ...], list[tuple[str, Any]]]:
    """A kind of observer, its arguments, and calls on which both mean to agree.

    Left out are the calls after which they differ on purpose; see test_repairs below.
    """
    kind = draw(st.sampled_from(KINDS))
    length = draw(st.integers(1, 5))
    if kind == "episode":
        args: tuple[Any, ...] = (length, draw(st.sampled_from([1, 0.5])), draw(st.booleans()))
    else:
        padding = draw(st.integers(0, 2))
        args = (length, draw(st.integers(1, 6)), 1, padding > 0, padding > 1)
    calls = []
    cached = 0
    stale = False  # whether theirs believes that it has steps, though they were dropped
    for what in draw(st.lists(st.sampled_from(["episode", "steps", "drop", "write", "flush"]))):
        argument = draw(st.integers(1, 7))
        if what == "episode":
            # An overflow by the boundary itself leaves theirs in it: see test_repairs.
            if kind == "episode" and cached + argument == length + 1:
                argument += 1
            stale = cached + argument > length
            cached = cached + argument if kind == "sequence" else 0
        elif what == "steps":
            cached += argument
        elif what == "write":
            too_long = kind == "episode" and (cached > length or (stale and not cached))
            if too_long or (kind != "episode" and not args[3]):
                what = "drop"
            else:
                stale, cached = False, 0
        if what == "drop":
            stale = stale or cached > 0
            cached = 0
        calls.append((what, argument))
    return kind, args, calls


def run(both: Both, calls: list[tuple[str, Any]]) -> None:
    for what, argument in calls:
        if what in ("episode", "steps"):
            getattr(both, what)(argument)
        elif what == "flush":
            both.each("flush")
        else:
            both.each("reset", what == "write")


@given(program=programs())
@settings(max_examples=300, deadline=None)
def test_both_make_the_same_items_in_the_same_order(client: Any, program: Any) -> None:
    kind, args, calls = program
    both = Both(client, kind, args)
    run(both, calls)
    both.compare()


@given(program=programs())
@settings(max_examples=150, deadline=None)
def test_one_environment_of_many_makes_the_items_of_theirs(client: Any, program: Any) -> None:
    kind, args, calls = program

    def parallel(served: Any, tables: Any, *args: Any) -> Any:
        if kind == "episode":
            length, priority, bypass = args
            return OneOfMany(
                served, tables, length, 1, priority, items=kind, bypass_partial_episodes=bypass
            )
        return OneOfMany(served, tables, *args, items=kind)

    both = Both(client, kind, args, parallel)
    run(both, calls)
    both.compare(("first",))


@pytest.mark.parametrize("kind", KINDS)
def test_both_agree_on_each_length_of_an_episode(client: Any, kind: str) -> None:
    for length in (1, 2, 4):
        both = Both(client, kind, (length,))
        for steps in (n for n in range(1, 9) if n != length + 1 or kind != "episode"):
            both.episode(steps)
        assert both.compare() >= length


def test_the_rules_of_the_sequence_observer(client: Any) -> None:
    both = Both(client, "sequence", (3, 1))
    both.episode(3)
    both.episode(3)
    assert both.compare() == 4  # two of them across the boundary
    both = Both(client, "sequence", (3, 3))
    for _ in range(3):
        both.episode(3)
    assert both.compare() == 3
    both = Both(client, "sequence", (4, 1, 1, True, True))
    both.steps(2)
    both.each("reset")  # padding matters here alone
    both.episode(2)
    assert both.compare() == 2


def test_the_rules_of_the_episode_observer(client: Any) -> None:
    for bad in (0, -1):
        for make, address in ((THEIRS, client), (OURS, Served(*TABLES).client)):
            with pytest.raises(ValueError, match="max_sequence_length"):
                make["episode"](address, TABLES, bad)
    both = Both(client, "episode", (4,))
    both.episode(4)
    both.episode(6)
    both.episode(2)
    assert both.compare() == 2
    both.steps(3)
    both.each("reset", True)  # a shorter item
    both.each("reset", True)  # nothing to write is no error
    assert both.compare() == 1
    both.each("update_priority", 0.25)
    both.episode(1)
    assert both.client.sample("first", 1).__next__()[0].info.priority == 0.25
    core = both.served.tables["first"].core
    assert core.sample_items(1)[0][3] == 0.25


def test_signatures_and_closed_observers(client: Any) -> None:
    for kind in KINDS:
        both = Both(client, kind, (2,))
        assert both.theirs.get_table_signature() is None
        assert both.ours.get_table_signature() == SIGNATURE
        both.steps(1)
        both.each("close")
        both.each("close")
        for observer in (both.ours, both.theirs):
            for call in (lambda o=observer: o(episode(2)[0]), observer.flush):
                with pytest.raises(ValueError, match=r"obtain.* writer"):
                    call()
        both.each("open")
        # Their count of cached steps outlives the writer; a reset makes it right.
        both.each("reset", False)
        both.episode(2)
        assert both.compare() == 1


def sizes(both: Both) -> tuple[int, int]:
    both.theirs.flush()
    theirs = both.client.server_info()["first"].current_size
    return both.served.tables["first"].core.size, theirs


def test_repairs(client: Any) -> None:
    """Where we mean to differ: TF-Agents' side is asserted too, so that we notice a change."""
    # A complete window at reset(): theirs is written twice.
    for kind in ("trajectory", "sequence"):
        both = Both(client, kind, (2,))
        both.steps(3)
        both.each("reset", True)
        assert sizes(both) == (2, 3)

    # reset() in an episode that is too long: theirs writes its first part all the same.
    both = Both(client, "episode", (2, 1, True))
    both.steps(4)
    both.each("reset", True)
    assert sizes(both) == (0, 1)

    # reset() right after such an episode: theirs has no steps and raises.
    both = Both(client, "episode", (2, 1, True))
    both.episode(4)
    both.ours.reset(True)
    with pytest.raises(ValueError, match="trajectory"):
        both.theirs.reset(True)

    # The step too many is the boundary: theirs raises, then ignores the next episode.
    both = Both(client, "episode", (2,))
    both.episode(3)
    both.episode(2)
    assert sizes(both) == (1, 0)

    # A batch axis of one: theirs stores it with that axis.
    both = Both(client, "trajectory", (1,))
    step = tf.nest.map_structure(lambda leaf: np.asarray(leaf)[None], episode(2)[0])
    both.theirs(step)
    with pytest.raises(ValueError, match="batch axis"):
        both.ours(step)
    assert sizes(both) == (0, 1)

    # A priority that is none.
    THEIRS["trajectory"](client, TABLES, 1, 1, "high")
    with pytest.raises(ValueError, match="priority"):
        OURS["trajectory"](both.served.client, TABLES, 1, 1, "high")


@pytest.mark.parametrize(
    ("kind", "args", "wrong"),
    [
        ("sequence", (3, 1), lambda *a: observers.TrajectoryObserver(*a)),
        (
            "sequence",
            (3, 1),
            lambda c, t, n, s: observers.TrajectorySequenceObserver(c, t, n, 2),
        ),
        ("episode", (6,), lambda c, t, n: observers.EpisodeObserver(c, t, 4, 1, True)),
        ("episode", (6,), lambda c, t, n: observers.TrajectoryObserver(c, t, 4)),
        ("trajectory", (2, 1), lambda *a: observers.TrajectorySequenceObserver(*a)),
        (
            "trajectory",
            (2, 1),
            lambda c, t, *a: observers.TrajectoryObserver(c, t[:1], *a),
        ),
    ],
    ids=["boundaries", "stride", "shorter", "windows", "no boundaries", "one table"],
)
def test_the_comparison_sees_a_wrong_observer(
    client: Any, kind: str, args: tuple[Any, ...], wrong: Callable[..., Any]
) -> None:
    calls = [("episode", 4), ("episode", 5), ("episode", 2)]
    both = Both(client, kind, args)
    run(both, calls)
    assert both.compare() > 1
    both = Both(client, kind, args, wrong)
    run(both, calls)
    with pytest.raises(AssertionError):
        both.compare()
