"""Tables and servers, with the names and arguments that programs for Reverb use.

A server and a client, which may be anywhere in the process:

    from reverie import reverb

    table = reverb.Table(
        name="replay",
        sampler=reverb.selectors.Uniform(),
        remover=reverb.selectors.Fifo(),
        max_size=100_000,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    server = reverb.Server([table])
    client = reverb.Client(f"localhost:{server.port}")
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reverie.errors import InvalidArgumentError
from reverie.reverb import item_selectors, pybind, rate_limiters, reverb_types
from reverie.reverb.platform.default import checkpointers
from reverie.runtime.handle import Handle

if TYPE_CHECKING:
    from reverie.reverb.client import Client


class TableExtensionBase(abc.ABC):
    """Base of Reverb's table extensions, for the sake of its name.

    Extensions are C++ code of Reverb. One that builds something is refused here.
    """

    @abc.abstractmethod
    def build_internal_extensions(self, table_name: str) -> Sequence[pybind.TableExtension]:
        """The C++ extensions; must be empty here."""


class Table(Handle):
    """Items of data: which is sampled, which makes room, and how fast they flow.

    An item refers to steps that writers append; it has a key, a priority, and a count
    of how often it was sampled. Several items, in several tables of a server, may
    share steps, which are stored once and freed with the last item that refers to
    them. A table begins empty and belongs to one `Server` at a time: once that was
    stopped, another may serve all of its tables, with their items.

    Args:
        name: not empty; unique in its server.
        sampler: chooses what to sample, for example `reverb.selectors.Uniform()`.
        remover: chooses what makes room for a new item in a full table.
        max_size: the most items that it holds, > 0.
        rate_limiter: when samples and inserts may pass.
        max_times_sampled: an item leaves after so many samples; below 1, never.
        extensions: Reverb's C++ extensions; must build none.
        signature: nest of `tf.TensorSpec`, or of anything else with a shape and a
            dtype (`reverb.reverb_types.TensorSpec` needs no TensorFlow; None in its shape
            leaves an extent open), that describes an item's data. Writers are held to it,
            and samples come in its structure.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: a value is out of range, or by the settings no sample
            could ever pass.
        SpecError: the signature holds something that describes no array.
    """

    _WAY_OUT = "Table.replace() makes an empty one of the same settings."

    def __init__(
        self,
        name: str,
        sampler: reverb_types.SelectorType,
        remover: reverb_types.SelectorType,
        max_size: int,
        rate_limiter: rate_limiters.RateLimiter,
        max_times_sampled: int = 0,
        extensions: Sequence[TableExtensionBase] = (),
        signature: reverb_types.SpecNest | None = None,
    ) -> None:
        if not name:
            raise InvalidArgumentError(f"name must be nonempty; found {name!r}.")
        if getattr(remover, "removes_alone", False):
            raise InvalidArgumentError(
                f"remover: found {remover!r}, which Reverb has not; wanted one of "
                "reverb.selectors."
            )
        self._extensions = extensions
        self.internal_table = pybind.Table(
            name=name,
            sampler=sampler,
            remover=remover,
            max_size=max_size,
            max_times_sampled=max_times_sampled,
            rate_limiter=_engine_s(rate_limiter, "internal_limiter"),
            extensions=[
                built
                for extension in extensions
                for built in extension.build_internal_extensions(name)
            ],
            signature=signature,
        )

    @classmethod
    def queue(
        cls,
        name: str,
        max_size: int,
        extensions: Sequence[TableExtensionBase] = (),
        signature: reverb_types.SpecNest | None = None,
    ) -> Table:
        """A queue: each item is sampled once, in the order of insertion.

        Inserts wait while `max_size` items are in it. Arguments and errors as the
        constructor's.
        """
        return cls(
            name=name,
            sampler=item_selectors.Fifo(),
            remover=item_selectors.Fifo(),
            max_size=max_size,
            max_times_sampled=1,
            rate_limiter=rate_limiters.Queue(max_size),
            extensions=extensions,
            signature=signature,
        )

    @classmethod
    def stack(
        cls,
        name: str,
        max_size: int,
        extensions: Sequence[TableExtensionBase] = (),
        signature: reverb_types.SpecNest | None = None,
    ) -> Table:
        """A stack: each item is sampled once, the newest first.

        Inserts wait while `max_size` items are in it. Arguments and errors as the
        constructor's.
        """
        return cls(
            name=name,
            sampler=item_selectors.Lifo(),
            remover=item_selectors.Lifo(),
            max_size=max_size,
            max_times_sampled=1,
            rate_limiter=rate_limiters.Stack(max_size),
            extensions=extensions,
            signature=signature,
        )

    @property
    def name(self) -> str:
        """The table's name."""
        return self.internal_table.name

    @property
    def info(self) -> reverb_types.TableInfo:
        """Settings and counters now; also after its server was stopped."""
        return reverb_types.TableInfo.from_table(self.internal_table)

    def can_sample(self, num_samples: int) -> bool:
        """Whether the rate limiter would let so many samples pass now.

        It looks at its counters alone, not at `max_times_sampled`.

        Raises:
            InvalidArgumentError: `num_samples` < 1.
        """
        return self.internal_table.can_sample(num_samples)

    def can_insert(self, num_inserts: int) -> bool:
        """Whether the rate limiter would let so many inserts pass now.

        Raises:
            InvalidArgumentError: `num_inserts` < 1.
        """
        return self.internal_table.can_insert(num_inserts)

    def replace(
        self,
        name: str | None = None,
        sampler: reverb_types.SelectorType | None = None,
        remover: reverb_types.SelectorType | None = None,
        max_size: int | None = None,
        rate_limiter: rate_limiters.RateLimiter | None = None,
        max_times_sampled: int | None = None,
        extensions: Sequence[TableExtensionBase] | None = None,
        signature: reverb_types.SpecNest | None = None,
    ) -> Table:
        """A new, empty table with the settings of this one where none are given.

        Arguments and errors as the constructor's.
        """
        own = self.internal_table.settings
        return Table(
            name=_pick(name, own.name),
            sampler=sampler or own.sampler,
            remover=remover or own.remover,
            max_size=_pick(max_size, own.max_size),
            rate_limiter=_pick(rate_limiter, own.limiter),
            max_times_sampled=_pick(max_times_sampled, own.max_times_sampled),
            extensions=_pick(extensions, self._extensions),
            signature=_pick(signature, own.signature),
        )

    def __repr__(self) -> str:
        """Its settings."""
        return repr(self.internal_table)


