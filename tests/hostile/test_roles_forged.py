"""Roles in a manifest that do not fit its steps: a typed error, never another buffer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.checkpoint.format.decode import decode_manifest
from reverie.checkpoint.format.manifest import encode_manifest
from reverie.errors import CheckpointCorruptError

VIEW = {"kind": "transitions", "n_step": 1, "gamma": 1.0}
SEQUENCES = {"kind": "sequences", "length": 3, "burn_in": 0, "stride": 1, "once": []}
FORGED: list[dict[str, Any]] = [
    {"view": {"kind": "nothing"}},
    {"view": {"kind": ["a"]}},
    {"view": {}},
    {"view": {**VIEW, "n_step": -1}},
    {"view": {**VIEW, "n_step": None}},
    {"view": {**VIEW, "gamma": "nan"}},
    {"view": {**VIEW, "more": 1}},
    {"view": {**SEQUENCES, "length": "a"}},
    {"view": {**SEQUENCES, "length": 1e300}},
    {"view": {**SEQUENCES, "once": ["unknown"]}},
    {"view": {**SEQUENCES, "once": 3}},
    {"state": []},
    {"state": ["unknown"]},
    {"state": "observation"},
    {"observation": "action"},
    {"action": "unknown"},
    {"reward": "unknown"},
    {"reward": 3},
    {"autoreset": "unknown"},
    {"version": "unknown"},
    {"version": "reward"},
    {"version": "observation"},
    {"updatable": ["unknown"]},
    {"updatable": ["observation"]},
    {"updatable": ["action", "action"]},
    {"version": "action", "updatable": ["action"]},
    {"more": 1},
]


@pytest.mark.parametrize("forged", FORGED, ids=repr)
def test_forged_roles_are_refused(forged: dict[str, Any], tmp_path: Path) -> None:
    buffer = reverie.ReplayBuffer(
        {
            "observation": reverie.ArraySpec((), np.float32),
            "action": reverie.ArraySpec((), np.int64),
            "reward": reverie.ArraySpec((), np.float32),
        },
        9,
    )
    buffer.add(0, 0, 0.0, 1, False, False)
    path = buffer.save(path=tmp_path)
    assert path is not None
    manifest = decode_manifest((path / "manifest.json").read_bytes(), "here")
    part: Any = manifest.parts["roles"]
    data = {"replay_buffer": {**part.data["replay_buffer"], **forged}}
    parts = {"roles": dataclasses.replace(part, data=data)}
    raw = encode_manifest(dataclasses.replace(manifest, parts=parts))
    assert reverie.open(tmp_path).steps().action.tolist() == [0]
    (path / "manifest.json").write_bytes(raw)
    with pytest.raises(CheckpointCorruptError, match="roles"):
        reverie.open(tmp_path)
