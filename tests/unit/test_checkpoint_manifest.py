"""The manifest: round trips, its schema, and the strict JSON beneath."""

from __future__ import annotations

import copy
import functools
import json
import math
import zlib
from pathlib import Path
from typing import get_args

import jsonschema
import numpy as np
import pytest
from tests.checkpoint_support import save, settings

import reverie
from reverie import samplers
from reverie.checkpoint import open_source
from reverie.checkpoint.format.decode import decode_manifest
from reverie.checkpoint.format.manifest import KIND, encode_manifest, frame
from reverie.errors import CheckpointCorruptError, CheckpointVersionError
from reverie.nests.codec import TensorSpec
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import (
    Initial,
    PrioritizedSelector,
    SelectorKind,
    UniformSelector,
    selector_of,
)
from reverie.tables.settings import TableSettings

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
    (("layouts",), {}),
    (("layouts", 0, "extra"), 1),
    (("layouts", 0, "columns"), []),
    (("layouts", 0, "columns", 0), ["a", "|b1"]),
    (("layouts", 0, "columns", 0), ["a", "|b1", [], 1]),
    (("layouts", 0, "columns", 0, 1), "O"),
    (("layouts", 0, "columns", 0, 1), ">f4"),
    (("layouts", 0, "columns", 0, 1), "|S0"),
    (("layouts", 0, "columns", 0, 2), [-1]),
    (("layouts", 0, "columns", 0, 2), [2**40]),
    (("layouts", 0, "columns", 0, 2), [True]),
    (("layouts", 0, "columns", 0, 2), [3.5]),
    (("layouts", 0, "columns", 0, 2), [1] * 32),
    (("layouts", 0, "columns", 0, 0), ""),
    (("segments",), None),
    (("segments", 0, "layout"), -1),
    (("segments", 0, "layout"), "0"),
    (("segments", 0, "sealed"), 1),
    (("segments", 0, "file"), "items-0.npy"),
    (("segments", 0, "extra"), 1),
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
    (("tables", 0, "settings", "min_size_to_sample"), 0),
    (("tables", 0, "settings", "sampler"), "prioritized"),
    (("tables", 0, "settings", "sampler"), "best"),
    (("tables", 0, "settings", "min_diff"), "infinity"),
    (("tables", 0, "settings", "min_diff"), None),
    (("tables", 0, "settings", "max_times_sampled"), -1),
    (("tables", 0, "settings", "sequence_length"), 0),
    (("tables", 0, "settings", "sequence_length"), 2**32),
    (("tables", 0, "settings", "sequence_length"), "2"),
    (("tables", 0, "settings", "name"), 3),
    (("tables", 0, "settings", "extra"), 3),
    (("tables", 0, "items"), None),
    (("tables", 0, "free"), 0),
    (("tables", 0, "holes"), 0),
    (("tables", 0, "holes"), "../holes-0.npy"),
    (("parts",), []),
    (("parts", "Capital"), {"required": False, "files": [], "data": 0}),
    (("parts", "a"), {"required": 0, "files": [], "data": 0}),
    (("parts", "a"), {"required": False, "files": [], "data": 0, "more": 1}),
    (("parts", "a"), {"required": False, "files": ["items-0.npy"], "data": 0}),
    (("parts", "a"), {"required": False, "files": ["part-a-../b.npy"], "data": 0}),
    (("files",), []),
    (("files", "items-0.npy", "crc32"), "0"),
    (("files", "items-0.npy", "crc32"), 0),
    (("files", "items-0.npy", "crc32"), "ABCDEF01"),
    (("files", "items-0.npy", "nbytes"), 0),
    (("files", "items-0.npy", "count"), -1),
    (("files", "items-0.npy", "count"), [4]),
    (("files", "items-0.npy", "extra"), 1),
    (("files", "segment-00000001-00000.npy", "crc32"), "00000000"),
    (("files", "../items-0.npy"), {"nbytes": 1, "crc32": "00000000", "count": 0}),
    (("extra",), 1),
]

