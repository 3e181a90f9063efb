"""The manifest: round trips, its schema, and the strict JSON beneath."""

from __future__ import annotations

import copy
import json
import math
import time
import zlib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.checkpoint_support import save, settings

from reverie.checkpoint.disk import strict_json
from reverie.checkpoint.format.decode import decode_manifest
from reverie.checkpoint.format.manifest import KIND, TableSettings, encode_manifest, frame
from reverie.errors import CheckpointCorruptError, CheckpointVersionError

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "manifest.schema.json").read_text("utf-8")
)


@pytest.fixture
def raw(tmp_path: Path) -> bytes:
    return (save(tmp_path) / "manifest.json").read_bytes()


@pytest.fixture
def document(raw: bytes) -> dict:
    return json.loads(raw)["manifest"]


def encoded(document: object) -> bytes:
    return frame(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def test_decoding_and_encoding_gives_the_same_bytes(raw: bytes, document: dict) -> None:
    assert encode_manifest(decode_manifest(raw, "m")) == raw == encoded(document)


def test_the_frame_is_json_and_its_crc_covers_the_inner_bytes(raw: bytes) -> None:
    outer = json.loads(raw)
    inner = raw[raw.index(b'"manifest":') + 11 : -2]
    assert outer["crc32"] == f"{zlib.crc32(inner):08x}"
    assert outer["manifest"]["kind"] == KIND


def test_real_output_fits_the_schema(raw: bytes) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(raw), SCHEMA)


# Where in the document, and what to put there. Schema and parser must both refuse it.
BOTH_REFUSE = [
    (("kind",), "other"),
    (("format_version",), 0),
    (("format_version",), True),
    (("format_version",), "1"),
    (("sequence_number",), 0),
    (("sequence_number",), -1),
    (("sequence_number",), 1.5),
    (("sequence_number",), 10**15),
    (("saved_at",), None),
    (("saved_at",), "x" * 101),
    (("library_version",), 1),
    (("columns",), {}),
    (("columns", 0, "dtype"), "O"),
    (("columns", 0, "dtype"), ">f4"),
    (("columns", 0, "dtype"), "|S0"),
    (("columns", 0, "shape"), [-1]),
    (("columns", 0, "shape"), [2**40]),
    (("columns", 0, "shape"), [True]),
    (("columns", 0, "shape"), [3.5]),
    (("columns", 0, "shape"), [1] * 33),
    (("columns", 0, "path"), ""),
    (("columns", 0, "extra"), 1),
    (("tables",), None),
    (("tables", 0, "rng_state"), ["0" * 16] * 3),
    (("tables", 0, "rng_state", 0), "0x00000000000000"),
    (("tables", 0, "rng_state", 0), "G" * 16),
    (("tables", 0, "counters", "inserts"), 5),
    (("tables", 0, "counters", "inserts"), "-5"),
    (("tables", 0, "counters", "inserts"), "05"),
    (("tables", 0, "counters", "extra"), "5"),
    (("tables", 0, "settings", "max_size"), 0),
    (("tables", 0, "settings", "max_size"), 2**53),
    (("tables", 0, "settings", "min_diff"), "infinity"),
    (("tables", 0, "settings", "min_diff"), None),
    (("tables", 0, "settings", "max_times_sampled"), -1),
    (("tables", 0, "settings", "name"), 3),
    (("tables", 0, "settings", "extra"), 3),
    (("tables", 0, "items"), None),
    (("chunks", 0, "id"), 3),
    (("chunks", 0, "id"), "3.0"),
    (("chunks", 0, "offset"), -1),
    (("chunks", 0, "offset"), 2**63),
    (("chunks", 0, "count"), 0),
    (("chunks", 0, "count"), 2**32),
    (("chunks", 0, "sealed"), 1),
    (("chunks", 0, "extra"), 1),
    (("files",), []),
    (("files", "items-0.npy", "crc32"), "0"),
    (("files", "items-0.npy", "crc32"), 0),
    (("files", "items-0.npy", "crc32"), "ABCDEF01"),
    (("files", "items-0.npy", "nbytes"), 0),
    (("files", "items-0.npy", "shape"), [1, 1]),
    (("files", "items-0.npy", "shape"), [-1]),
    (("files", "items-0.npy", "dtype"), "object"),
    (("files", "items-0.npy", "extra"), 1),
    (
        ("files", "../items-0.npy"),
        {"nbytes": 1, "crc32": "00000000", "dtype": "item", "shape": [0]},
    ),
    (("extra",), 1),
]

