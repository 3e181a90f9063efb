"""What the format leaves room for: segments with gaps, and named parts."""

from __future__ import annotations

import errno
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint_support import (
    Snapshot,
    TableSnapshot,
    contents,
    failing,
    key,
    load,
    records,
    save,
    snapshot,
    text,
)
from tests.hostile.damage_support import Files, MemoryFileSystem, files_of, forge, rewritten

from reverie.checkpoint import list_checkpoints, open_source, verify
from reverie.checkpoint.format import reader
from reverie.checkpoint.format.chunks import together
from reverie.errors import CheckpointCorruptError, CheckpointReadError, CheckpointVersionError

IDS = (3, 5, 7, 9)


def living(*ids: int) -> Snapshot:
    """Chunks without a stream, an item on each, and a text beside."""
    chunks = [records(number, number + 1) for number in IDS if number in ids]
    items = [(key(i), chunk.chunk_id, 1, 3, 1.0, 0) for i, chunk in enumerate(chunks)]
    return Snapshot([*chunks, text(12, b"text")], [TableSnapshot(items), TableSnapshot([])])


def with_gaps(root: Path, ids: tuple[int, ...]) -> Files:
    """A checkpoint of some chunks, as if it had linked a segment that holds all of them."""
    linked = files_of(save(root / "linked", living(*IDS)))
    own = files_of(save(root / "own", living(*ids)))
    files = {name: data for name, data in linked.items() if not name.startswith("items-")}
    files |= {name: data for name, data in own.items() if name.startswith("items-")}

    def drop(document: dict, made: Files) -> None:
        mine = json.loads(own["manifest.json"])["manifest"]
        document["tables"], entries = mine["tables"], mine["files"]
        document["files"] |= {n: e for n, e in entries.items() if n.startswith("items-")}
        alive = lambda rows: rows[np.isin(rows["id"], [*ids, 12])]  # noqa: E731
        rewritten("chunks.npy", alive)(document, made)

    return forge(files, drop)


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize("ids", [(5, 7, 9), (3, 7, 9), (3, 5, 7), (5,), (3, 9)], ids=str)
def test_a_segment_in_which_chunks_died_loads(
    tmp_path: Path, ids: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK_NBYTES", block)
    fs = MemoryFileSystem(with_gaps(tmp_path, ids))
    told: list[tuple[int, int]] = []
    found = load(Path("memory"), fs=fs, progress=lambda *done: told.append(done))
    assert found == contents(living(*ids))
    report = verify(Path("memory"), fs=fs)
    assert (report.num_chunks, told[-1]) == (len(ids) + 1, (report.nbytes, report.nbytes))


def test_bytes_in_gaps_are_nobodys(tmp_path: Path) -> None:
    files = with_gaps(tmp_path, (3, 9))
    name = "segment-00000001-00000.npy"
    start = files[name].index(b"\n") + 1 + 4 * 21
    raw = bytearray(files[name])
    raw[start : start + 14 * 21] = b"\xff" * (14 * 21)
    fs = MemoryFileSystem({**files, name: bytes(raw)})
    assert load(Path("memory"), fs=fs) == contents(living(3, 9))
    raw[start - 1] ^= 1
    with pytest.raises(CheckpointCorruptError, match="chunk 3, is damaged: its CRC-32"):
        load(Path("memory"), fs=MemoryFileSystem({**files, name: bytes(raw)}))


def test_an_error_while_leaving_a_gap_out_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "ckpt-00000001"
    folder.mkdir()
    for name, data in with_gaps(tmp_path, (3, 9)).items():
        (folder / name).write_bytes(data)
    fs = failing(10**9, errno.EIO)
    assert load(folder, fs=fs) == contents(living(3, 9))
    (k,) = [k for k, (name, _, _) in enumerate(fs.calls) if name == "skip"]
    with pytest.raises(CheckpointReadError, match=r"segment-.*failed"):
        load(folder, fs=failing(k, errno.EIO))


def test_neighbours_go_together_up_to_a_limit_and_a_larger_one_alone() -> None:
    sizes = np.array([1, 2, 9, 3, 4, 1, 0, 0, 8, 8], np.int64)
    found = list(together(sizes, 8))
    assert found == [(0, 2), (2, 3), (3, 8), (8, 9), (9, 10)]
    assert list(together(np.zeros(0, np.int64), 8)) == []
    assert list(together(np.zeros(3, np.int64), 8)) == [(0, 3)]


def with_part(root: Path, *, required: bool, data: bytes = b"anything") -> Path:
    """A checkpoint to which a later library has added a part with a file."""
    folder = save(root, snapshot())
    name = "part-later-x.npy"

    def add(document: dict, files: Files) -> None:
        part = {"required": required, "files": [name], "data": {"more": [1, 2.5, None]}}
        document["parts"]["later"] = part
        document["files"][name] = {"nbytes": len(data), "crc32": f"{zlib.crc32(data):08x}"}
        files[name] = data

    for file, raw in forge(files_of(folder), add).items():
        (folder / file).write_bytes(raw)
    return folder


def test_an_unknown_optional_part_is_kept_out_of_the_way(tmp_path: Path) -> None:
    folder = with_part(tmp_path, required=False)
    told: list[tuple[int, int]] = []
    assert load(folder, progress=lambda *done: told.append(done)) == contents(snapshot())
    report = verify(folder)
    assert (report.extra_files, told[-1]) == ((), (report.nbytes, report.nbytes))


def test_an_unknown_required_part_is_a_matter_of_the_version(tmp_path: Path) -> None:
    folder = with_part(tmp_path, required=True)
    for act in (open_source, verify):
        with pytest.raises(CheckpointVersionError, match="part 'later'"):
            act(folder)


@pytest.mark.parametrize("damage", ["byte", "cut", "gone"])
def test_the_files_of_an_unknown_part_are_checked(tmp_path: Path, damage: str) -> None:
    folder = with_part(tmp_path, required=False)
    file = folder / "part-later-x.npy"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"anythinG" if damage == "byte" else b"anythin")
    with pytest.raises(CheckpointCorruptError, match="part-later-x"):
        verify(folder)
    if damage == "byte":
        assert load(folder) == contents(snapshot())  # nobody reads it
    else:
        with pytest.raises(CheckpointCorruptError, match="part-later-x"):
            load(folder)


def test_a_checkpoint_with_unknown_parts_is_removed_when_it_is_too_old(tmp_path: Path) -> None:
    old = with_part(tmp_path, required=False)
    save(tmp_path)
    newest = save(tmp_path, max_to_keep=1)
    assert not old.exists()
    assert list_checkpoints(tmp_path) == [newest]


def test_a_checkpoint_with_an_unknown_required_part_stays(tmp_path: Path) -> None:
    later = with_part(tmp_path, required=True)
    newest = save(tmp_path, max_to_keep=1)
    assert list_checkpoints(tmp_path) == [later, newest]
