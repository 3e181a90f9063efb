"""A save under errors at every file-system call: never a false success, never a loss."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoint_support import (
    WatchedFileSystem,
    contents,
    failing,
    load,
    newest_contents,
    num_calls,
    save,
    snapshot,
)

from reverie.checkpoint import find_newest, list_checkpoints, verify
from reverie.checkpoint.disk import crc_file as streams
from reverie.checkpoint.disk.files import FileSystem
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointReadError,
    CheckpointWriteError,
)

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = snapshot(1), snapshot(2)
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def leftovers(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if p.name.startswith((".tmp-", ".trash-"))]


def check_fault(root: Path, fs: FileSystem) -> bool:
    """Saves through a faulty file system and checks what must hold; was it a success?"""
    save(root, OLD, max_to_keep=1)
    old = find_newest(root)
    failure = None
    try:
        path = save(root, NEW, max_to_keep=1, fs=fs)
    except CheckpointWriteError as error:
        failure = error
    if failure is not None:
        assert failure.errno
        assert "Earlier checkpoints are intact" in str(failure)
        assert repr(str(root))[:50] in str(failure)
        assert load(old) == contents(OLD)
        # Only where the root's own fsync failed is it there at all, and then it is whole.
        assert newest_contents(root) in (contents(OLD), contents(NEW))
    else:
        assert load(path) == contents(NEW)
        assert find_newest(root) == path
    for folder in list_checkpoints(root):
        verify(folder)
    assert load(save(root, snapshot(3), max_to_keep=1)) == contents(snapshot(3))
    assert leftovers(root) == []
    assert len(list_checkpoints(root)) == 1
    return failure is None


@pytest.mark.parametrize(
    ("number", "for_ever"),
    [(errno.ENOSPC, False), (errno.EIO, False), (errno.EACCES, False), (errno.ENOSPC, True)],
)
def test_an_error_at_every_call(
    tmp_path: Path, number: int, for_ever: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    total = num_calls(tmp_path / "count")
    published = False
    for k in range(total):
        fs = failing(k, number, for_ever=for_ever)
        success = check_fault(tmp_path / str(k), fs)
        name, path, _ = fs.calls[k]
        # Before the draft only the search for leftovers may fail silently, and after the
        # publication only retention and letting go of the lock.
        first_listing = name == "names" and "names" not in {call[0] for call in fs.calls[:k]}
        silent = published or (first_listing and not for_ever)
        assert success == silent, (k, name, path)
        published |= name == "fsync_dir" and path == tmp_path / str(k)
    assert published


@pytest.mark.parametrize("size", [1, 7])
def test_short_writes_are_continued(tmp_path: Path, size: int) -> None:
    class Short(FileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            return super().write(fd, data[:size])

    assert load(save(tmp_path, NEW, fs=Short())) == contents(NEW)


def test_short_reads_are_continued(tmp_path: Path) -> None:
    class Short(FileSystem):
        def read_into(self, fd: int, buffer: memoryview) -> int:
            return super().read_into(fd, buffer[:3])

    assert load(save(tmp_path, NEW), fs=Short()) == contents(NEW)


def test_a_write_that_takes_nothing_is_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    class Stuck(FileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            return 0

    with pytest.raises(CheckpointWriteError, match="wrote nothing"):
        save(tmp_path, fs=Stuck())


def test_a_short_write_that_is_taken_for_a_whole_one_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: a writer that ignores how many bytes the system took."""

    class Short(WatchedFileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            return FileSystem.write(self, fd, data[: max(1, len(data) // 2)])

    monkeypatch.setattr(streams, "write_all", lambda fs, fd, data: fs.write(fd, data))
    with pytest.raises(CheckpointCorruptError):
        check_fault(tmp_path, Short())


def test_a_write_that_only_claims_to_have_happened_is_caught(tmp_path: Path) -> None:
    """Sabotage: a file system that loses every write and says nothing."""

    class Lying(WatchedFileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            return len(data)

    with pytest.raises(CheckpointCorruptError):
        check_fault(tmp_path, Lying())


def test_an_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    class Full(FileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            if len(data) < 33:
                return super().write(fd, data)  # the lock file
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CheckpointWriteError, match=r"segment-.*No space.*ENOSPC") as caught:
        save(tmp_path, fs=Full())
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EACCES, errno.EMFILE], ids=errno.errorcode.get
)
def test_an_error_while_reading_is_no_damage(tmp_path: Path, number: int) -> None:
    folder = save(tmp_path, NEW)
    fs = WatchedFileSystem()
    load(folder, fs=fs)
    for k, (name, _, _) in enumerate(fs.calls):
        if name in {"close", "close_folder"}:
            assert load(folder, fs=failing(k, number)) == contents(NEW)
            continue
        with pytest.raises(CheckpointReadError) as caught:
            load(folder, fs=failing(k, number))
        assert caught.value.errno == number


def test_a_failing_read_leaves_no_descriptor_open(tmp_path: Path) -> None:
    folder = save(tmp_path, NEW)
    fs = WatchedFileSystem()
    load(folder, fs=fs)
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    for k in range(len(fs.calls)):
        try:
            load(folder, fs=failing(k, errno.EIO))
        except CheckpointReadError:
            pass
    after = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    assert after == before


def test_an_interruption_removes_the_draft(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    save(tmp_path, OLD)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, NEW, progress=stop)
    assert leftovers(tmp_path) == []
    assert newest_contents(tmp_path) == contents(OLD)


def test_a_root_that_cannot_be_made_is_an_early_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fs = WatchedFileSystem()
    with pytest.raises(CheckpointWriteError, match="Not a directory"):
        save(tmp_path / "file" / "root", fs=fs)
    assert "open_new" not in {name for name, _, _ in fs.calls}


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_that_cannot_be_written_is_an_early_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointWriteError, match=r"\.reverie\.lock.*EACCES"):
        save(tmp_path)
    tmp_path.chmod(0o700)


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


KILL = """
import os, sys
from pathlib import Path
from tests.checkpoint_support import *
root = Path(sys.argv[1])
save(root, snapshot(1), max_to_keep=1)
warm = num_calls(root, max_to_keep=1)
def kill(k):
    return lambda index, name, act: os._exit(9) if index == k else act()
acknowledged, unloadable = 1, 0
for k in range(10_000):
    child = os.fork()
    if child == 0:
        save(root, snapshot(k), max_to_keep=1, fs=WatchedFileSystem(kill(k)))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = newest_contents(root)
    # In flight: the one before, or the new one. Acknowledged: the new one.
    if k:
        assert found == contents(snapshot(k)) or (status == 9 and found == last), k
    last = found
    if status == 0:
        break
assert k >= 30, k
print(k, sorted(p.name[:5] for p in root.iterdir()))
"""


@POSIX
def test_a_kill_at_every_call_loses_no_checkpoint_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    calls, names = run(KILL, tmp_path).split(" ", 1)
    assert int(calls) >= 30
    assert names == "['.reve', 'ckpt-']\n"


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from tests.checkpoint_support import *
from reverie.errors import CheckpointWriteError
root = Path(sys.argv[1])
old = save(root, snapshot(1), max_to_keep=None)
largest = max(p.stat().st_size for p in old.iterdir())
failed = passed = 0
def set_limit(nbytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))
for limit in range(0, largest + 10, int(sys.argv[2])):
    set_limit(limit)
    try:
        path = save(root, snapshot(2), max_to_keep=1)
    except CheckpointWriteError:
        path, failed = None, failed + 1
    set_limit(resource.RLIM_INFINITY)
    if path is None:
        assert load(old) == newest_contents(root) == contents(snapshot(1)), limit
        assert sorted(p.name for p in root.iterdir()) == [".reverie.lock", "ckpt-00000001"]
    else:
        passed += 1
        assert limit >= largest and load(path) == contents(snapshot(2))
print(failed, passed)
"""


@POSIX
def test_a_disk_that_is_full_after_any_number_of_bytes(tmp_path: Path) -> None:
    failed, passed = map(int, run(FILE_LIMIT, tmp_path, 11).split())
    assert failed > 150
    assert passed >= 1