# What only the parser can see: how the parts agree.
ONLY_THE_PARSER = [
    (("layouts", 0, "columns", 1, 0), "step"),
    (("layouts", 0, "columns", 1, 2), [2**30]),
    (("layouts", 0, "columns", 0, 1), "bytes"),
    (("layouts", 2, "columns", 0, 2), [1]),
    (("segments", 0, "layout"), 3),
    (("segments", 0, "layout"), 1),
    (("segments", 0, "file"), "segment-00000009-00000.npy"),
    (("tables", 0, "rng_state"), ["0" * 16] * 4),
    (("tables", 0, "counters", "samples"), str(2**63)),
    (("tables", 0, "items"), "items-1.npy"),
    (("tables", 0, "free"), None),
    (("tables", 0, "holes"), None),
    (("tables", 0, "holes"), "holes-1.npy"),
    (("tables", 1, "holes"), "holes-1.npy"),
    (("tables", 0, "touched"), "free-0.npy"),
    (("tables", 1, "columns"), None),
    (("tables", 0, "settings", "max_size"), 3),
    (("tables", 0, "settings", "samples_per_insert"), 0),
    (("tables", 1, "settings", "name"), "windows"),
    (("parts", "a"), {"required": False, "files": ["part-b-c.npy"], "data": 0}),
    (("parts", "a"), {"required": False, "files": ["part-a-c.npy"] * 2, "data": 0}),
    (("parts", "a"), {"required": False, "files": ["part-a-c.npy"], "data": 0}),
    *(
        (("parts", "priorities"), {"required": False, "files": files, "data": data})
        for files, data in [
            (["part-priorities-x.npy"], {}),
            ([], None),
            ([], {"nobody": {"sampler": {"initial": "max", "eps": 0.0}}}),
            ([], {"windows": {"sampler": {"initial": "max", "eps": 0.0}}}),  # it is uniform
            ([], {"mixed/épisodes": {}}),
            ([], {"mixed/épisodes": {"remover": {"initial": "max", "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"limiter": {"initial": "max", "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": "max"}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": "min", "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": 0, "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": "inf", "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": [], "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": True, "eps": 0.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": 1.0, "eps": -1.0}}}),
            ([], {"mixed/épisodes": {"sampler": {"initial": 1.0, "eps": None}}}),
        ]
    ),
    (("files", "part-a-c.npy"), {"nbytes": 1, "crc32": "00000000"}),
    (("files", "items-0.npy", "nbytes"), 10),
    (("files", "items-0.npy", "nbytes"), 2**53 - 1),
    (("files", "items-0.npy", "count"), 2**40),
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
        decode_manifest(encoded(changed(document, ("layouts", 0, "columns", 0, 1), evil)), "m")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def with_settings(root: Path, **changes: object) -> TableSettings:
    """The settings of a table that was saved with these, as they come back."""
    first = settings("windows", **changes)
    return open_source(save(root, settings=(first, settings("b")))).settings["windows"]


@pytest.mark.parametrize("value", [0.1, 1e300, -1e-300, 3.0, -math.inf])
def test_floats_of_settings_come_back_exactly(tmp_path: Path, value: float) -> None:
    limiter = Limiter(0.1, 2, value, -value)
    assert with_settings(tmp_path, limiter=limiter).limiter == limiter


@pytest.mark.parametrize("kind", get_args(SelectorKind))
def test_selectors_come_back(tmp_path: Path, kind: SelectorKind) -> None:
    selector = selector_of(kind, 1 / 3 if kind == "prioritized" else None)
    sampler = UniformSelector() if selector.removes_alone else selector
    back = with_settings(tmp_path, sampler=sampler, remover=selector)
    assert (back.sampler, back.remover) == (sampler, selector)


@pytest.mark.parametrize("initial", [None, "max", 1 / 3])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_what_selectors_say_of_new_priorities_comes_back(
    tmp_path: Path, initial: Initial, eps: float
) -> None:
    selector = PrioritizedSelector(1 / 3, initial=initial, eps=eps)
    plain = PrioritizedSelector(1 / 3)
    for sampler, remover in [(selector, plain), (plain, selector), (selector, selector)]:
        back = with_settings(tmp_path, sampler=sampler, remover=remover)
        assert (back.sampler, back.remover) == (sampler, remover)


def test_a_selector_that_says_nothing_of_priorities_is_saved_as_ever(raw: bytes) -> None:
    assert b'"parts":{}' in raw


def test_a_checkpoint_that_is_saved_again_keeps_what_selectors_say(tmp_path: Path) -> None:
    selector = samplers.Prioritized(0.5, initial=2.0)
    make = functools.partial(reverie.ReplayBufferManager, {"n": np.zeros(())}, 10, tmp_path)
    with make(sampler=selector) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(3):
            observer({"n": float(n)})
        manager.save()
    for _ in range(2):
        buffer = reverie.open(tmp_path)
        assert buffer.table.settings.sampler == selector
        buffer.save()
        buffer.close()


def test_sizes_and_signatures_come_back(tmp_path: Path) -> None:
    signature = {"a": TensorSpec((None, 3), np.dtype("f4"), "a")}
    wanted = settings("windows", max_size=7, max_times_sampled=9, signature=signature)
    changes = {"max_size": 7, "max_times_sampled": 9, "signature": signature}
    assert repr(with_settings(tmp_path, **changes)) == repr(wanted)


@pytest.mark.parametrize("files", [[], ["part-later-0.npy", "part-later-x_Y.npy"]])
def test_an_unknown_optional_part_is_left_alone_and_comes_back(
    tmp_path: Path, document: dict, files: list[str]
) -> None:
    part = {"required": False, "files": files, "data": {"any": [1, None, "JSON"]}}
    document["parts"]["later"] = part
    for name in files:
        document["files"][name] = {"nbytes": 5, "crc32": "0000abcd"}
    raw = encoded(document)
    assert encode_manifest(decode_manifest(raw, "m")) == raw
    jsonschema.validate(json.loads(raw), SCHEMA)


def test_an_unknown_required_part_is_a_matter_of_the_version(document: dict) -> None:
    document["parts"]["later"] = {"required": True, "files": [], "data": None}
    with pytest.raises(CheckpointVersionError, match=r"part 'later'.*'0\.1\.0'.*newer"):
        decode_manifest(encoded(document), "m")
