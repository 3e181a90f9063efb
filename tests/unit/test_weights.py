"""Weights of importance, priorities of sequences, schedules: values, traps, bad input."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reverie.errors import InvalidArgumentError
from reverie.weights import LinearSchedule, importance_weights, sequence_priorities

PRIORITIES = np.array([1.0, 2.0, 3.0, 4.0])


def chances(alpha: float) -> np.ndarray:
    weights = PRIORITIES**alpha
    return weights / weights.sum()


def of_buffer(p: np.ndarray, beta: float, **changes: Any) -> np.ndarray:
    return importance_weights(p, len(p), beta, **{"min_probability": p.min(), **changes})


@pytest.mark.parametrize(
    ("alpha", "beta", "p", "w"),
    [
        (1.0, 1.0, (0.1, 0.2, 0.3, 0.4), (1, 0.5, 0.333333, 0.25)),
        (
            *(0.6, 0.4, (0.148230, 0.224674, 0.286555, 0.340542)),
            (1, 0.846745, 0.768229, 0.716978),
        ),
    ],
)
@pytest.mark.parametrize("normalize", ["buffer", "batch"])
def test_the_values_of_the_paper(
    alpha: float, beta: float, p: tuple[float, ...], w: tuple[float, ...], normalize: str
) -> None:
    assert_allclose(chances(alpha), p, atol=5e-7)
    found = of_buffer(chances(alpha), beta, normalize=normalize)
    assert_allclose(found, w, atol=5e-7)
    assert (found.dtype, found.shape) == (np.float32, (4,))


def test_without_normalisation_they_are_of_the_definition() -> None:
    p = chances(0.6)
    assert_allclose(of_buffer(p, 0.4, normalize=None), (4 * p) ** -0.4, rtol=1e-6)


def test_alpha_is_in_the_probability_and_is_not_applied_again() -> None:
    # Who raises P to alpha once more gets (.1482 ...) ** (.6 * .4), which is flatter.
    p = chances(0.6)
    twice = (p.min() / p) ** (0.6 * 0.4)
    assert np.abs(of_buffer(p, 0.4) - twice).max() > 0.1


@pytest.mark.parametrize("priorities", [PRIORITIES, PRIORITIES * 1e-3])
def test_a_raw_priority_as_the_smallest_is_seen_or_changes_nothing(
    priorities: np.ndarray,
) -> None:
    p = chances(0.6)
    if priorities.min() > p.min():  # as with alpha 0.6 and a raw minimum of 1
        with pytest.raises(InvalidArgumentError, match="no priorities"):
            of_buffer(p, 0.4, min_probability=priorities.min())
    # Scaling all priorities must not change a weight: a raw minimum does not cancel out.
    scaled = priorities**0.6 / (priorities**0.6).sum()
    assert_allclose(of_buffer(scaled, 0.4), of_buffer(p, 0.4), rtol=1e-6)


# Weights as others have had them, each of priorities and of which items a batch holds.


def ours(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return of_buffer(chances_of(p, alpha), beta)[batch]


def chances_of(p: np.ndarray, alpha: float) -> np.ndarray:
    return p**alpha / (p**alpha).sum()


def alpha_twice(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return ours(p**alpha, batch, alpha, beta)


def the_raw_minimum(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """p**alpha over the smallest p, which is off by p_min**(beta * (1 - alpha))."""
    return (p[batch] ** alpha / p.min()) ** -beta


def over_the_batch(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return importance_weights(chances_of(p, alpha)[batch], len(p), beta, normalize="batch")


def of_priorities(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    found: np.ndarray = p[batch] / p.max()
    return found


def no_beta(p: np.ndarray, batch: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return ours(p, batch, alpha, 1.0)


def look(weigh: Any) -> None:
    """The paper's, whatever the scale of the priorities and whoever is in the batch."""
    for scale in (1.0, 3.0, 1e-3):
        for batch in ([0, 1, 2, 3], [3, 2], [1]):
            found = weigh(PRIORITIES * scale, np.array(batch), 0.6, 0.4)
            wanted = np.array([1, 0.846745, 0.768229, 0.716978])[batch]
            assert_allclose(found, wanted, atol=5e-7)


def test_weights_that_are_otherwise_are_found_out() -> None:
    look(ours)
    for planted in (alpha_twice, the_raw_minimum, over_the_batch, of_priorities, no_beta):
        with pytest.raises(AssertionError):
            look(planted)


def test_the_largest_weight_is_the_buffers_and_not_the_batchs() -> None:
    p = chances(1.0)
    found = importance_weights(p[2:], 4, 1.0, min_probability=0.1)
    assert_allclose(found, (1 / 3, 0.25), rtol=1e-6)  # the first item is not in the batch
    by_batch = importance_weights(p[2:], 4, 1.0, normalize="batch")
    assert_allclose(by_batch, (1, 0.75), rtol=1e-6)


