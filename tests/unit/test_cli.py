"""The `reverie` command, and its demo from end to end."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.cli import main
from reverie.cli.demo.command import train_in_new_process
from reverie.cli.demo.report import shown, verdict
from reverie.cli.demo.results import Collected, Point, Sizes, Stopwatch, Trained
from reverie.cli.demo.settings import Settings

pytestmark = pytest.mark.xdist_group("demo")  # one process runs it, once

PACKAGES = ("gymnasium", "matplotlib", "rich", "sklearn")


def _need_extra() -> None:
    for package in PACKAGES:
        pytest.importorskip(package)


# The command line.


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (
        0,
        f"reverie {reverie.__version__}\n",
    )


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--steps", "many"], ["--steps", "999"], ["--seed", "-1"], ["--bogus"]]
)
def test_wrong_arguments_exit_with_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *wrong])
    assert stopped.value.code == 2
    assert wrong[-1] in capsys.readouterr().err


def test_the_fewest_steps_are_accepted_by_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Settings] = []

    def run(settings: Settings) -> int:
        ran.append(settings)
        return 0

    monkeypatch.setattr("reverie.cli.demo.command.run", run)
    assert main(["demo", "--steps", "1000"]) == 0
    assert (ran[0].steps, ran[0].random_steps) == (1000, 250)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_gives_the_install_command(
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "--quick", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "pip install 'reverie-replay[demo]'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_folders_place_is_an_error_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _need_extra()
    (tmp_path / "out").write_text("mine")
    assert main(["demo", "--quick", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("reverie: error: ")
    assert (tmp_path / "out").read_text() == "mine"


def test_help_imports_no_extra() -> None:
    assert _loaded_by("from reverie.cli import main; main([])") == []


def test_the_import_check_sees_a_planted_package() -> None:
    assert "numpy" in _loaded_by("import numpy", ("numpy",))


def _loaded_by(code: str, packages: tuple[str, ...] = PACKAGES) -> list[str]:
    program = f"import sys\n{code}\nprint(*(p for p in {packages} if p in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.decode().splitlines()[-1].split()


# The whole demo.


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished `reverie demo --quick`."""

    output: str
    seconds: float
    folder: Path
    trained: Trained


