"""A server of Reverie in a process of its own: `python -m tests.tf_agents.wire_server`.

Prints its port. What it reads from standard input it evaluates, with `server` and
`tables` at hand, and prints; it stops at the end of that, when the test is gone.
"""

from __future__ import annotations

import argparse
import sys
import threading

import numpy as np

from reverie import reverb
from reverie.nests.codec import TensorSpec


def tables() -> list[reverb.Table]:
    """Of each kind one."""
    fifo, uniform = reverb.selectors.Fifo(), reverb.selectors.Uniform()
    always = reverb.rate_limiters.MinSize(1)
    return [
        reverb.Table("t", fifo, fifo, 1000, always),
        reverb.Table("u", uniform, fifo, 100_000, always),
        reverb.Table("p", reverb.selectors.Prioritized(1.0), fifo, 1000, always),
        reverb.Table.queue("q", 3),
        reverb.Table.queue("log", 100_000),
        reverb.Table(
            "s", fifo, fifo, 1000, always, signature={"a": TensorSpec((None, 2), np.float32)}
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--folder")
    given = parser.parse_args()
    checkpointer = None
    if given.folder:
        checkpointer = reverb.checkpointers.DefaultCheckpointer(given.folder)
    server = reverb.Server(tables(), given.port, checkpointer)
    print(server.port, flush=True)
    names = {"server": server, "tables": server._server.tables, "reverb": reverb, "np": np}

    def obey() -> None:
        for line in sys.stdin:
            try:
                print(repr(eval(line, names)), flush=True)
            except Exception as error:
                print(repr(error), flush=True)
        server.stop()

    threading.Thread(target=obey, daemon=True).start()
    server.wait()


if __name__ == "__main__":
    main()
