"""The order of a save's calls, and what a power cut after each of them leaves.

Every rule comes with a sabotaged protocol that breaks it and must be caught.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.checkpoint_support import (
    WatchedFileSystem,
    contents,
    load,
    save,
    snapshot,
)

from reverie.checkpoint import find_newest, list_checkpoints
from reverie.checkpoint import save as saving
from reverie.checkpoint.folder import retention
from reverie.checkpoint.folder.commit import Draft
from reverie.errors import CheckpointCorruptError

OLD, NEW = snapshot(1), snapshot(2)


def trace(root: Path, fs: WatchedFileSystem | None = None) -> WatchedFileSystem:
    """The calls of a save that replaces an older checkpoint."""
    save(root, OLD, max_to_keep=1)
    fs = fs or WatchedFileSystem()
    save(root, NEW, max_to_keep=1, fs=fs)
    return fs


def check_order(root: Path, fs: WatchedFileSystem) -> None:
    calls = [call for call in fs.calls if call[1].name != ".reverie.lock"]
    publish = next(
        i
        for i, (name, _, to) in enumerate(calls)
        if name == "rename" and to.name[:5] == "ckpt-"
    )
    draft = calls[publish][1]
    before, after = calls[:publish], calls[publish + 1 :]
    files = [path for name, path, _ in before if name == "open_new"]
    assert files, "nothing was written"
    assert {path.parent for path in files} == {draft}, "a file was made outside the draft"
    assert files[-1].name == "manifest.json", "the manifest is not the last file"
    for path in files:
        own = [name for name, at, _ in before if at == path]
        assert own[-2:] == ["fsync", "close"], f"{path.name} was not made durable last"
        assert own.count("fsync") == 1, f"{path.name}: an fsync was repeated"
    last_close = max(i for i, (name, _, _) in enumerate(before) if name == "close")
    assert ("fsync_dir", draft, None) in before[last_close:], (
        "the draft's names are not durable"
    )
    removals = {"rename", "remove_in", "rmdir"}
    assert not removals & {name for name, _, _ in before}, "something was removed too early"
    durable = after.index(("fsync_dir", root, None)) if after else -1
    assert durable >= 0, "the publication is not durable"
    assert not removals & {name for name, _, _ in after[:durable]}, "removed before durable"


def _final(path: Path) -> bool:
    return path.name.startswith("ckpt-")


def test_a_save_keeps_the_order_of_the_protocol(tmp_path: Path) -> None:
    fs = trace(tmp_path)
    check_order(tmp_path, fs)
    assert "rmdir" in {name for name, _, _ in fs.calls}  # retention did take part


def test_a_new_root_is_made_durable_up_to_the_first_folder_that_was_there(
    tmp_path: Path,
) -> None:
    fs = WatchedFileSystem()
    save(tmp_path / "a" / "b", fs=fs)
    made = [(n, p) for n, p, _ in fs.calls if n in {"mkdir", "fsync_dir"}][:4]
    assert made == [
        ("mkdir", tmp_path / "a"),
        ("fsync_dir", tmp_path),
        ("mkdir", tmp_path / "a" / "b"),
        ("fsync_dir", tmp_path / "a"),
    ]


@dataclasses.dataclass
class File:
    written: bytes = b""
    safe: bytes = b""


@dataclasses.dataclass
class Folder:
    names: dict = dataclasses.field(default_factory=dict)
    safe: dict = dataclasses.field(default_factory=dict)


Disk = dict[str, dict[str, bytes]]


def disks_after(root: Path, start: Disk, fs: WatchedFileSystem, end: int) -> list[Disk]:
    """What the disk may hold if the power goes after `end` calls.

    A model of files and folders: only an fsync makes a file's bytes durable, and
    only its folder's fsync a name. What was not made durable may be there or
    not; the names in the root and those in its folders vary independently, and
    bytes are the synced ones.
    """
    top = Folder()
    for folder, files in start.items():
        top.names[folder] = Folder({name: File(data, data) for name, data in files.items()})
        top.names[folder].safe = dict(top.names[folder].names)
    top.safe = dict(top.names)
    for index, (call, path, to) in enumerate(fs.calls[:end]):
        inside = top.names.get(path.parent.name)
        if call == "mkdir":
            top.names[path.name] = Folder()
        elif call == "open_new":
            inside.names[path.name] = File()
        elif call == "write" and inside:
            inside.names[path.name].written += fs.written[index]
        elif call == "fsync":
            inside.names[path.name].safe = inside.names[path.name].written
        elif call == "rename":
            top.names[to.name] = top.names.pop(path.name)
        elif call == "remove_in":
            del inside.names[path.name]
        elif call == "rmdir":
            del top.names[path.name]
        elif call == "fsync_dir":
            folder = top if path == root else top.names[path.name]
            folder.safe = dict(folder.names)
    return [
        {
            name: {file: content.safe for file, content in inner(folder).items()}
            for name, folder in outer(top).items()
        }
        for outer, inner in itertools.product(
            (operator.attrgetter("names"), operator.attrgetter("safe")), repeat=2
        )
    ]


def check_power_cuts(root: Path, scratch: Path, fs: WatchedFileSystem | None = None) -> int:
    """Loads what each cut leaves. Acknowledged data must be there, and nothing half."""
    old = save(root, OLD, max_to_keep=1)
    start = {old.name: {file.name: file.read_bytes() for file in old.iterdir()}}
    fs = fs or WatchedFileSystem()
    save(root, NEW, max_to_keep=1, fs=fs)
    seen: list[Disk] = []
    for end in range(len(fs.calls) + 1):
        allowed = [contents(NEW)] if end == len(fs.calls) else [contents(OLD), contents(NEW)]
        for disk in disks_after(root, start, fs, end):
            if disk in seen and end < len(fs.calls):
                continue
            seen.append(disk)
            at = scratch / str(len(seen))
            for folder, files in disk.items():
                (at / folder).mkdir(parents=True)
                for name, data in files.items():
                    (at / folder / name).write_bytes(data)
            try:
                found = [load(path) for path in list_checkpoints(at)]
            except CheckpointCorruptError as error:
                raise AssertionError(f"after call {end} a checkpoint is damaged") from error
            assert found, f"after call {end} there is no checkpoint at all"
            assert found[-1] in allowed, f"after call {end} the newest is not the acknowledged"
    return len(seen)


def test_a_power_cut_after_any_call_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    assert check_power_cuts(tmp_path / "root", tmp_path / "scratch") >= 20


class NoFsync(WatchedFileSystem):
    """Sabotage: files are never made durable."""

    def fsync(self, fd: int) -> None:
        pass


class NoFolderFsync(WatchedFileSystem):
    """Sabotage: names are never made durable, in draft or root."""

    skipped = ".tmp-"

    def fsync_dir(self, path: Path) -> None:
        if not path.name.startswith(self.skipped):
            self._call("fsync_dir", (path,))


class NoRootFsync(NoFolderFsync):
    skipped = "root"


class NoTrashFsync(WatchedFileSystem):
    """Sabotage: an old checkpoint's files go before its name has surely gone."""

    def fsync_dir(self, path: Path) -> None:
        if self.calls[-1][0] != "rename" or _final(self.calls[-1][2]):
            self._call("fsync_dir", (path,))


