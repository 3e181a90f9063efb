"""Writes the Reverb fixtures anew: checkpoints, and what Reverb says is in them.

Run it with Python 3.11 and `pip install "tf-agents[reverb]==0.19.0"`, which pins
dm-reverb 0.14 (Linux x86-64 only):

    python tests/golden/make_reverb_fixtures.py [case ...]

Every case becomes a folder `tests/golden/reverb/<case>/` with the files of one
checkpoint and `expected.npz`. The expected contents are what a Reverb server
answers after it was restarted from that folder: its table infos, and all items,
sampled one by one. Nothing of Reverie takes part. With the case "smart_buildings"
only `tests/golden/smart_buildings/expected.npz` is written, from the checkpoint
that is there. The cases stand in `reverb_cases.py`.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import reverb
import tensorflow as tf
import tree
from reverb.platform import checkpointers_lib
from reverb_cases import CASES, table  # beside this file

GOLDEN = pathlib.Path(__file__).parent
FILES = ("tables.tfrecord", "items.tfrecord", "chunks.tfrecord", "DONE")


def _server(tables: list[reverb.Table], root: str) -> reverb.Server:
    checkpointer = checkpointers_lib.DefaultCheckpointer(root)
    return reverb.Server(tables, port=None, checkpointer=checkpointer)


def _drain(client: reverb.Client, name: str, size: int) -> Iterator[Any]:
    """Every item of a table once, in the order in which the sampler gives them."""
    for _ in range(size):
        if name == "brain":  # The other client cannot return bfloat16.
            sample = reverb.TFClient(client.server_address).sample(name, [tf.bfloat16])
            sample = tree.map_structure(lambda value: value.numpy(), sample)
            sample = sample._replace(data=[sample.data[0][None].view(np.uint16)])
        else:
            (sample,) = client.sample(name, 1, emit_timesteps=False)
        yield sample
        client.mutate_priorities(name, deletes=[int(sample.info.key)])


def _expected(client: reverb.Client) -> dict[str, np.ndarray]:
    """Asks a server for everything, in plain arrays.

    The steps of a column are one flat array, items one after another; their shapes
    are in the infos.
    """
    infos: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, info in client.server_info(timeout=30).items():
        samples = list(_drain(client, name, info.current_size))
        limiter = info.rate_limiter_info
        signature = None
        if info.signature is not None:
            signature = [
                (
                    "/".join(map(str, path)),
                    leaf.dtype.name,
                    None if leaf.shape.rank is None else leaf.shape.as_list(),
                )
                for path, leaf in tree.flatten_with_path(info.signature)
            ]
        infos.append(
            {
                "name": name,
                "max_size": info.max_size,
                "max_times_sampled": info.max_times_sampled,
                "sampler": _selector(info.sampler_options),
                "remover": _selector(info.remover_options),
                "samples_per_insert": limiter.samples_per_insert,
                "min_diff": limiter.min_diff,
                "max_diff": limiter.max_diff,
                "min_size_to_sample": limiter.min_size_to_sample,
                "insert_count": limiter.insert_stats.completed,
                "sample_count": limiter.sample_stats.completed,
                "num_deleted_episodes": info.num_deleted_episodes,
                "num_unique_samples": info.num_unique_samples,
                "signature": signature,
            }
        )
        arrays[f"{name}/keys"] = np.array([s.info.key for s in samples], np.uint64)
        arrays[f"{name}/priorities"] = np.array([s.info.priority for s in samples], np.float64)
        # Each was sampled once more just now.
        arrays[f"{name}/times_sampled"] = np.array(
            [s.info.times_sampled - 1 for s in samples], np.int64
        )
        rows = [list(map(np.asarray, sample.data)) for sample in samples]
        infos[-1]["shapes"] = [[value.shape for value in row] for row in rows]
        for column, values in enumerate(zip(*rows, strict=True)):
            if values[0].dtype.kind != "O":  # Texts are there only to be refused.
                arrays[f"{name}/{column}"] = np.concatenate([v.ravel() for v in values])
    return {"infos": np.array(json.dumps(infos)), **arrays}


def _selector(options: Any) -> list[Any]:
    kind = options.WhichOneof("distribution")
    if kind == "heap":
        return ["min_heap" if options.heap.min_heap else "max_heap", None]
    exponent = options.prioritized.priority_exponent if kind == "prioritized" else None
    return [kind, exponent]


def _capture(tables: list[reverb.Table], folder: pathlib.Path, out: pathlib.Path) -> None:
    """Restarts a server from a checkpoint and saves what it says."""
    with tempfile.TemporaryDirectory() as root:
        copy = pathlib.Path(root, "checkpoint")
        shutil.copytree(folder, copy)
        server = _server(tables, root)
        np.savez_compressed(out, **_expected(reverb.Client(f"localhost:{server.port}")))
        server.stop()


def make(name: str) -> None:
    """Writes one case."""
    if name == "smart_buildings":
        here = GOLDEN / name
        (folder,) = (here / "initial_exploration_buffer").iterdir()
        _capture([table("uniform_table")], folder, here / "expected.npz")
        return
    tables, fills = CASES[name]
    out = GOLDEN / "reverb" / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as root:
        for fill in fills:
            server = _server(tables(), root)
            client = reverb.Client(f"localhost:{server.port}")
            fill(client)
            saved = pathlib.Path(client.checkpoint())
            server.stop()
        for file in FILES:
            shutil.copyfile(saved / file, out / file)
    _capture(tables(), out, out / "expected.npz")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*CASES, "smart_buildings"]:
        make(wanted)
        print("wrote", wanted)
