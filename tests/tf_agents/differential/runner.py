"""Runs one program on any module that looks like `reverb`, and notes what it shows.

Two things are done at run time and not by the program. Reverb inserts items by and by,
so writers are flushed before anything is looked at; and what would wait for ever by the
table's own `can_sample` and `can_insert` is left out, and noted. Both depend on nothing
but the module's answers, so two modules that agree do the same.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tf_agents.differential.observe import Keys, Raised, canonical
from tests.tf_agents.differential.program import Col, Config, Op, Program

WOULD_WAIT = "would wait"


class LeftOut(Exception):
    """Asks for what Reverb does by a slip, and Reverie does as Python does."""


PATIENCE_S = 20.0


def run(rv: Any, program: Program, folder: Path) -> list[Any]:
    """What each operation showed; ends early where the runner itself is at a loss."""
    with Run(rv, program, folder) as session:
        return [session.do(op) for op in program.ops]


class Run:
    """A server with the program's tables, its clients and writers."""

    def __init__(self, rv: Any, program: Program, folder: Path) -> None:
        self.rv = rv
        self.program = program
        self.keys = Keys()
        self.awaited: Counter[str] = Counter()  # by table: what inserts should come to
        self.restarted = False  # Reverb's own Table objects are dead from then on
        self.spanning = False  # items may reach back into an earlier episode
        self.writers: dict[str, Any] = {}
        self.targets: dict[str, set[str]] = {}  # tables that a writer has items for
        self._checkpointer = rv.platform.checkpointers_lib.DefaultCheckpointer(str(folder))
        self._start()

    def _start(self) -> None:
        self.tables = {spec.name: spec.make(self.rv) for spec in self.program.tables}
        self.server = self.rv.Server(list(self.tables.values()), None, self._checkpointer)
        self.client = self.rv.Client(f"localhost:{self.server.port}")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_writers()
        self.server.stop()

    def _drop_writers(self) -> None:
        for name in list(self.writers):
            with contextlib.suppress(Exception):  # at an end; not what the program is about
                self._drop(name)

    def _drop(self, name: str) -> None:
        writer = self.writers.pop(name)
        self.targets.pop(name, None)
        if isinstance(writer, self.rv.TrajectoryWriter):
            writer.close()

    def do(self, op: Op) -> Any:
        """One operation's result, or what it raised."""
        try:
            return getattr(self, f"_{op[0]}")(*op[1:])
        except Exception as error:
            return Raised.of(error)

    # Writers.

    def _writer(self, w: str, keep: int, validate: bool) -> None:
        self.writers[w] = self.client.trajectory_writer(keep, validate_items=validate)

    def _append(self, w: str, nest: Any, partial: bool) -> None:
        self.writers[w].append(nest, partial_step=partial)

    def _of(self, w: str, col: Col) -> Any:
        history = self.writers[w].history
        for name in col.path:
            history = history[name]
        if isinstance(col.pick, slice) and (col.pick.stop or 0) >= max(len(history), 1):
            raise LeftOut("a positive stop at the end is taken for 0")
        if isinstance(col.pick, int) and col.pick >= max(len(history), 1):
            raise LeftOut("the index after the last is taken for 0")
        column = history[col.pick]
        return column if col.again is None else column[col.again]

    def _item(self, w: str, table: str, priority: float, columns: Any) -> None:
        nest = _map(lambda col: self._of(w, col), columns)
        if not all(map(len, _leaves(nest))):
            raise ValueError("an empty column ends the process in Reverb")
        self.writers[w].create_item(table, priority, nest)
        self.targets.setdefault(w, set()).add(table)

    def _column(self, w: str, col: Col) -> Any:
        column = self._of(w, col)
        if not len(column):
            raise ValueError("an empty column has no dtype")
        shape = tuple(column.shape)
        return len(column), shape, str(column.dtype), canonical(column.numpy())

    def _flush(self, w: str) -> Any:
        """True, or False where a limiter holds the writer's items up."""
        writer, begin = self.writers[w], time.monotonic()
        held_up = 0
        while time.monotonic() < begin + PATIENCE_S:
            try:
                writer.flush(timeout_ms=50)
            except self.rv.DeadlineExceededError:
                held_up += not all(map(self._lets_in, self.targets.get(w, ())))
            else:
                self.targets.pop(w, None)
                return True
            # A second look, as the first may have come while items went in.
            if held_up == 2:
                return False
        return "stuck"

    def _lets_in(self, table: str, n: int = 1) -> bool:
        if table not in self.tables or self.restarted:
            return True  # in programs with a restart no limiter holds inserts up
        return bool(self.tables[table].can_insert(n))

    def _end_episode(self, w: str, clear: bool) -> Any:
        flushed = self._flush(w)
        if flushed is not True:
            return flushed
        self.writers[w].end_episode(clear_buffers=clear)
        self.spanning |= not clear
        return True

    def _configure(self, w: str, path: Any, keep: int, chunk: int | None) -> None:
        self.writers[w].configure(path, num_keep_alive_refs=keep, max_chunk_length=chunk)

    def _steps(self, w: str) -> int:
        return int(self.writers[w].episode_steps)

    def _close(self, w: str) -> Any:
        flushed = self._flush(w)
        if flushed is True:
            self._drop(w)
        return flushed

    def _structured(self, w: str, configs: list[Config], step: Any) -> None:
        made = [_made(self.rv.structured, config, step) for config in configs]
        self.writers[w] = self.client.structured_writer(made)
        self.targets[w] = {config.table for config in configs}

    def _s_append(self, w: str, nest: Any, partial: bool) -> bool:
        self.writers[w].append(nest, partial_step=partial)
        return bool(self.writers[w].step_is_open)

    def _s_end(self, w: str, clear: bool) -> Any:
        self.writers[w].end_episode(clear, timeout_ms=int(PATIENCE_S * 1000))
        self.spanning |= not clear

    def _legacy(self, w: str, length: int, chunk: int | None, delta: bool) -> None:
        self.writers[w] = self.client.writer(length, delta, chunk)
        self.awaited = self._inserts()

    def _l_append(self, w: str, nest: Any) -> None:
        self.writers[w].append(nest)

    def _l_sequence(self, w: str, nest: Any) -> None:
        self.writers[w].append_sequence(nest)

    def _l_item(self, w: str, table: str, steps: int, priority: float) -> Any:
        if not self._lets_in(table):
            return WOULD_WAIT
        self.writers[w].create_item(table, steps, priority)
        self.awaited[table] += 1
        return None

    def _l_close(self, w: str) -> None:
        writer = self.writers.pop(w)
        writer.flush()
        writer.close()
        self._await_inserts()

    def _insert(self, nest: Any, priorities: dict[str, float]) -> Any:
        if not all(map(self._lets_in, priorities)):
            return WOULD_WAIT
        self.awaited = self._inserts()
        self.client.insert(nest, priorities)
        self.awaited.update(priorities.keys())
        self._await_inserts()
        return None

    def _inserts(self) -> Counter[str]:
        infos = self.client.server_info(5)
        return Counter(
            {t: info.rate_limiter_info.insert_stats.completed for t, info in infos.items()}
        )

    def _await_inserts(self) -> None:
        """Reverb's legacy writer may be closed a moment before its last items are in."""
        end = time.monotonic() + PATIENCE_S
        while not self.awaited <= self._inserts() and time.monotonic() < end:
            time.sleep(0.002)

    # Tables.

    def _sample(self, table: str, n: int, emit: bool, unpack: bool) -> Any:
        # One by one if something may be refused: Reverb may have fetched the next by then.
        # And where inserts are held up: they go in between two samples, sooner or later.
        held_up = any(table in names for names in self.targets.values())
        step = 1 if emit or unpack or held_up else n
        shown: list[Any] = []
        for _ in range(0, max(n, 1), max(step, 1)):
            while table in self.tables and not self._lets_out(table, step):
                step -= 1
                if step < 1:
                    return [*shown, WOULD_WAIT]
            samples = self.client.sample(
                table, step, emit_timesteps=emit, unpack_as_table_signature=unpack
            )
            try:
                shown += map(self._shown, samples)
            finally:
                self._settle()
        return shown

    def _lets_out(self, table: str, n: int) -> bool:
        if n < 1:
            return True  # refused in some way
        info = self.client.server_info(5)[table]
        spare = info.current_size - max(info.rate_limiter_info.min_size_to_sample, 1)
        some_stay = spare >= (0 if info.max_times_sampled < 1 or n == 1 else n)
        return some_stay and (self.restarted or bool(self.tables[table].can_sample(n)))

    def _shown(self, sample: Any) -> Any:
        steps = sample if isinstance(sample, list) else [sample]
        infos = {tuple(step.info) for step in steps}
        [(key, probability, size, priority, times)] = infos
        data = canonical([step.data for step in steps])
        number = self.keys.number(key)
        return (type(sample).__name__, number, probability, size, priority, times, data)

    def _wait(self, table: str, nest: Any) -> Any:
        """A sample that must wait, and the inserts that release it."""
        needed = _inserts_until_sample(self.client.server_info(5)[table])
        if needed is None or self._lets_out(table, 1) or not self._lets_in(table, needed):
            return "not now"
        got: list[Any] = []

        def sample() -> None:
            try:
                got.extend(map(self._shown, self.client.sample(table, 1)))
            except Exception as error:
                got.append(Raised.of(error))

        thread = threading.Thread(target=sample)
        thread.start()
        thread.join(0.02)
        waited = not got
        for _ in range(needed):
            self.client.insert(nest, {table: 1.0})
        thread.join(PATIENCE_S)
        return waited, got

    def _drain(self, table: str) -> Any:
        """All that a table with `max_times_sampled` hands out, in no order."""
        found: dict[str, list[int]] = {}
        while self._lets_out(table, 1):
            [sample] = self.client.sample(table, 1, emit_timesteps=False)
            item = repr((canonical(sample.data), sample.info.priority))
            found.setdefault(item, []).append(sample.info.times_sampled)
        return sorted((item, sorted(times)) for item, times in found.items()), self.tables[
            table
        ].info.current_size

    def _mutate(self, table: str, updates: dict[int, float], deletes: list[int]) -> None:
        self.client.mutate_priorities(
            table,
            updates={self.keys.key(number): value for number, value in updates.items()},
            deletes=[self.keys.key(number) for number in deletes],
        )
        self._settle()

    def _reset(self, table: str) -> None:
        self.client.reset(table)
        self._settle()

    def _settle(self) -> None:
        """What limiters held up goes in as soon as it may; Reverb takes a moment."""
        for w in list(self.targets):
            if isinstance(self.writers[w], self.rv.TrajectoryWriter):
                self._flush(w)

    def _info(self) -> Any:
        infos = list(self.client.server_info(5).values())
        if not self.restarted:
            infos += [table.info for table in self.tables.values()]
        told = [_told(info, episodes=not self.spanning) for info in infos]
        return sorted(told, key=lambda each: each[0])

    def _can(self, table: str, n: int) -> Any:
        if self.restarted:
            return "not of Reverb's dead tables"
        found = self.tables[table]
        return bool(found.can_sample(n)), bool(found.can_insert(n))

    def _checkpoint(self) -> bool:
        return Path(self.client.checkpoint()).exists()

    def _restart(self) -> Any:
        self._drop_writers()
        self.server.stop()
        self._start()
        self.restarted = True
        return self._info()