# What only the parser can see: how the parts agree.
ONLY_THE_PARSER = [
    (("chunks", 0, "id"), str(2**63)),
    (("tables", 0, "rng_state"), ["0" * 16] * 4),
    (("tables", 0, "counters", "samples"), str(2**63)),
    (("columns", 1, "path"), "step"),
    (("columns", 0, "shape"), [2**30]),
    (("tables", 0, "items"), "items-1.npy"),
    (("tables", 0, "free"), None),
    (("tables", 0, "spans"), "items-0.npy"),
    (("tables", 0, "settings", "max_size"), 3),
    (("tables", 1, "settings", "name"), "windows"),
    (("chunks", 0, "segment"), "items-0.npy"),
    (("chunks", 0, "segment"), "segment-00000009-00000.npy"),
    (("files", "items-0.npy", "nbytes"), 10),
    (("files", "items-0.npy", "nbytes"), 2**53 - 1),
    (("files", "items-0.npy", "shape"), [2**40]),
    (("files", "items-0.npy", "dtype"), "key"),
]


def changed(document: dict, path: tuple, value: object) -> dict:
    document = copy.deepcopy(document)
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


@pytest.mark.parametrize(("path", "value"), BOTH_REFUSE + ONLY_THE_PARSER, ids=str)
def test_one_wrong_value_is_refused(document: dict, path: tuple, value: object) -> None:
    with pytest.raises(CheckpointCorruptError, match=r"malformed.*expected"):
        decode_manifest(encoded(changed(document, path, value)), "m")


@pytest.mark.parametrize(("path", "value"), BOTH_REFUSE, ids=str)
def test_the_schema_refuses_it_too(document: dict, path: tuple, value: object) -> None:
    outer = {"crc32": "00000000", "manifest": changed(document, path, value)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(outer, SCHEMA)


@pytest.mark.parametrize(
    "name", sorted(json.loads(json.dumps(SCHEMA["$defs"]["manifest"]["required"])))
)
def test_every_missing_key_is_refused(document: dict, name: str) -> None:
    del document[name]
    with pytest.raises(CheckpointCorruptError):
        decode_manifest(encoded(document), "m")


def test_a_newer_version_says_both_versions(document: dict) -> None:
    newer = {**document, "format_version": 2, "something": "new", "library_version": "9.0"}
    with pytest.raises(CheckpointVersionError, match=r"version 2.*'9\.0'.*up to 1"):
        decode_manifest(encoded(newer), "m")


def test_the_same_key_twice_is_refused(raw: bytes) -> None:
    inner = raw[raw.index(b'"manifest":') + 11 : -2]
    with pytest.raises(CheckpointCorruptError, match="'kind', expected it once"):
        decode_manifest(frame(inner[:-1] + b',"kind":"reverie-checkpoint"}'), "m")


def test_whitespace_around_the_frame_is_refused(raw: bytes) -> None:
    for odd in (b" " + raw, raw + b"\n", raw[:-1], raw.replace(b'":"', b'": "', 1)):
        with pytest.raises(CheckpointCorruptError, match="damaged or cut"):
            decode_manifest(odd, "m")


def test_text_from_the_file_is_quoted_and_cut_in_messages(document: dict) -> None:
    evil = "\x1b[2J" + "x" * 10_000
    with pytest.raises(CheckpointCorruptError) as caught:
        decode_manifest(encoded(changed(document, ("columns", 0, "dtype"), evil)), "m")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [0.1, 1e300, -1e-300, 3.0, math.inf, -math.inf])
def test_floats_of_settings_come_back_exactly(tmp_path: Path, value: float) -> None:
    first = settings("windows", min_diff=value, max_diff=-value)
    raw = (save(tmp_path, tables=(first, settings("b"))) / "manifest.json").read_bytes()
    back = decode_manifest(raw, "m").tables[0].settings
    assert isinstance(back, TableSettings)
    assert (back.min_diff, back.max_diff) == (value, -value)


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
        b"[" + b"0," * (strict_json.MAX_VALUES + 1) + b"0]",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_strict_json_refuses(text: bytes) -> None:
    with pytest.raises(strict_json.MalformedError):
        strict_json.parse(text)


def test_strict_json_refuses_a_document_that_is_too_large() -> None:
    with pytest.raises(strict_json.MalformedError, match="at most 67108864"):
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


def test_a_large_document_is_refused_or_parsed_quickly() -> None:
    before = time.monotonic()
    for text in (b'"' + b"\\a" * 10**7, b'"' * 10**7, b"\\" * 10**7, b'{"a":1,' * 10**6):
        with pytest.raises(strict_json.MalformedError):
            strict_json.parse(text)
    assert time.monotonic() - before < 10