def _run(folder: Path, *more: str) -> Run:
    start = time.monotonic()
    command = [sys.executable, "-m", "reverie.cli", "demo", "--quick"]
    done = subprocess.run(
        [*command, "--out", str(folder), *more], capture_output=True, encoding="utf-8"
    )
    seconds = time.monotonic() - start
    assert (done.returncode, done.stderr) == (0, "")
    return Run(done.stdout, seconds, folder, Trained.read(folder / "trained.json"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Run:
    _need_extra()
    return _run(tmp_path_factory.mktemp("demo") / "new" / "out")


def test_the_demo_runs_to_its_end_without_a_warning_in_seconds(quick: Run) -> None:
    assert quick.seconds < 60  # five where nothing else runs


def test_training_happens_in_another_process_that_loads_every_item(quick: Run) -> None:
    first, second = re.findall(r"Process (\d+)", quick.output)
    assert first != second
    # 500 random steps are 500 windows but for the step still waiting for its next.
    assert quick.trained.loaded_items in (499, 500)


def test_the_demo_shows_sizes_times_and_both_returns(quick: Run) -> None:
    for row in ("items", "steps", "bytes", "per add", "per batch of 512", "return of an"):
        assert re.search(rf"{row}.* [\d,.]+ ", quick.output), row


def test_output_in_a_file_has_no_line_over_80_columns_and_no_control_codes(quick: Run) -> None:
    # The folder is as long as the user likes; it is shown relative where that is shorter.
    output = quick.output.replace(str(quick.folder), "")
    output = output.replace(os.path.relpath(quick.folder), "")
    assert [line for line in output.splitlines() if len(line) > 80] == []
    assert "\x1b" not in quick.output
    assert "\r" not in quick.output


def test_the_picture_is_a_png_of_readable_size(quick: Run) -> None:
    content = (quick.folder / "learning_curve.png").read_bytes()
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert content.startswith(b"\x89PNG")
    assert (width, height) == (1200, 675)


def test_the_curve_begins_before_the_first_batch_and_ends_after_the_last(quick: Run) -> None:
    batches = [point.batches for point in quick.trained.curve]
    assert batches[0] == 0
    assert batches[-1] == quick.trained.batches.calls == 150
    assert batches == sorted(set(batches))


def test_the_same_seed_gives_the_same_curve_in_a_used_folder(quick: Run) -> None:
    again = _run(quick.folder)
    other = _run(quick.folder, "--seed", "1")
    assert again.trained.curve == quick.trained.curve
    assert other.trained.curve != quick.trained.curve


def test_output_in_ascii_alone_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _need_extra()
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert _run(tmp_path / "out", "--steps", "1000").output.isascii()


def test_a_failed_training_process_is_told_without_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train_in_new_process(Settings.quick(str(tmp_path))) == 1
    error = capfd.readouterr().err
    assert error.startswith("reverie: error in the training process: ")
    assert "Traceback" not in error


def test_a_killed_training_process_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: Any = subprocess.CompletedProcess([], -9)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: killed)
    assert train_in_new_process(Settings.quick(str(tmp_path))) == 1
    assert "ended with code -9" in capfd.readouterr().err


# Its parts.


def _steps(count: int) -> list[reverie.Trajectory]:
    pytest.importorskip("gymnasium")
    from reverie.cli.demo.play import Player

    seen: list[reverie.Trajectory] = []
    player = Player(seen.append, seed=3)
    for _ in range(count):
        player.step(None, exploration=1.0)
    assert len(seen) == count + len(player.returns)
    return seen


def test_each_episode_is_closed_by_one_boundary_with_the_final_observation() -> None:
    seen = _steps(200)
    types = [int(step.step_type) for step in seen]
    assert types[0] == 0
    for step, following in itertools.pairwise(seen):
        assert step.next_step_type == following.step_type
    assert all(after == 0 for t, after in itertools.pairwise(types) if t == 2)


def test_discount_is_zero_only_where_the_pole_fell() -> None:
    seen = _steps(200)
    before_the_end = [int(step.next_step_type) == 2 for step in seen]
    assert any(before_the_end)
    assert [float(step.discount) == 0.0 for step in seen] == before_the_end


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the training process: small matrices, many threads, much waiting."""
    pytest.importorskip("sklearn")
    with pytest.importorskip("threadpoolctl").threadpool_limits(1):
        yield


def _batch(discount: float) -> reverie.Trajectory:
    rng = np.random.default_rng(0)
    ones: Any = np.ones((512, 2), np.float32)
    return reverie.Trajectory(
        step_type=ones.astype(np.int32),
        observation=rng.normal(size=(512, 2, 4)).astype(np.float32) / 10,
        action=rng.integers(0, 2, (512, 2)),
        policy_info=(),
        next_step_type=ones.astype(np.int32),
        reward=ones,
        discount=ones * np.float32(discount),
    )


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("discount", "low", "high"), [(0.0, 0.8, 1.2), (1.0, 3.0, 100.0)])
def test_the_agent_counts_what_follows_unless_the_episode_was_over(
    discount: float, low: float, high: float
) -> None:
    from reverie.cli.demo.agent import SCALE, QAgent

    agent, data = QAgent(0), _batch(discount)
    for _ in range(30):
        agent.learn(data)
    values = agent._network.predict(data.observation[:, 0] / SCALE)
    assert low < values.mean() < high


@pytest.mark.usefixtures("one_thread")
def test_a_frozen_agent_learns_no_more() -> None:
    from reverie.cli.demo.agent import QAgent

    agent, data = QAgent(0), _batch(1.0)
    frozen = agent.frozen()
    before = frozen._network.predict(data.observation[:, 0])
    agent.learn(data)
    assert np.array_equal(frozen._network.predict(data.observation[:, 0]), before)
    assert not np.array_equal(agent._network.predict(data.observation[:, 0]), before)


@pytest.mark.parametrize(("after", "good"), [(500.0, True), (30.0, False)])
def test_an_agent_no_better_than_the_baseline_is_a_failure(after: float, good: bool) -> None:
    collected = Collected((20.0, 24.0), Sizes(0, 0, 0), Stopwatch(), Path(), 0.0)
    trained = Trained(0, 0.0, curve=[Point(0, (after,))], returns=(after,))
    assert verdict(Settings("out"), collected, trained)[0] is good


def test_results_survive_the_way_between_the_processes(tmp_path: Path) -> None:
    trained = Trained(7, 0.5, curve=[Point(3, (1.0, 2.0))], returns=(4.0,))
    trained.adds.time(time.sleep, 0.001)
    trained.write(tmp_path / "x.json")
    assert Trained.read(tmp_path / "x.json") == trained
    settings = dataclasses.replace(Settings(str(tmp_path)), seed=5, steps=3_000)
    assert Settings.read(settings.write()) == settings


def test_a_stopwatch_gives_the_mean_of_its_calls() -> None:
    assert Stopwatch(calls=4, seconds=0.002).microseconds == pytest.approx(500.0)
    assert Stopwatch().microseconds == 0.0


def test_paths_are_shown_as_short_as_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b.png") == str(Path("a", "b.png"))