class Server(Handle):
    """Tables that clients find under a port number.

    `Client("localhost:<port>")` in this process reaches them directly. For clients of
    other processes, dm-reverb's, it listens on the port on the loopback, where the
    packages of the extra `wire` are installed and the environment variable
    `REVERIE_LISTEN` is not "off". The tables share one copy of the steps that they refer
    to. Thread-safe. A server that nothing refers to any more is stopped.

    Args:
        tables: at least one `Table`, of different names, of no server that runs. Those of
            one that was stopped come with their items: all of them, others beside.
        port: 1 to 65535, which nobody else has; None takes an unused one.
        checkpointer: from whose newest checkpoint the server starts, if it holds one,
            settings of tables included, and where `Client.checkpoint()` writes; None
            for a folder of its own.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: no tables, two of one name, one of a server that runs, some
            of those of a stopped one, or its tables and a checkpoint; or a port that is
            taken.
        CheckpointError: the newest checkpoint cannot be read.
    """

    _WAY_OUT = "Pass a Client of it on; threads may share it."

    def __init__(
        self,
        tables: Sequence[Table] | None = None,
        port: int | None = None,
        checkpointer: checkpointers.CheckpointerBase | None = None,
    ) -> None:
        if isinstance(tables, Table):
            raise TypeError(f"tables: found one Table ({tables.name!r:.200}), wanted a list.")
        internal = [_engine_s(table, "internal_table") for table in tables or ()]
        if checkpointer is None:
            checkpointer = checkpointers.default_checkpointer()
        if not hasattr(checkpointer, "internal_checkpointer"):
            raise TypeError(
                f"checkpointer: found {checkpointer!r:.200}, wanted one of "
                "reverb.checkpointers, for example DefaultCheckpointer(path)."
            )
        self._server = pybind.Server(internal, port, checkpointer.internal_checkpointer())

    def __del__(self) -> None:
        """Stops the server; not where it goes with the interpreter, whose names are gone."""
        if sys is not None and not sys.is_finalizing() and hasattr(self, "_server"):
            self.stop()

    def __repr__(self) -> str:
        """Its port, tables and checkpointer."""
        return repr(self._server)

    @property
    def port(self) -> int:
        """The number under which clients find it."""
        return self._server.port

    def stop(self) -> None:
        """Refuses later use and wakes who waits. Idempotent."""
        self._server.Stop()

    def wait(self) -> None:
        """Waits until `stop()` is called in another thread, for ever where it listens.

        Raises:
            KeyboardInterrupt: at Ctrl-C.
            EndlessWaitError: it does not listen, and there is no other thread, so nothing
                could end the wait.
        """
        if self._server.Wait():
            raise KeyboardInterrupt

    def localhost_client(self) -> Client:
        """A client of this server."""
        from reverie.reverb.client import Client

        return Client(f"localhost:{self.port}")


def _engine_s(given: Any, attribute: str) -> Any:
    """What the engine has behind `given`; what is none of ours it refuses by name."""
    return getattr(given, attribute, given)


def _pick(given: Any, own: Any) -> Any:
    return own if given is None else given
