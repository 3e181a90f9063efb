"""One process at a time saves into a folder; its threads take turns."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.checkpoint_support import contents, load, save, snapshot

from reverie.checkpoint import list_checkpoints
from reverie.checkpoint.folder import lock
from reverie.checkpoint.folder.lock import FolderLock
from reverie.errors import CheckpointLockedError, CheckpointWriteError

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs os.fork")

HOLD = """
import sys
from pathlib import Path
from tests.checkpoint_support import save
from reverie.checkpoint.folder.lock import FolderLock
mine = FolderLock(Path(sys.argv[1]))
save(Path(sys.argv[1]), lock=mine)
print("saved", flush=True)
sys.stdin.readline()
mine.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that has saved into tmp_path and still holds its lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "saved\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    with pytest.raises(CheckpointLockedError, match=f"pid {holder.pid}") as caught:
        save(tmp_path)
    assert repr(str(tmp_path)) in str(caught.value)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["ckpt-00000001"]


def test_loading_needs_no_lock(tmp_path: Path, holder: subprocess.Popen) -> None:
    assert load(tmp_path / "ckpt-00000001") == contents(snapshot())


def test_the_folder_is_free_once_the_holder_closes(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "closed\n"
    assert save(tmp_path).name == "ckpt-00000002"


def test_the_folder_is_free_once_the_holder_is_killed(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    holder.kill()
    holder.wait()
    assert save(tmp_path).name == "ckpt-00000002"


def test_the_lock_lives_until_its_last_user_in_the_process_closes(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path / ".")
    save(tmp_path, lock=first)
    save(tmp_path, lock=second)
    first.close()
    first.close()
    assert _another_process_can_save(tmp_path) is False
    second.close()
    assert _another_process_can_save(tmp_path) is True
    assert lock._held == {}


def test_a_forgotten_share_is_given_back_by_the_garbage_collector(tmp_path: Path) -> None:
    forgotten = FolderLock(tmp_path)
    save(tmp_path, lock=forgotten)
    del forgotten
    assert _another_process_can_save(tmp_path) is True


def test_a_share_collected_while_the_guard_is_taken_is_given_back_later(tmp_path: Path) -> None:
    forgotten = FolderLock(tmp_path)
    save(tmp_path, lock=forgotten)
    with lock._guard:  # as if the collector ran inside saving(): it must not wait here
        del forgotten
        assert lock._held != {}
    FolderLock(tmp_path).close()
    assert lock._held == {}


def test_a_save_without_a_lock_of_its_own_lets_go_at_its_end(tmp_path: Path) -> None:
    save(tmp_path)
    assert lock._held == {}
    assert _another_process_can_save(tmp_path) is True


def test_closing_during_a_save_lets_go_at_the_end_of_the_save(tmp_path: Path) -> None:
    mine = FolderLock(tmp_path)
    with mine.saving():
        mine.close()
        assert _another_process_can_save(tmp_path) is False
    assert _another_process_can_save(tmp_path) is True


def _another_process_can_save(root: Path) -> bool:
    code = (
        "import sys; from pathlib import Path; from tests.checkpoint_support import save\n"
        "from reverie.errors import CheckpointLockedError\n"
        "try: save(Path(sys.argv[1]))\n"
        "except CheckpointLockedError: sys.exit(7)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT)
    assert run.returncode in {0, 7}
    return run.returncode == 0


def test_saves_of_one_process_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def one() -> None:
        mine = FolderLock(tmp_path)
        with mine.saving():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()
        mine.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert lock._held == {}


def test_parallel_saves_all_succeed(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=save, args=(tmp_path,), kwargs={"max_to_keep": None})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [load(p) for p in list_checkpoints(tmp_path)] == [contents(snapshot())] * 4


def test_a_folder_that_was_removed_and_made_again_is_locked_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    mine = FolderLock(root)
    save(root, lock=mine)
    shutil.rmtree(root)
    save(root, lock=mine)
    assert _another_process_can_save(root) is False
    mine.close()
    assert lock._held == {}


@POSIX
def test_a_forked_child_finds_the_folder_locked_by_its_parent(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from tests.checkpoint_support import save
from reverie.checkpoint.folder.lock import FolderLock
from reverie.errors import CheckpointLockedError
root = Path(sys.argv[1])
mine = FolderLock(root)
save(root, lock=mine)
child = os.fork()
if child == 0:
    try:
        save(root, lock=mine)
    except CheckpointLockedError as error:
        os._exit(7 if f"pid {os.getppid()}" in str(error) else 8)
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
save(root, lock=mine)  # the child's end has taken nothing from the parent
ready, go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go)
    os.read(ready, 1)  # outlives the parent's lock, and must not keep it
    os._exit(0)
mine.close()
save(root)
os.close(go)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)


@POSIX
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from tests.checkpoint_support import save
from reverie.checkpoint.folder.lock import FolderLock
save(Path(sys.argv[1]), lock=FolderLock(Path(sys.argv[1])))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.readline()
os._exit(0)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as parent:
        assert parent.stdout.readline() == "forked\n"
        parent.wait()
        assert save(tmp_path).name == "ckpt-00000002"
        parent.stdin.write("\n")


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(fd: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock, "_lock_file", no_locks)
    leftover = tmp_path / (".tmp-" + "0" * 32)
    leftover.mkdir()
    with caplog.at_level(logging.WARNING, "reverie.checkpoint"):
        assert load(save(tmp_path)) == contents(snapshot())
    assert "has no locks" in caplog.text
    assert leftover.exists()  # it may be another process's save under way


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_in_the_place_of_the_lock_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    root = tmp_path / "root"
    root.mkdir()
    (root / ".reverie.lock").symlink_to(target)
    with pytest.raises(CheckpointWriteError, match=r"\.reverie\.lock"):
        save(root)
    assert target.read_text() == "mine"
