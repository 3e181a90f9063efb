"""The `reverie` command.

`reverie demo` shows the whole library at work; `reverie --help` lists the rest.
Exit codes: 0 all went well, 1 it failed (one message on stderr, no traceback),
2 the arguments are wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from reverie._version import __version__
from reverie.cli import demo
from reverie.errors import ReverieError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 or 130.

    Raises:
        SystemExit: from argparse, after `--help` or `--version` (code 0), or for
            wrong arguments (code 2).
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 0
    try:
        return int(args.run(args))
    except (ReverieError, OSError) as error:
        print(f"reverie: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reverie: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reverie", description="Experience replay for reinforcement learning."
    )
    parser.add_argument("--version", action="version", version=f"reverie {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo.add_command(commands)
    return parser
