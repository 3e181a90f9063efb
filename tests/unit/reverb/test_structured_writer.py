"""Structured writers: which items fall due when, of which cells, under which priority."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from tests.structured_support import config, drained, tables
from tests.unit.reverb.support import Serve

from reverie import reverb
from reverie.errors import StepMismatchError
from reverie.reverb import structured_writer as structured
from reverie.reverb.cc import patterns_pb2
from reverie.reverb.client import Client
from reverie.reverb.engine.patterns.matcher import PatternMatcher, as_int32

Condition = structured.Condition
Node = patterns_pb2.PatternNode
REF = structured.create_reference_step([None, None])
LAST, LAST_B = REF[0][-1], REF[1][-1]


@pytest.fixture
def client(serve: Serve) -> Client:
    return serve(*tables())


@pytest.mark.parametrize(
    ("condition", "due"),
    [
        (Condition.step_index() == 3, [3]),
        (Condition.step_index() != 3, [0, 1, 2, 4, 5]),
        (Condition.step_index() > 3, [4, 5]),
        (Condition.step_index() >= 3, [3, 4, 5]),
        (Condition.step_index() < 3, [0, 1, 2]),
        (Condition.step_index() <= 3, [0, 1, 2, 3]),
        (Condition.step_index() % 3 == 1, [1, 4]),
        (Condition.step_index() % 3 != 1, [0, 2, 3, 5]),
        (Condition.steps_since_applied() >= 4, [3]),
        (Condition.steps_since_applied() % 2 == 0, [1, 3, 5]),
        (Condition.is_end_episode(), [5]),
        (Condition.data([None, None])[0] == 2, [2]),
        (patterns_pb2.Condition(buffer_length=True, ge=1), [0, 1, 2, 3, 4, 5]),
        (patterns_pb2.Condition(buffer_length=True, ge=2), []),  # one step is remembered
    ],
)
def test_items_fall_due_where_the_condition_holds(
    client: Client, condition: Any, due: list[int]
) -> None:
    writer = client.structured_writer([config(LAST, conditions=[condition])])
    for i in range(6):
        writer.append([i, 0])
    writer.end_episode()
    assert drained(client) == [[i] for i in due]


@pytest.mark.parametrize(
    ("node", "first", "second"),
    [
        (REF[0][-1], 0, 1),
        (REF[0][-3], 0, 1),
        (REF[0][-1:], [0], [1]),
        (REF[0][-3:], [0, 1, 2], [1, 2, 3]),
        (REF[0][-3:-1], [0, 1], [1, 2]),
        (REF[0][-3:0], [0, 1, 2], [1, 2, 3]),
        (REF[0][-5::2], [0, 2, 4], [1, 3, 5]),
        (REF[0][-4::3], [0, 3], [1, 4]),
        (REF[0][-4:-1:2], [0, 2], [1, 3]),
    ],
)
def test_a_node_takes_what_a_list_of_the_steps_would(
    client: Client, node: Any, first: Any, second: Any
) -> None:
    writer = client.structured_writer([config(node)])
    for i in range(8):
        writer.append([i, 0])
    assert [item[0] for item in drained(client)[:2]] == [first, second]


def test_a_clear_forgets_steps_and_no_clear_lets_items_span_episodes(
    client: Client,
) -> None:
    writer = client.structured_writer(
        [config(REF[0][-2:]), config(LAST, conditions=[Condition.step_index() == 1], table="b")]
    )
    for step, clear in enumerate([None, True, None, False, None, None]):
        writer.append([step, 0])
        if clear is not None:
            writer.end_episode(clear)
    assert drained(client) == [[[0, 1]], [[2, 3]], [[3, 4]], [[4, 5]]]
    assert drained(client, "b") == [[1], [3], [5]]


def test_steps_since_applied_goes_on_across_episodes(client: Client) -> None:
    every_third = config(LAST, conditions=[Condition.steps_since_applied() >= 3])
    writer = client.structured_writer([every_third])
    for i in range(9):
        writer.append([i, 0])
        if i in (1, 5, 6):
            writer.end_episode()
    assert drained(client) == [[2], [5], [8]]


def test_an_episode_ends_once_however_often_it_is_said(client: Client) -> None:
    writer = client.structured_writer([config(LAST, conditions=[Condition.is_end_episode()])])
    writer.end_episode()
    writer.append([1, 0])
    for _ in range(3):
        writer.end_episode(clear_buffers=False)
    assert drained(client) == [[1]]


def test_none_makes_no_item_wherever_a_pattern_wants_the_cell(client: Client) -> None:
    writer = client.structured_writer(
        [
            config(REF[0][-3::2]),
            config(LAST, conditions=[Condition.data([None, None])[1] < 3], table="b"),
        ]
    )
    for step in ([1, 9], [None, 8], [2, None], [3, 1], [None, 1], [4, 2]):
        writer.append(step)
    assert drained(client) == [[[1, 2]], [[3, 4]]]
    assert drained(client, "b") == [[3], [4]]  # never where the condition's cell is None


def test_parts_of_a_step_make_an_item_once_all_its_cells_are_there(
    client: Client,
) -> None:
    writer = client.structured_writer([config(LAST), config(LAST, LAST_B, table="b")])
    writer.append([1, None], partial_step=True)
    assert (drained(client), drained(client, "b")) == ([[1]], [])
    writer.append([None, 2], partial_step=True)
    assert (drained(client), drained(client, "b")) == ([], [[1, 2]])
    assert writer.step_is_open
    writer.append([None, None])
    assert (drained(client), drained(client, "b")) == ([], [])
    assert not writer.step_is_open


def test_the_end_of_an_episode_ends_an_open_step(client: Client) -> None:
    at_end = [Condition.is_end_episode()]
    writer = client.structured_writer(
        [config(LAST, conditions=at_end), config(LAST_B, conditions=at_end, table="b")]
    )
    writer.append([1, 1])
    writer.append([2, None], partial_step=True)
    writer.end_episode()
    assert not writer.step_is_open
    assert (drained(client), drained(client, "b")) == ([[2]], [])
    writer.append([3, 3])
    writer.end_episode()
    assert (drained(client), drained(client, "b")) == ([[3]], [[3]])


def test_a_column_given_twice_in_a_step_is_refused_and_nothing_is_stored(
    client: Client,
) -> None:
    writer = client.structured_writer([config(LAST, LAST_B)])
    writer.append([1, None], partial_step=True)
    with pytest.raises(RuntimeError, match="value for column 0 was provided by multiple"):
        writer.append([2, 2])
    assert writer.step_is_open
    writer.append([None, 3])
    assert drained(client) == [[1, 3]]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"x": 1, "y": {"z": 1.0}}, r"wrong dtype .* column 1 \(path=\('y', 'z'\)\).*double"),
        ({"x": [1], "y": {"z": 1}}, r"wrong dtype|incompatible shape"),
        ({"x": 1, "y": {"z": [1]}}, r"incompatible shape .* column 1"),
    ],
)
def test_a_wrong_leaf_is_named_by_its_path_and_the_step_is_not_stored(
    client: Client, step: Any, message: str
) -> None:
    ref = structured.create_reference_step({"x": None, "y": {"z": None}})
    writer = client.structured_writer([config(ref["y"]["z"][-2:], ref["x"][-1])])
    as_arrays = {"x": np.int64(0), "y": {"z": np.int64(0)}}
    writer.append(as_arrays)
    bad = {"x": np.asarray(step["x"]), "y": {"z": np.asarray(step["y"]["z"])}}
    with pytest.raises(StepMismatchError, match=message):
        writer.append(bad)
    writer.append(as_arrays)
    assert drained(client) == [[[0, 0], 0]]


def test_columns_that_no_config_uses_may_hold_anything(client: Client) -> None:
    writer = client.structured_writer([config(LAST_B)])
    for other in (1, 2.0, "three", object()):
        writer.append([other, 7])
    assert drained(client) == [[7]] * 4


def test_the_wrong_column_is_named_as_in_the_step_where_others_are_unused(
    client: Client,
) -> None:
    writer = client.structured_writer([config(LAST_B)])
    writer.append([0, 7])
    with pytest.raises(StepMismatchError, match=r"column 1 \(path=\(1,\)\)"):
        writer.append([0, 7.0])


def test_another_number_of_leaves_is_refused(client: Client) -> None:
    writer = client.structured_writer([config(LAST)])
    writer.append([0, 0])
    with pytest.raises(ValueError, match="unexpected length, got 3 but wanted 2"):
        writer.append([0, 0, 0])
    with pytest.raises(ValueError, match="unexpected length, got 3 but wanted 2"):
        writer.append([0, [0, 0]])


def test_texts_are_items_like_any_other(client: Client) -> None:
    writer = client.structured_writer([config(REF[0][-2:])])
    writer.append(["é", 0])
    writer.append([b"b", 0])
    assert drained(client) == [[["é".encode(), b"b"]]]


@pytest.mark.parametrize(
    ("value", "compared"),
    [
        (True, 1),
        (np.uint8(200), 200),
        (np.array([[5]]), 5),
        (2**32 + 1, 1),
        (np.uint64(2**63), 0),
        (-1, -1),
        (2**31, -(2**31)),
        (1.0, None),
        ("1", None),
        (np.array([1, 1]), None),
        (None, None),
    ],
)
def test_conditions_compare_single_integers_cut_to_32_bits(value: Any, compared: Any) -> None:
    assert as_int32(value) == compared


def test_remainders_have_the_sign_of_the_value(client: Client) -> None:
    first = Condition.data([None, None])[0]
    writer = client.structured_writer(
        [
            config(LAST, conditions=[first % 3 == 2]),
            config(LAST, conditions=[first % 3 != 0], table="b"),
        ]
    )
    for i in range(-4, 4):
        writer.append([i, 0])
    assert (drained(client), drained(client, "b")) == ([[2]], [[-4], [-2], [-1], [1], [2]])


def priorities(client: Client) -> list[float]:
    size = client.server_info()["a"].current_size
    samples = client.sample("a", num_samples=size, emit_timesteps=False)
    return [float(np.ravel(sample.info.priority)[0]) for sample in samples]


def test_a_td_error_weighs_the_largest_and_the_mean_error(client: Client) -> None:
    priority = structured.td_error(0.25, [None, None], lambda step: step[0])
    writer = client.structured_writer([config(REF[0][-3:], LAST_B, priority=priority)])
    errors = np.array([-3, -2, 1, 6], np.float32)
    for error in errors:
        writer.append([error, 0])
    windows = [np.abs(errors[i : i + 3]).astype(float) for i in range(2)]
    assert priorities(client) == [
        pytest.approx(0.25 * window.max() + 0.75 * window.mean()) for window in windows
    ]


def test_of_two_columns_with_errors_the_last_counts_and_without_one_it_is_0(
    client: Client,
) -> None:
    priority = structured.td_error(0.5, [None, None], lambda step: step[0])
    both = config(REF[0][-2:], LAST, priority=priority)
    neither = config(LAST_B, priority=priority)
    writer = client.structured_writer([both, neither])
    writer.append([2.0, 0])
    writer.append([5.0, 0])
    assert priorities(client) == [0.0, 5.0, 0.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.int8(1), "expects a double/float/int tensor"),
        (True, "expects a double/float/int tensor"),
        (np.zeros(2), "expects a scalar tensor"),
        (np.nan, "must not be nan"),
    ],
)
def test_what_is_no_td_error_is_refused_and_the_writer_goes_on(
    client: Client, value: Any, message: str
) -> None:
    priority = structured.td_error(0.5, [None, None], lambda step: step[0])
    at_end = [Condition.is_end_episode()]
    writer = client.structured_writer(
        [config(LAST_B, table="b"), config(LAST, priority=priority, conditions=at_end)]
    )
    writer.append([value, 1])
    with pytest.raises(ValueError, match=message):
        writer.end_episode()
    writer.end_episode()
    assert (drained(client), drained(client, "b")) == ([], [[1]])


def test_a_full_table_makes_flush_and_end_episode_time_out_and_the_step_stays() -> None:
    server = reverb.Server([reverb.Table.queue("a", 2)])
    client = reverb.Client(f"localhost:{server.port}")
    writer = client.structured_writer([config(LAST)])
    for i in range(4):
        writer.append([i, 0])
    writer.append([4, None], partial_step=True)
    writer.flush(3, timeout_ms=10)
    with pytest.raises(reverb.DeadlineExceededError):
        writer.flush(2, timeout_ms=10)
    with pytest.raises(reverb.DeadlineExceededError):
        writer.end_episode(timeout_ms=10)
    assert writer.step_is_open
    with pytest.raises(ValueError, match="must be >= 0"):
        writer.flush(-1)
    taken = [sample.data[0] for sample in client.sample("a", 5, emit_timesteps=False)]
    assert taken == [0, 1, 2, 3, 4]
    writer.end_episode()
    assert not writer.step_is_open
    server.stop()
    with pytest.raises(RuntimeError):
        writer.append([5, 0])


def test_the_writer_keeps_no_more_cells_than_configs_can_ask_for(
    client: Client,
) -> None:
    writer = client.structured_writer([config(REF[0][-4:-2], LAST_B)])
    for i in range(20):
        writer.append([i, i])
    engine = writer._writer._writer
    assert [engine.keeps(0, n) for n in (15, 16)] == [False, True]
    assert [engine.keeps(1, n) for n in (18, 19)] == [False, True]


@pytest.mark.parametrize("method", ["add_whole", "add"])
def test_an_interrupt_within_a_step_makes_no_item_of_wrong_cells(
    client: Client, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    writer = client.structured_writer([config(REF[0][-2:], LAST_B)])
    writer.append([0, 0])
    with monkeypatch.context() as patch:
        patch.setattr(PatternMatcher, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append([1, 1] if method == "add_whole" else [1, None])
    for i in range(2, 5):
        writer.append([i, i])
    assert drained(client) == [[[2, 3], 3], [[3, 4], 4]]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"a": 1, "b": {"c": 2}},
            "Tensor of wrong dtype provided for column 1 (path=('b', 'c')). Got int64 but "
            "expected double.",
        ),
        (
            {"a": 1, "b": {"c": np.zeros((2, 2))}},
            "Tensor of incompatible shape provided for column 1 (path=('b', 'c')). Got [2,2] "
            "which is incompatible with [].",
        ),
    ],
)
def test_a_leaf_that_does_not_fit_is_refused_in_just_reverbs_words(
    client: Client, second: Any, message: str
) -> None:
    writer = client.structured_writer([config(LAST_B)])
    writer.append({"a": 1, "b": {"c": 1.0}})
    with pytest.raises(StepMismatchError) as caught:
        writer.append(second)
    assert str(caught.value) == message
    assert "Nothing was stored." in vars(caught.value)["__notes__"][0]
