"""`reverie demo`: real experience, a checkpoint, a new process, a trained agent.

1. This process balances a pole with a random policy, the baseline, and adds every
   step to a `reverie.ReplayBuffer`; then it saves a checkpoint and closes (`collect`).
2. A new process opens the checkpoint and trains an agent from batches of three-step
   transitions, drawn by their errors, while the agent's own steps go into the same
   buffer (`train`).
3. A table and a picture say what came of it (`report`).

Nothing here is imported before the command runs, so `reverie --help` is quick
and needs no extra.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reverie.runtime.optional import install_command

_QUICK_HELP = "a run of seconds that learns little: to see that everything works"


def add_command(commands: Any) -> None:
    """Adds `demo` to the subparsers of an argparse parser."""
    parser = commands.add_parser(
        "demo",
        help="collect, save, load, train: a minute on a laptop",
        description=(
            "Collects experience in CartPole, saves a checkpoint, opens it in a new "
            "process, trains an agent from sampled batches, and shows what came of it. "
            f"Needs: {install_command('demo')}"
        ),
    )
    parser.add_argument(
        "--seed",
        type=_whole_number(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="of everything random; the same seed gives the same run (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=_whole_number(1000, 10**7),
        metavar="N",
        help="environment steps to collect at most (default: 20000; with --quick 2000)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reverie-demo"),
        metavar="DIR",
        help="folder for checkpoint, numbers and picture (default: ./%(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help=_QUICK_HELP)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from reverie.cli.demo.command import run
    from reverie.cli.demo.settings import Settings

    make = Settings.quick if args.quick else Settings
    chosen = {} if args.steps is None else {"steps": args.steps}
    return run(make(out=str(args.out.resolve()), seed=args.seed, **chosen))


def _whole_number(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"found {text!r:.200}, wanted a whole number from {low} to {high}"
            )
        return value

    return parse
