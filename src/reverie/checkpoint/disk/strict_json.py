"""JSON from a file that nobody vouches for: parsed within limits, read by type.

Python's parser takes NaN, `1e400`, duplicate keys, lone surrogates and any
depth. Here all of these are refused, with the place named.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import NoReturn

import numpy as np

from reverie.checkpoint.disk.scratch import BLOCK

MAX_NBYTES = 16 << 20
MAX_DEPTH = 32
MAX_VALUES = 1 << 18  # each may take 300 bytes of memory, however short it is

_U64 = re.compile("0|[1-9][0-9]{0,19}")


class MalformedError(ValueError):
    """Where in the document, what was found, what was wanted. Never leaves this package."""

    def __init__(self, path: str, found: object, wanted: str) -> None:
        super().__init__(f"{path[:200]} is {repr(found)[:200]}, expected {wanted}")


def parse(raw: bytes) -> object:
    """Parses one JSON document.

    Raises:
        MalformedError: it is not JSON; not ASCII; larger than 16 MiB, deeper than
            32 or longer than 2**18 values; or holds a duplicate key, NaN,
            an infinity, a lone surrogate or an integer of more than 20 digits.
    """
    if len(raw) > MAX_NBYTES:
        raise MalformedError("the document", f"{len(raw)} bytes", f"at most {MAX_NBYTES}")
    if not raw.isascii():
        raise MalformedError("the document", "not ASCII", "ASCII, other characters escaped")
    if count_values(raw) > MAX_VALUES:
        raise MalformedError("the document", "too many values", f"at most {MAX_VALUES}")
    depth = nesting_depth(raw)
    if depth > MAX_DEPTH:
        raise MalformedError("the document", f"nested {depth} deep", f"at most {MAX_DEPTH}")
    try:
        value = json.loads(
            raw.decode("ascii"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError("the document", str(error), "JSON") from error
    if b"\\u" in raw or b"\\U" in raw:
        _refuse_surrogates(value)
    return value


def count_values(raw: bytes) -> int:
    """At least as many as there are in a document, and hardly more."""
    return 1 + sum(raw.count(mark) for mark in (b",", b"[", b"{"))


def nesting_depth(raw: bytes) -> int:
    """The deepest nesting of brackets outside strings, in one linear pass.

    Bounded memory; meant for before parsing, so that the parser's recursion
    cannot be exhausted. Text that is not JSON gives some number.
    """
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, deepest, odd = 0, 0, 0
    for start in range(0, len(plain), BLOCK):
        block = np.frombuffer(plain, np.uint8, min(BLOCK, len(plain) - start), start)
        quotes = np.cumsum(block == ord('"')) + odd
        step = np.isin(block, (ord("["), ord("{"))).astype(np.int64)
        step -= np.isin(block, (ord("]"), ord("}")))
        level = depth + np.cumsum(np.where(quotes % 2, 0, step))
        depth, deepest, odd = (
            int(level[-1]),
            max(deepest, int(level.max())),
            int(quotes[-1] % 2),
        )
    return deepest


def take_object(value: object, path: str, keys: Collection[str]) -> dict[str, object]:
    """`value` as an object with exactly these keys."""
    if not isinstance(value, dict):
        raise MalformedError(path, value, "an object")
    if value.keys() != set(keys):
        extra = sorted(value.keys() - set(keys))
        missing = sorted(set(keys) - value.keys())
        found = f"with unknown keys {extra}, without {missing}"
        raise MalformedError(path, found, f"exactly the keys {sorted(keys)}")
    return value


def take_list(value: object, path: str) -> list[object]:
    """`value` as a list."""
    if not isinstance(value, list):
        raise MalformedError(path, value, "a list")
    return value


def take_int(value: object, path: str, low: int, high: int) -> int:
    """`value` as an integer in low..high; true, 1.0 and "1" are none."""
    if type(value) is not int or not low <= value <= high:
        raise MalformedError(path, value, f"an integer from {low} to {high}")
    return value


def take_bool(value: object, path: str) -> bool:
    """`value` as true or false."""
    if type(value) is not bool:
        raise MalformedError(path, value, "true or false")
    return value


def take_str(value: object, path: str, *, pattern: str = "(?s:.*)", limit: int = 1000) -> str:
    """`value` as a string of at most `limit` characters that matches in full."""
    if not isinstance(value, str) or len(value) > limit or not re.fullmatch(pattern, value):
        matching = "" if pattern == "(?s:.*)" else f" matching {pattern}"
        raise MalformedError(path, value, f"a string{matching} of at most {limit} characters")
    return value


def take_u64(value: object, path: str) -> int:
    """`value`, a decimal string, as an integer below 2**64."""
    text = take_str(value, path, limit=20)
    if not _U64.fullmatch(text) or int(text) >= 1 << 64:
        raise MalformedError(path, value, "a decimal string below 2**64")
    return int(text)


def take_float(value: object, path: str) -> float:
    """`value`, a number or one of "inf" and "-inf", as a float."""
    if value in ("inf", "-inf"):
        return float(str(value))
    if type(value) not in (int, float) or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise MalformedError(path, value, 'a number, "inf" or "-inf"')
    return float(value)  # type: ignore[arg-type]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise MalformedError("the key", key, "it once")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedError("a number", text, "a finite one")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedError("a number", text, "a finite one")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20:
        raise MalformedError("a number", text, "at most 20 digits")
    return int(text)


def _refuse_surrogates(value: object) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise MalformedError("a string", value, "no lone surrogate") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_surrogates(key)
            _refuse_surrogates(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_surrogates(inner)