def _inserts_until_sample(info: Any) -> int | None:
    """Where size alone decides: Reverb's counters forget a reset, its limiter does not."""
    limiter = info.rate_limiter_info
    needed = max(limiter.min_size_to_sample, 1) - info.current_size
    is_queue = limiter.min_diff == 0 and info.max_times_sampled == 1
    if limiter.max_diff < 1e9 and not (is_queue and limiter.samples_per_insert == 1):
        return None
    return needed if 0 < needed <= info.max_size - info.current_size else None


def _told(info: Any, episodes: bool) -> Any:
    limiter = info.rate_limiter_info
    numbers = ("max_size", "max_times_sampled", "current_size", "num_unique_samples")
    more = ("num_episodes", "num_deleted_episodes") if episodes else ()
    return (
        info.name,
        {name: getattr(info, name) for name in numbers + more},
        str(info.sampler_options),
        str(info.remover_options),
        (limiter.samples_per_insert, limiter.min_diff, limiter.max_diff),
        (limiter.min_size_to_sample, limiter.insert_stats.completed),
        limiter.sample_stats.completed,
        _map(repr, _sorted(info.signature)),
    )


def _sorted(nest: Any) -> Any:
    if isinstance(nest, dict):
        return {name: _sorted(nest[name]) for name in sorted(nest)}
    return nest


def _made(structured: Any, config: Config, step: Any) -> Any:
    reference = structured.create_reference_step(step)
    data = structured.Condition.data(step)

    def node(col: Col) -> Any:
        return _at(reference, col.path)[col.pick]

    def condition(what: Any, *rest: Any) -> Any:
        if what == "end":
            return structured.Condition.is_end_episode()
        compare, number, modulus = rest
        if isinstance(what, str):
            left = getattr(structured.Condition, what)()
        else:
            left = _at(data, what)
        if modulus is not None:
            left = left % modulus
        return getattr(left, f"__{compare}__")(number)

    return structured.create_config(
        pattern=_map(node, config.pattern),
        table=config.table,
        conditions=[condition(*each) for each in config.conditions],
        priority=None
        if config.priority is None
        else structured.constant_priority_fn(config.priority),
    )


def _at(nest: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        nest = nest[name]
    return nest


def _map(function: Callable[[Any], Any], nest: Any) -> Any:
    if isinstance(nest, dict):
        return {name: _map(function, child) for name, child in nest.items()}
    if isinstance(nest, tuple | list):
        return type(nest)(_map(function, child) for child in nest)
    return function(nest)


def _leaves(nest: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, nest)
    return found
