"""The `reverie` command, and its demo from end to end."""

from __future__ import annotations

import dataclasses
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
from reverie.cli.demo.play import Player
from reverie.cli.demo.pole import MOST_STEPS, Pole
from reverie.cli.demo.report import shown, verdict
from reverie.cli.demo.results import Collected, Point, Sizes, Stopwatch, Trained
from reverie.cli.demo.settings import Settings, new_buffer
from reverie.sample import WeightedInfo

pytestmark = pytest.mark.xdist_group("demo")  # one process runs it, once

PACKAGES = ("matplotlib", "rich", "sklearn")


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


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "reverie", "--version"], capture_output=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (
        0,
        [b"reverie", reverie.__version__.encode()],
        b"",
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
    command = [sys.executable, "-m", "reverie", "demo", "--quick"]
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


def test_training_happens_in_another_process_that_opens_every_step(quick: Run) -> None:
    first, second = re.findall(r"Process (\d+)", quick.output)
    assert first != second
    assert quick.trained.loaded_steps == 500
    assert "ReplayBuffer(500 of 2000 steps, Transitions(n_step=3, gamma=0.99))" in quick.output


def test_the_demo_shows_sizes_times_and_both_returns(quick: Run) -> None:
    for row in ("steps", "bytes", "per add", "per batch of 512", "per update", "return of an"):
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
    assert batches[-1] == quick.trained.batches.calls == quick.trained.updates.calls == 150
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


@pytest.fixture
def played() -> Iterator[tuple[reverie.ReplayBuffer, list[float]]]:
    """200 random steps, and the returns of the episodes that ended."""
    with new_buffer(Settings.quick("out")) as buffer:
        player = Player(buffer, seed=3)
        for _ in range(200):
            player.step(None, exploration=1.0)
        yield buffer, player.returns


def test_each_episode_goes_on_where_it_was_and_ends_where_the_pole_fell(
    played: tuple[reverie.ReplayBuffer, list[float]],
) -> None:
    buffer, returns = played
    *ended, running = buffer.episodes()
    assert [float(episode["reward"].sum()) for episode in ended] == returns
    assert len(buffer) == 200
    assert not running["terminated"].any()
    for episode in ended:
        assert episode["terminated"].tolist() == [False] * (len(episode["reward"]) - 1) + [True]
        assert abs(episode["next_observation"][2]) > np.radians(12)
    assert buffer.info().broken_episodes == 0


def test_the_pole_falls_as_gymnasiums_does() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    theirs, ours = gymnasium.make("CartPole-v1").unwrapped, Pole(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = ours.reset()
        theirs.reset()
        theirs.state = np.array(ours._state)
        assert np.array_equal(first, np.array(theirs.state, np.float32))
        for _ in range(MOST_STEPS):
            action = int(rng.integers(2))
            seen, reward, terminated, truncated = ours.step(action)
            wanted = theirs.step(action)
            assert np.allclose(seen, wanted[0], rtol=1e-6, atol=1e-7)
            assert (reward, terminated, truncated) == (wanted[1], wanted[2], False)
            if terminated:
                break


def test_a_pole_that_stands_is_cut_off_after_500_steps() -> None:
    pole = Pole(seed=0)
    seen = pole.reset()
    for step in range(1, MOST_STEPS + 1):
        lean = seen[2] + 0.3 * seen[3] + 0.02 * seen[0] + 0.05 * seen[1]
        seen, _, terminated, truncated = pole.step(int(lean > 0))
        assert not terminated
        assert truncated == (step == MOST_STEPS)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the training process: small matrices, many threads, much waiting."""
    pytest.importorskip("sklearn")
    with pytest.importorskip("threadpoolctl").threadpool_limits(1):
        yield


def _batch(discount: float, weight: float = 1.0) -> reverie.Batch:
    rng = np.random.default_rng(0)
    ones = np.ones(512, np.float32)
    return reverie.Batch(
        {
            "observation": rng.normal(size=(512, 4)).astype(np.float32) / 10,
            "action": rng.integers(0, 2, 512),
            "reward": ones,
            "next_observation": rng.normal(size=(512, 4)).astype(np.float32) / 10,
            "discount": ones * np.float32(discount),
        },
        WeightedInfo(*[np.zeros(512)] * 5, ones * np.float32(weight)),  # type: ignore[arg-type]
    )


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("discount", "low", "high"), [(0.0, 0.8, 1.2), (1.0, 3.0, 100.0)])
def test_the_agent_counts_what_follows_unless_the_episode_was_over(
    discount: float, low: float, high: float
) -> None:
    from reverie.cli.demo.agent import SCALE, QAgent

    agent, data = QAgent(0), _batch(discount)
    errors = [agent.learn(data).mean() for _ in range(30)]
    values = agent._network.predict(data.observation / SCALE)
    assert low < values.mean() < high
    if discount == 0:
        assert errors[-1] < 0.2 < 0.8 < errors[0]


@pytest.mark.usefixtures("one_thread")
def test_a_frozen_agent_learns_no_more() -> None:
    from reverie.cli.demo.agent import QAgent

    agent, data = QAgent(0), _batch(1.0)
    frozen = agent.frozen()
    before = frozen._network.predict(data.observation)
    agent.learn(data)
    assert np.array_equal(frozen._network.predict(data.observation), before)
    assert not np.array_equal(agent._network.predict(data.observation), before)


@pytest.mark.usefixtures("one_thread")
def test_of_a_batch_without_weight_nothing_is_learnt() -> None:
    from reverie.cli.demo.agent import QAgent

    agent, twin = QAgent(0), QAgent(0)
    heavy, light = _batch(0.0, weight=1.0), _batch(0.0, weight=0.0)
    moved = []
    for each, batch in ((agent, heavy), (twin, light)):
        before = each._network.predict(batch.observation)
        each.learn(batch)
        moved.append(np.abs(each._network.predict(batch.observation) - before).mean())
    assert moved[1] < moved[0] / 10


@pytest.mark.parametrize(("after", "good"), [(500.0, True), (30.0, False)])
def test_an_agent_no_better_than_the_baseline_is_a_failure(after: float, good: bool) -> None:
    collected = Collected((20.0, 24.0), Sizes(0, 0), Stopwatch(), Path(), 0.0)
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
