"""Random programs on dm-reverb and on Reverie: what they show is the same, step by step.

REVERIE_DIFFERENTIAL_SEEDS=1000:1100 runs other seeds than the usual ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tensorflow", reason="needs TensorFlow")

from tests.tf_agents.differential import twins  # noqa: E402
from tests.tf_agents.differential.generate import THEMES, generate  # noqa: E402
from tests.tf_agents.differential.observe import Raised, first_difference  # noqa: E402
from tests.tf_agents.differential.runner import WOULD_WAIT, run  # noqa: E402

from reverie import reverb as ours  # noqa: E402

PROGRAMS = 120  # of each theme
BLOCK = 20


def blocks() -> list[range]:
    first, last = 0, PROGRAMS
    if given := os.environ.get("REVERIE_DIFFERENTIAL_SEEDS"):
        first, last = map(int, given.split(":"))
    return [range(n, min(n + BLOCK, last)) for n in range(first, last, BLOCK)]


CASES = [(theme, seeds) for theme in THEMES for seeds in blocks()]


@pytest.mark.parametrize(
    ("theme", "seeds"), CASES, ids=[f"{theme}-{seeds[0]}" for theme, seeds in CASES]
)
def test_programs_show_what_they_show_on_reverb(
    theme: str, seeds: range, tmp_path: Path
) -> None:
    for seed in seeds:
        program = generate(seed, theme)
        theirs = run(reverb, program, tmp_path / f"theirs{seed}")
        mine = run(ours, program, tmp_path / f"ours{seed}")
        found = first_difference(program.ops, theirs, mine)
        assert found is None, (
            f"theme {theme}, seed {seed}, operation {found.index}: {found.op}\n"
            f"Reverb:  {found.first}\nReverie: {found.second}\n\n"
            f"The program until then:\n{program.text(found.index)}"
        )


@pytest.mark.parametrize("theme", THEMES)
def test_reverb_itself_gives_the_same_answers_twice(theme: str, tmp_path: Path) -> None:
    # Else a program would ask for something that Reverb leaves to chance.
    for seed in range(8):
        program = generate(seed, theme)
        one = run(reverb, program, tmp_path / f"one{seed}")
        two = run(reverb, program, tmp_path / f"two{seed}")
        assert first_difference(program.ops, one, two) is None


@pytest.mark.parametrize("theme", THEMES)
def test_programs_do_something(theme: str, tmp_path: Path) -> None:
    # Most operations succeed, and every kind of operation of the theme does.
    done: dict[str, list[bool]] = {}
    for seed in range(15):
        program = generate(seed, theme)
        results = run(ours, program, tmp_path / str(seed))
        for op, shown in zip(program.ops, results, strict=True):
            good = not isinstance(shown, Raised) and shown not in (WOULD_WAIT, [WOULD_WAIT])
            done.setdefault(op[0], []).append(good)
    assert all(map(any, done.values())), done
    flat = [good for each in done.values() for good in each]
    assert sum(flat) > 0.7 * len(flat)


@pytest.mark.parametrize("name", twins.BROKEN)
def test_a_twin_with_a_defect_is_found_out(name: str, tmp_path: Path) -> None:
    make, theme = twins.BROKEN[name]
    for seed in range(60):
        program = generate(seed, theme)
        theirs = run(reverb, program, tmp_path / f"theirs{seed}")
        mine = run(make(), program, tmp_path / f"twin{seed}")
        if first_difference(program.ops, theirs, mine) is not None:
            return
    pytest.fail(f"60 programs have not found out: {name}")


def test_a_seed_makes_the_same_program_again() -> None:
    for theme in THEMES:
        assert (
            generate(5, theme).text() == generate(5, theme).text() != generate(6, theme).text()
        )
