"""Random programs: the same seed and theme make the same program."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.tf_agents.differential.program import Col, Config, Op, Program, TableSpec
from tests.tf_agents.differential.subject import Subject

THEMES = ("trajectory", "structured", "legacy", "checkpoint", "shuffled", "ties")
# Priorities that meet often, as ties are what heaps may get wrong.
PRIORITIES = (0.0, 1.0, 1.0, 2.0, 2.0, 3.5, 1e-3, 1e6)


def generate(seed: int, theme: str, length: int = 60) -> Program:
    """A program of about `length` operations, most of them sensible.

    All themes but "shuffled" choose items in an order that Reverb defines, so that
    every answer is defined too. In "shuffled" tables choose at random, and each hands
    every item out a fixed number of times: what comes out is defined but for the order.
    """
    return _Generator(seed, theme).program(length)


class _Generator(Subject):
    def __init__(self, seed: int, theme: str) -> None:
        super().__init__(seed, theme)
        self.ops: list[Op] = []

    def program(self, length: int) -> Program:
        self.draw()
        self.writers: dict[str, _Writer] = {}
        self._open_writers()
        weights = self._weights()
        while len(self.ops) < length:
            [name] = self.rng.choices(list(weights), list(weights.values()))
            getattr(self, f"_{name}")()
        for w in self.writers:
            self.ops.append(("flush", w)) if self.theme != "legacy" else None
        self.ops.append(("info",))
        for table in self.tables:  # what is left, at least in part
            last = ("drain", table.name)
            if self.theme != "shuffled":
                last = ("sample", table.name, 6, False, False)
            self.ops += [last, ("can", table.name, 2)]
        self.ops.append(("info",))
        return Program(self.seed, self.tables, tuple(self.ops))

    def _weights(self) -> dict[str, int]:
        if self.theme == "ties":
            return {"append": 1, "item": 10, "mutate": 12, "sample": 8, "info": 1}
        common = {"sample": 9, "mutate": 5, "info": 3, "can": 3, "insert": 2, "wait": 1}
        common |= {"reset": 1}
        if self.theme == "structured":
            return common | {"s_append": 30, "s_end": 3, "reopen": 1}
        if self.theme == "legacy":
            return common | {"legacy": 24}
        write = {"append": 12, "item": 24, "end_episode": 3, "column": 4, "steps": 2}
        write |= {"reopen": 1, "configure": 1}
        if self.theme == "checkpoint":
            return common | write | {"checkpoint": 2}
        return common | write

    # Trajectory writers.

    def _open_writers(self) -> None:
        if self.theme == "legacy":
            return
        if self.theme == "structured":
            self._open_structured("s0")
            return
        # A limited table has a writer of its own: it would hold the others' items up too.
        targets = [self.free] + [[t] for t in self.tables if t.holds_inserts_up]
        for number, own in enumerate(targets):
            self._open(f"w{number}", own)

    def _open(self, w: str, own: list[TableSpec]) -> None:
        keep = self.rng.choice((1, 2, 3, 5, 10))
        self.ops.append(("writer", w, keep, self.rng.random() < 0.8))
        # Of steps that share a chunk Reverb takes neighbours for those that were picked.
        self.ops += [("configure", w, path, keep, 1) for path in self.columns]
        self.writers[w] = _Writer(own, keep)

    def _pick_writer(self) -> tuple[str, _Writer]:
        w = self.rng.choice(list(self.writers))
        return w, self.writers[w]

    def _append(self, w: str | None = None) -> None:
        rng = self.rng
        if w is None:
            w, _ = self._pick_writer()
        writer = self.writers[w]
        step = writer.steps
        if rng.random() < 0.15:  # in two parts, with an item from the first perhaps
            early = {path for path in self.columns if rng.random() < 0.5} | {("n",)}
            self.ops.append(("append", w, self._step(step, early.__contains__), True))
            if rng.random() < 0.5:
                self._item_of(w)
            rest = self._step(step, lambda path: path not in early)
            if rng.random() < 0.1:  # refused: it is set already
                twice = {"n": self._value("int64", ())}
                self.ops.append(("append", w, twice, False))
            self.ops.append(("append", w, rest, False))
        elif rng.random() < 0.06 and writer.steps:
            self.ops.append(("append", w, self._wrong_step(), False))
        else:
            # Not the first: Reverb leaves a step out of the history before any column is there.
            some = step > 0 and rng.random() < 0.1
            part = self._step(step, lambda p: not some or rng.random() < 0.6)
            self.ops.append(("append", w, part, False))
        writer.steps += 1

    def _wrong_step(self) -> Any:
        # Alone: beside it Reverb stores the other columns of a step that it refuses.
        wrong = (np.float32(1), np.zeros(2, np.int64), 2.5, b"text", np.zeros((), "M8[s]"))
        return {"n": self.rng.choice(wrong)}

    def _item(self) -> None:
        w, _ = self._pick_writer()
        if self.rng.random() < 0.6 or not self.writers[w].steps:
            self._append(w)
        self._item_of(w)

    def _item_of(self, w: str) -> None:
        rng, writer = self.rng, self.writers[w]
        if not writer.tables:
            return
        table = rng.choice(writer.tables)
        columns: Any = {"n": Col(("n",), slice(-rng.randint(1, 3), None))}
        if table.signature is not None and rng.random() < 0.85:
            length = 2 if table.signature["n"][1] == (2,) else rng.randint(1, 3)
            columns = {"n": Col(("n",), slice(-length, None)), "last": Col(("n",), -1)}
        elif self.theme == "shuffled":  # each item other than the rest
            self._append(w)
            columns = [Col(("n",), -1), Col(("n",), slice(-1, None))]
        else:
            for path in self.columns:
                if rng.random() < 0.6 and writer.steps > self.columns[path][2]:
                    columns["/".join(path)] = self._col(path, writer)
            if rng.random() < 0.3:
                columns = list(columns.values())
        priority = rng.choice((1.0, 1.0, 2.0) if self.theme == "ties" else PRIORITIES)
        if self.theme == "checkpoint":  # Reverb's files forget the order of equal priorities
            self.written += 1
            priority = float(self.written * 7919 % 1000 + self.written / 1e6)
        self.ops.append(("item", w, table.name, priority, columns))
        self.ops.append(("flush", w))

    def _col(self, path: tuple[str, ...], writer: _Writer) -> Col:
        rng = self.rng
        n = rng.randint(1, max(1, min(writer.keep, writer.steps)))
        if rng.random() < 0.12:
            n = rng.randint(1, writer.keep + 3)  # may be gone
        pick = rng.choice(
            (
                *(slice(-n, None),) * 4,
                *(slice(None), slice(-n, None, 2), slice(None, None, -1), slice(0, n)),
                *(
                    -n,
                    -1,
                    writer.steps - n,
                    [-n, -1][: max(1, n - 1)],
                    [-n],
                    slice(-n, -1),
                    slice(None, -n),
                ),
                slice(-1, None, -n),
                slice(max(0, writer.steps - n), writer.steps),
            )
        )
        again = rng.choice((slice(None, None, 2), -1, [0])) if rng.random() < 0.1 else None
        return Col(path, pick, again)

    def _end_episode(self) -> None:
        w, writer = self._pick_writer()
        clear = self.rng.random() < 0.7
        self.ops.append(("end_episode", w, clear))
        if clear:
            writer.steps = 0

    def _column(self) -> None:
        w, writer = self._pick_writer()
        self.ops.append(("column", w, self._col(self.rng.choice(list(self.columns)), writer)))

    def _steps(self) -> None:
        self.ops.append(("steps", self._pick_writer()[0]))

    def _configure(self) -> None:
        w, writer = self._pick_writer()
        chunk = self.rng.choice((1, 1, 1, writer.keep + 1, 0))
        keep = self.rng.choice((writer.keep, writer.keep, 1, 0))
        self.ops.append(("configure", w, self.rng.choice(list(self.columns)), keep, chunk))

    def _reopen(self) -> None:
        w, writer = self._pick_writer()
        self.ops.append(("flush", w))
        if self.theme == "structured":
            self.ops.append(("close", w))
            self._open_structured(w)
        else:
            self.ops.append(("close", w))
            self._open(w, writer.tables)

    # Structured writers.

    def _open_structured(self, w: str) -> None:
        rng = self.rng
        tables = self.free
        configs = []
        for _ in range(rng.randint(1, 3)):
            pattern: Any = {}
            for path in self.columns:
                if path == ("n",) or rng.random() < 0.5:
                    n = rng.randint(1, 4)
                    pattern["/".join(path)] = Col(
                        path,
                        rng.choice((-n, slice(-n, None), slice(-n - 1, -1))),
                    )
            table = rng.choice(tables)
            if table.signature is not None:
                pattern = {"n": Col(("n",), slice(-2, None)), "last": Col(("n",), -1)}
            conditions = tuple(self._condition() for _ in range(rng.choice((0, 0, 1, 1, 2))))
            priority = rng.choice((None, 0.0, 2.5))
            configs.append(Config(table.name, pattern, conditions, priority))
        self.ops.append(("structured", w, configs, self._step(99)))
        self.writers[w] = _Writer(tables, 0)

    def _condition(self) -> tuple[Any, ...]:
        rng = self.rng
        compare = rng.choice(("eq", "ne", "gt", "ge", "lt", "le"))
        number = rng.randint(0, 4)
        kind = rng.random()
        if kind < 0.25:
            return ("end",)
        if kind < 0.5:
            return ("step_index", rng.choice(("eq", "ne")), rng.randint(0, 1), 2)
        if kind < 0.75:
            return (rng.choice(("step_index", "steps_since_applied")), compare, number, None)
        return (("n",), rng.choice(("eq", "ne")), rng.randint(0, 2), 3)

    def _s_append(self) -> None:
        rng = self.rng
        w, writer = self._pick_writer()
        full = self._step(writer.steps)
        if rng.random() < 0.1:
            self.ops.append(("s_append", w, _blank(full, lambda: rng.random() < 0.3), False))
        elif rng.random() < 0.12:
            early = _blank(full, lambda: False)
            del early["n"]
            first = {**_blank(early, lambda: True), "n": full["n"]}
            self.ops.append(("s_append", w, first, True))
            self.ops.append(("s_append", w, {**full, "n": None}, False))
        elif rng.random() < 0.03:
            wrong = {**_blank(full, lambda: True), "n": np.float32(2)}  # alone, as above
            self.ops.append(("s_append", w, wrong, False))
        elif rng.random() < 0.03:
            self.ops.append(("s_append", w, {**full, "more": np.float32(2)}, False))
        else:
            self.ops.append(("s_append", w, full, False))
        self.ops.append(("flush", w))
        writer.steps += 1

    def _s_end(self) -> None:
        self.ops.append(("s_end", self._pick_writer()[0], self.rng.random() < 0.6))

    # Legacy writers: opened, used and closed in a row.

    def _legacy(self) -> None:
        rng = self.rng
        length = rng.randint(1, 6)
        chunk = rng.choice((None, None, 1, length, length + 1, 0))
        self.ops.append(("legacy", "l", length, chunk, rng.random() < 0.5))
        if chunk in (0, length + 1):
            return
        for count in range(rng.randint(1, 6)):
            if rng.random() < 0.25:
                size = rng.randint(1, 4)
                steps = [self._step(count) for _ in range(size)]
                self.ops.append(("l_sequence", "l", _stacked(steps)))
            else:
                self.ops.append(("l_append", "l", self._step(count)))
            if rng.random() < 0.6:
                n = (
                    rng.randint(0, length + 1)
                    if rng.random() < 0.2
                    else rng.randint(1, count + 1)
                )
                priority = rng.choice(PRIORITIES)
                self.ops.append(("l_item", "l", self._name(), n, priority))
        self.ops.append(("l_close", "l"))

    # Tables.

    def _insert(self) -> None:
        if self.theme == "shuffled":
            return
        names = self.rng.sample(
            [t.name for t in self.tables], self.rng.randint(1, len(self.tables))
        )
        self.written += 1
        priorities = {name: self.rng.choice(PRIORITIES) for name in names}
        if self.theme == "checkpoint":
            priorities = {name: self.written + 0.5 + n for n, name in enumerate(names)}
        self.ops.append(("insert", self._step(99), priorities))

    def _wait(self) -> None:
        open_to_all = [table.name for table in self.tables if table.signature is None]
        if self.theme != "shuffled" and open_to_all:
            self.ops.append(("wait", self.rng.choice(open_to_all), [np.int64(self.written)]))

    def _sample(self) -> None:
        rng = self.rng
        if self.theme == "shuffled":
            return
        emit = rng.random() < 0.4
        self.ops.append(
            ("sample", self._name(), rng.choice((1, 1, 2, 5)), emit, rng.random() < 0.4)
        )

    def _mutate(self) -> None:
        rng = self.rng
        if self.theme == "shuffled":
            return
        keys = [rng.randint(-3, 12) for _ in range(rng.randint(0, 4))]
        priorities: Any = rng.choice
        updates = {key: priorities(PRIORITIES) for key in keys}
        if self.theme == "ties":
            updates = {key: rng.choice((1.0, 2.0)) for key in keys}
        if self.theme == "checkpoint":
            updates = {key: value + rng.random() for key, value in updates.items()}
        deletes = [rng.randint(-2, 12) for _ in range(rng.choice((0, 0, 1, 2)))]
        self.ops.append(("mutate", self._name(), updates, deletes))

    def _reset(self) -> None:
        self.ops.append(("reset", self._name()))

    def _info(self) -> None:
        self.ops.append(("info",))

    def _can(self) -> None:
        self.ops.append(("can", self._name(), self.rng.randint(1, 4)))

    def _checkpoint(self) -> None:
        self.ops += [("flush", w) for w in self.writers]
        self.ops += [("checkpoint",), ("restart",)]
        self._open_writers()


class _Writer:
    """What the generator remembers of a writer: its tables, and how far it is."""

    def __init__(self, tables: list[TableSpec], keep: int) -> None:
        self.tables, self.keep = tables, keep
        self.steps = 0


def _blank(nest: Any, blank: Any) -> Any:
    if isinstance(nest, dict):
        return {name: _blank(child, blank) for name, child in nest.items()}
    return None if blank() else nest


def _stacked(steps: list[Any]) -> Any:
    if isinstance(steps[0], dict):
        return {name: _stacked([step[name] for step in steps]) for name in steps[0]}
    return np.stack([np.asarray(step) for step in steps])