def _rename_before_fsync(self: Draft, name: str) -> Path:
    """Sabotage: publish first, make durable later."""
    target = self._root / name
    self._fs.rename(self.folder, target)
    self._published = True
    self._fs.fsync_dir(target)
    self._fs.fsync_dir(self._root)
    return target


def _prune_first(self: Draft, name: str) -> Path:
    """Sabotage: make room before the new checkpoint is durable."""
    for path in list_checkpoints(self._root):
        trash = self._root / f".trash-{uuid.uuid4().hex}"
        self._fs.rename(path, trash)
        retention.remove_folder(trash, self._fs)
    return _ORIGINAL(self, name)


_ORIGINAL: Callable[[Draft, str], Path] = Draft.publish


def _manifest_first(self: Draft, name: str, parts: object, **more: object) -> object:
    """Sabotage: the manifest's name exists before the files that it describes."""
    if not (self.folder / "manifest.json").exists():
        _ADD(self, "manifest.json", [b""])
    if name == "manifest.json":
        return None
    return _ADD(self, name, parts, **more)


_ADD = Draft.add


@pytest.mark.parametrize("broken", [NoFsync, NoFolderFsync, NoRootFsync])
def test_the_order_check_sees_a_missing_fsync(
    tmp_path: Path, broken: type[WatchedFileSystem]
) -> None:
    root = tmp_path / "root"
    with pytest.raises((AssertionError, ValueError)):
        check_order(root, trace(root, broken()))


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("publish", _rename_before_fsync),
        ("publish", _prune_first),
        ("add", _manifest_first),
    ],
)
def test_the_order_check_sees_steps_that_changed_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable
) -> None:
    save(tmp_path, OLD)
    monkeypatch.setattr(Draft, method, broken)
    fs = WatchedFileSystem()
    save(tmp_path, NEW, max_to_keep=None, fs=fs)
    with pytest.raises(AssertionError):
        check_order(tmp_path, fs)


@pytest.mark.parametrize("broken", [NoFsync, NoFolderFsync, NoRootFsync, NoTrashFsync])
def test_the_power_cut_loses_data_where_an_fsync_is_missing(
    tmp_path: Path, broken: type[WatchedFileSystem]
) -> None:
    with pytest.raises(AssertionError, match="after call"):
        check_power_cuts(tmp_path / "root", tmp_path / "scratch", broken())


@pytest.mark.parametrize("broken", [_rename_before_fsync, _prune_first])
def test_the_power_cut_loses_data_where_steps_changed_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable
) -> None:
    save(tmp_path / "root", OLD, max_to_keep=1)
    monkeypatch.setattr(Draft, "publish", broken)
    with pytest.raises(AssertionError, match="after call"):
        check_power_cuts(tmp_path / "root", tmp_path / "scratch")


def test_retention_is_asked_for_after_the_publication_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(
        saving, "prune", lambda path, *_, **__: seen.append(find_newest(path.parent) == path)
    )
    save(tmp_path)
    assert seen == [True]
