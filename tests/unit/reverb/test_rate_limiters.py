"""Rate limiters: their numbers, what they refuse, their arithmetic in Python and the core."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import _core
from reverie.reverb import item_selectors, rate_limiters
from reverie.reverb.server import Server, Table
from reverie.tables.limiters import Limiter as RateLimiter

MAX = sys.float_info.max


def numbers(limiter: rate_limiters.RateLimiter) -> tuple[float, int, float, float]:
    own = limiter.internal_limiter
    return own.samples_per_insert, own.min_size_to_sample, own.min_diff, own.max_diff


@pytest.mark.parametrize(
    ("limiter", "wanted"),
    [
        (rate_limiters.MinSize(3), (1, 3, -MAX, MAX)),
        (rate_limiters.MinSize(np.int64(3)), (1, 3, -MAX, MAX)),
        (rate_limiters.SampleToInsertRatio(2.0, 5, 10.0), (2, 5, 0, 20)),
        (rate_limiters.SampleToInsertRatio(1.0, 5, (2, 8)), (1, 5, 2, 8)),
        (rate_limiters.SampleToInsertRatio(1, 1, math.inf), (1, 1, -math.inf, math.inf)),
        (rate_limiters.Queue(7), (1, 1, 0, 7)),
        (rate_limiters.Stack(7), (1, 1, 0, 7)),
    ],
)
def test_the_numbers_are_reverbs(
    limiter: rate_limiters.RateLimiter, wanted: tuple[float, int, float, float]
) -> None:
    assert numbers(limiter) == wanted


def test_a_limiter_shows_itself_as_in_reverb() -> None:
    assert repr(rate_limiters.MinSize(3)) == (
        "RateLimiter(samples_per_insert=1, min_diff_=-1.79769e+308, max_diff=1.79769e+308, "
        "min_size_to_sample=3)"
    )


@pytest.mark.parametrize(
    ("make", "quoted"),
    [
        (lambda: rate_limiters.MinSize(0), r"min_size_to_sample \(0\)"),
        (lambda: rate_limiters.SampleToInsertRatio(0, 1, 1), r"samples_per_insert \(0\)"),
        (lambda: rate_limiters.SampleToInsertRatio(1, 0, 1), r"min_size_to_sample \(0\)"),
        (
            lambda: rate_limiters.SampleToInsertRatio(2, 1, 1),
            r"error_buffer \(1\) is too small",
        ),
        (
            lambda: rate_limiters.SampleToInsertRatio(1, 1, (5, 9)),
            r"error_buffer \(\(5, 9\)\) is above",
        ),
        (lambda: rate_limiters.SampleToInsertRatio(1, 1, (1, 2, 3)), "error_buffer: found"),  # type: ignore[arg-type]
        (lambda: rate_limiters.RateLimiter(1.0, 0, 0, 1), r"min_size_to_sample \(0\)"),
        (lambda: rate_limiters.RateLimiter(-1.0, 1, 0, 1), r"samples_per_insert \(-1.0\)"),
        (lambda: rate_limiters.RateLimiter(math.nan, 1, 0, 1), r"samples_per_insert \(nan\)"),
        (lambda: rate_limiters.RateLimiter(1.0, 1, math.nan, 1), "min_diff is NaN"),
        (lambda: rate_limiters.RateLimiter(1.0, 1, 0, math.nan), "max_diff is NaN"),
        (lambda: rate_limiters.RateLimiter(1.0, 1, math.inf, 1), "no sample pass, ever"),
    ],
)
def test_what_could_never_work_is_refused_in_words_that_quote_it(
    make: Callable[[], Any], quoted: str
) -> None:
    with pytest.raises(ValueError, match=quoted):
        make()


def test_words_hold_no_limit_that_no_count_reaches() -> None:
    for made, words in [
        (rate_limiters.MinSize(5), "at least 5 items to sample"),
        (
            rate_limiters.Queue(3),
            "at least 1 items to sample, inserts * 1 - samples >= 0 and <= 3",
        ),
        (
            RateLimiter(2.0, 1, 1.0, math.inf),
            "at least 1 items to sample, inserts * 2 - samples >= 1",
        ),
    ]:
        limiter = made if isinstance(made, RateLimiter) else made.internal_limiter
        assert limiter.in_words() == words
    with pytest.raises(ValueError, match="the largest float") as caught:
        RateLimiter(1.0, 1, MAX, math.inf)
    assert "e+308" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rate_limiters.MinSize(1.5),  # type: ignore[arg-type]
        lambda: rate_limiters.MinSize("1"),  # type: ignore[arg-type]
        lambda: rate_limiters.RateLimiter("1", 1, 0, 1),  # type: ignore[arg-type]
        lambda: rate_limiters.SampleToInsertRatio(1, 1, None),  # type: ignore[arg-type]
    ],
)
def test_wrong_types_are_type_errors(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        make()


def test_a_buffer_that_one_thread_alone_would_wait_in_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rate_limiters.SampleToInsertRatio(1, 10, (7, 12))
    assert caplog.messages == []
    rate_limiters.SampleToInsertRatio(1, 10, (5, 9))
    assert "error_buffer ((5, 9)) is below" in caplog.messages[0]


LIMITERS = st.builds(
    RateLimiter,
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(1, 6),
    st.sampled_from([-MAX, -math.inf, -2.0, 0.0, 3.5]),
    st.sampled_from([0.0, 3.5, 12.0, math.inf]),
)
COUNTS = st.integers(0, 12)


def disagreements(limiter: RateLimiter, python: Any) -> list[tuple[str, int]]:
    """Where the limiter's arithmetic in the core, in an empty table, is not `python`'s."""
    table = _core.Store().create_table(
        max_size=100,
        sampler=_core.FIFO,
        remover=_core.FIFO,
        min_size_to_sample=limiter.min_size_to_sample,
        samples_per_insert=limiter.samples_per_insert,
        min_diff=limiter.min_diff,
        max_diff=limiter.max_diff,
        seed=1,
    )
    counts = {"inserts": 0, "samples": 0, "deletes": 0}
    return [
        (name, n)
        for name in ("can_sample", "can_insert")
        for n in range(1, 15)
        if getattr(table, name)(n) != getattr(python, name)(n, **counts)
    ]


@given(LIMITERS)
def test_before_a_server_takes_a_table_its_answers_are_the_cores(limiter: RateLimiter) -> None:
    assert disagreements(limiter, limiter) == []


def test_the_comparison_sees_a_limiter_that_is_off_by_one() -> None:
    class OffByOne(RateLimiter):
        def can_insert(self, n: int, **counts: int) -> bool:
            return super().can_insert(n + 1, **counts)

    limiter = RateLimiter(1.0, 1, 0.0, 5.0)
    assert disagreements(limiter, OffByOne(1.0, 1, 0.0, 5.0)) == [("can_insert", 5)]


@given(LIMITERS, COUNTS, COUNTS, COUNTS, st.integers(1, 5))
def test_the_arithmetic_is_the_contracts(
    limiter: RateLimiter, inserts: int, samples: int, deletes: int, n: int
) -> None:
    counts = {"inserts": inserts, "samples": samples, "deletes": deletes}
    size, ratio = inserts - deletes, limiter.samples_per_insert
    assert limiter.can_sample(n, **counts) == (
        size >= limiter.min_size_to_sample and inserts * ratio - samples - n >= limiter.min_diff
    )
    assert limiter.can_insert(n, **counts) == (
        size + n <= limiter.min_size_to_sample
        or (inserts + n) * ratio - samples <= limiter.max_diff
    )


def test_one_limiter_may_serve_two_tables() -> None:
    shared = rate_limiters.MinSize(1)
    tables = [
        Table(name, item_selectors.Fifo(), item_selectors.Fifo(), 5, shared) for name in "ab"
    ]
    server = Server(tables)
    assert [table.info.rate_limiter_info.min_size_to_sample for table in tables] == [1, 1]
    server.stop()