def test_the_largest_weight_falls_when_its_item_leaves() -> None:
    p = PRIORITIES[1:] / PRIORITIES[1:].sum()
    assert_allclose(of_buffer(p, 1.0), (1, 2 / 3, 0.5), rtol=1e-6)


def test_there_is_one_weight_for_an_item_of_many_steps() -> None:
    p = np.repeat(chances(1.0)[:, None], 3, axis=1)  # as a dataset has them
    with pytest.raises(InvalidArgumentError, match=r"probability: found .*\(4, 3\).*\[:, 0\]"):
        of_buffer(p, 1.0)
    assert of_buffer(p[:, 0], 1.0).shape == (4,)


@pytest.mark.parametrize("normalize", ["buffer", "batch"])
def test_deterministic_and_uniform_samplers_have_weights_of_one(normalize: str) -> None:
    for p in (np.ones(3), np.full(3, 1 / 7)):
        found = importance_weights(p, 7, 0.7, normalize=normalize, min_probability=p[0])
        assert found.tolist() == [1, 1, 1]
    assert importance_weights(np.full(3, 1 / 7), 7, 1.0, normalize=None).tolist() == [1, 1, 1]


def test_beta_0_corrects_nothing() -> None:
    for normalize in ("buffer", "batch", None):
        assert of_buffer(chances(1.0), 0, normalize=normalize).tolist() == [1, 1, 1, 1]


def test_sizes_may_differ_within_a_batch() -> None:
    # As with max_times_sampled, where items leave in the middle of it.
    found = importance_weights([0.5, 0.5], [4, 2], 1.0, normalize="batch")
    assert found.tolist() == [0.5, 1.0]
    assert importance_weights([0.5, 0.5], [4, 2], 1.0, min_probability=0.5).tolist() == [1, 1]


def test_extremes_stay_positive_and_finite() -> None:
    p = np.array([5e-324, 1e-200, 1.0])
    for normalize in ("buffer", "batch", None):
        found = of_buffer(p, 1.0, normalize=normalize)
        assert np.isfinite(found).all()
        assert (found > 0).all()
    assert of_buffer(p, 1.0)[0] == 1


def test_probabilities_may_have_been_rounded() -> None:
    p = chances(0.6)
    found = of_buffer(p.astype(np.float32), 1.0, min_probability=np.nextafter(p.min(), 1))
    assert found.max() <= 1


def test_an_empty_batch_has_no_weights() -> None:
    for normalize in ("buffer", "batch", None):
        found = importance_weights([], [], 1.0, normalize=normalize, min_probability=0.5)
        assert (found.shape, found.dtype) == ((0,), np.float32)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"beta": -0.1}, InvalidArgumentError, r"beta: found -0.1, wanted 0"),
        ({"beta": 1.1}, InvalidArgumentError, r"beta: found 1.1"),
        ({"beta": float("nan")}, InvalidArgumentError, r"beta: found nan"),
        ({"beta": "0.4"}, TypeError, r"beta: found '0.4'"),
        ({"beta": None}, TypeError, r"beta: found None"),
        ({"normalize": "max"}, InvalidArgumentError, r"normalize: found 'max'"),
        ({"min_probability": None}, InvalidArgumentError, r"min_probability: found None"),
        ({"min_probability": 0.0}, InvalidArgumentError, r"min_probability: found 0.0"),
        ({"min_probability": 0.2}, InvalidArgumentError, r"at most 0.1, the smallest"),
        (
            {"min_probability": float("nan")},
            InvalidArgumentError,
            r"min_probability: found nan",
        ),
        ({"probability": [0.1, 0.0]}, InvalidArgumentError, r"probability\[1\]: found 0.0"),
        ({"probability": [1.5, 0.1]}, InvalidArgumentError, r"probability\[0\]: found 1.5"),
        ({"probability": [np.nan]}, InvalidArgumentError, r"probability\[0\]: found nan"),
        ({"probability": 0.5}, InvalidArgumentError, r"probability: found .*shape \[B\]"),
        ({"probability": ["a"]}, InvalidArgumentError, r"probability: found"),
        ({"table_size": 0}, InvalidArgumentError, r"table_size: found 0.0"),
        ({"table_size": [4, 4]}, InvalidArgumentError, r"table_size: found .* for 4 prob"),
        ({"table_size": np.nan}, InvalidArgumentError, r"table_size: found nan"),
        ({"table_size": "four"}, InvalidArgumentError, r"table_size: found"),
    ],
)
def test_what_makes_no_weights_is_refused(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments = {"probability": chances(1.0), "table_size": 4, "beta": 1.0}
    arguments |= {"min_probability": 0.1} | changes
    with pytest.raises(error, match=words):
        importance_weights(**arguments)


def test_the_priority_of_a_sequence() -> None:
    assert_allclose(sequence_priorities([[1, 2, 5]]), [4.766667], atol=5e-7)
    assert_allclose(sequence_priorities([[-1, 2, -5]]), [4.766667], atol=5e-7)
    assert_allclose(sequence_priorities([[1, 2, 5]], eta=0.0), [8 / 3])
    assert_allclose(sequence_priorities([[1, 2, 5], [0, 0, 3]], eta=1), [5, 3])


def test_steps_that_are_masked_count_neither_for_the_mean_nor_for_the_largest() -> None:
    td = [[1, 2, 5, 99], [7, 4, 99, np.nan]]
    for mask in ([[1, 1, 1, 0], [1, 1, 0, 0]], [[True, True, True, False], [1, 1, 0, 0]]):
        found = sequence_priorities(td, np.array(mask))
        assert_allclose(found, [4.766667, 0.9 * 7 + 0.1 * 5.5], atol=5e-7)
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    "planted",
    [
        lambda td, mask: 0.9 * td.max(axis=1) + 0.1 * td.mean(axis=1),  # whatever the mask
        lambda td, mask: (td * mask).mean(axis=1),  # the mean alone
        lambda td, mask: 0.9 * (td * mask).max(axis=1) + 0.1 * (td * mask).mean(axis=1),
    ],
)
def test_priorities_of_padding_are_found_out(planted: Any) -> None:
    td, mask = np.array([[1.0, 2, 5, 9]]), np.array([[1, 1, 1, 0]])

    def priorities(of: Any) -> None:
        assert_allclose(of(td, mask), [4.766667], atol=5e-7)

    priorities(sequence_priorities)
    with pytest.raises(AssertionError):
        priorities(planted)


