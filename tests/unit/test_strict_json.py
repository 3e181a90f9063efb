"""JSON that nobody vouches for: what is refused, and within which limits."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.checkpoint.disk import strict_json


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nul",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"1" * 21,
        b"1" * 5000,
        b'{"a":1,"a":1}',
        b'{"x":[{"a":1,"a":2}]}',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        '"\u00fc"'.encode(),
        b"\xff",
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[1] [2]",
        b"[1,]",
        b"{'a':1}",
        b"[" + b"0," * strict_json.MAX_VALUES + b"0]",
        b"[" + b"[]," * (strict_json.MAX_VALUES // 2) + b"0]",
        b"[" + b"{}," * (strict_json.MAX_VALUES // 2) + b"0]",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_strict_json_refuses(text: bytes) -> None:
    with pytest.raises(strict_json.MalformedError):
        strict_json.parse(text)


def test_strict_json_refuses_a_document_that_is_too_large() -> None:
    with pytest.raises(strict_json.MalformedError, match="at most 16777216"):
        strict_json.parse(b" " * (strict_json.MAX_NBYTES + 1))


def test_strict_json_takes_what_is_allowed() -> None:
    text = (
        b'{"a":[1,-2.5,true,null,"\\ud83d\\ude00\\\\\\"[[{"],"b":'
        + b"[" * 31
        + b"]" * 31
        + b"}"
    )
    assert strict_json.parse(text)["a"] == [1, -2.5, True, None, '\U0001f600\\"[[{']


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def _depth(value: object) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return int(isinstance(value, (dict, list))) + max((_depth(v) for v in inner), default=0)


@given(_JSON)
def test_the_nesting_depth_is_that_of_the_parsed_value(value: object) -> None:
    assert strict_json.nesting_depth(json.dumps(value).encode()) == _depth(value)


def test_the_nesting_depth_is_carried_over_blocks() -> None:
    filler = b'"' + b"[" * (1 << 20) + b'",'
    assert strict_json.nesting_depth(b"[[" + filler * 2 + b"[[[0]]]]]") == 5


@pytest.mark.xdist_group("alone")
def test_a_large_document_is_refused_or_parsed_quickly() -> None:
    before = time.monotonic()
    for text in (b'"' + b"\\a" * 10**7, b'"' * 10**7, b"\\" * 10**7, b'{"a":1,' * 10**6):
        with pytest.raises(strict_json.MalformedError):
            strict_json.parse(text)
    assert time.monotonic() - before < 10