def test_no_sequences_have_no_priorities() -> None:
    assert sequence_priorities(np.zeros((0, 5))).shape == (0,)


@pytest.mark.parametrize(
    ("td", "mask", "eta", "words"),
    [
        ([1.0, 2.0], None, 0.9, r"td: found .*wanted real numbers of shape \[B, T\]"),
        ([["a"]], None, 0.9, r"td: found"),
        ([[1.0, np.nan]], None, 0.9, r"td\[0, 1\]: found nan"),
        ([[1.0, -np.inf]], None, 0.9, r"td\[0, 1\]: found inf"),
        ([[1.0], [2.0]], [[1], [0]], 0.9, r"mask\[1\]: found no step that counts"),
        ([[1.0], [2.0]], [1, 1], 0.9, r"mask: found .*\(2, 1\)"),
        ([[1.0]], [[2]], 0.9, r"mask: found"),
        ([[1.0]], [[0.5]], 0.9, r"mask: found"),
        (np.zeros((2, 0)), None, 0.9, r"mask\[0\]: found no step"),
        ([[1.0]], None, 1.5, r"eta: found 1.5"),
        ([[1.0]], None, float("nan"), r"eta: found nan"),
    ],
)
def test_what_makes_no_priority_is_refused(td: Any, mask: Any, eta: float, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        sequence_priorities(td, mask, eta)


def test_a_schedule_is_a_line_with_exact_ends() -> None:
    beta = LinearSchedule(0.4, 1.0, steps=1000)
    assert (beta(-5), beta(0), beta(1000), beta(10**9)) == (0.4, 0.4, 1.0, 1.0)
    assert beta(500) == pytest.approx(0.7)
    assert beta(float("inf")) == 1.0
    down = LinearSchedule(1, 0, 4)
    assert [down(n) for n in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]


@pytest.mark.parametrize("ends", [(0.4, 0.4), (0.1, 0.7), (0.7, 0.1), (1.0, 1.0)])
def test_a_schedule_never_leaves_its_range(ends: tuple[float, float]) -> None:
    schedule = LinearSchedule(*ends, 997)
    assert all(min(ends) <= schedule(n) <= max(ends) for n in range(1000))


def test_a_schedule_is_a_value() -> None:
    one = LinearSchedule(0.4, 1, steps=10)
    same, other = LinearSchedule(0.4, 1.0, 10), LinearSchedule(0.4, 1.0, 11)
    assert (one, hash(one), repr(one)) == (same, hash(same), repr(same)) != (other, 0, "")
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.start = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((float("nan"), 1.0, 10), InvalidArgumentError),
        ((0.4, float("inf"), 10), InvalidArgumentError),
        ((0.4, 1.0, 0), InvalidArgumentError),
        ((0.4, 1.0, 1.5), TypeError),
        (("0.4", 1.0, 10), TypeError),
    ],
)
def test_a_schedule_that_is_none_is_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        LinearSchedule(*arguments)
    with pytest.raises(InvalidArgumentError, match="step: found NaN"):
        LinearSchedule(0, 1, 10)(float("nan"))
