"""Reverb's seven calls, as coroutines over the bytes of their messages."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from reverie.reverb.engine.local_client import BoundClient
from reverie.reverb.engine.serving import Serving
from reverie.reverb.errors import UnreachableServerError
from reverie.reverb.wire.inserting import InsertStream
from reverie.reverb.wire.messages import SERVICE, parsed, serialized
from reverie.reverb.wire.sampling import SampleStream
from reverie.reverb.wire.statuses import STOPPED, CallError, Code, status_of, unknown_table
from reverie.reverb.wire.waits import Waits

_MOST_KEYS = 10_000  # not yet sent
# A handler of grpc.aio: what came, or nothing for a stream, and the call's context.
_Handler = Callable[[Any, Any], Awaitable[Any]]


class Service:
    """The calls on one server; each in the thread of the event loop.

    It does not keep the server alive. The client's own process identity is of no
    account: memory is never shared, and no address of it ever told.

    Args:
        server: whose tables these are.
        waits: for what blocks.
        grpc: the module of that name.
    """

    def __init__(self, server: Serving, waits: Waits, grpc: Any) -> None:
        self._server = weakref.ref(server)
        self._waits = waits
        self._grpc = grpc
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self._state_id = {"high": secrets.randbits(64), "low": secrets.randbits(64)}

    def handler(self) -> Any:
        """What grpc.aio's server is given."""
        unary = self._grpc.unary_unary_rpc_method_handler
        stream = self._grpc.stream_stream_rpc_method_handler
        return self._grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "InitializeConnection": stream(self._ended(self._initialize)),
                "InsertStream": stream(self._ended(self._insert)),
                "SampleStream": stream(self._ended(self._sample)),
                "MutatePriorities": unary(self._ended(self._mutate)),
                "Reset": unary(self._ended(self._reset)),
                "Checkpoint": unary(self._ended(self._checkpoint)),
                "ServerInfo": unary(self._ended(self._info)),
            },
        )

    def _ended(self, call: _Handler) -> _Handler:
        """The call, with what it raises as a status."""

        async def handle(given: Any, context: Any) -> Any:
            try:
                return await call(given, context)
            except Exception as error:
                code, words = status_of(error)
            await context.abort(self._codes[int(code)], words)

        return handle

    def _find(self) -> Serving:
        server = self._server()
        if server is None or not server.is_open:
            raise CallError(Code.CANCELLED, STOPPED)
        return server

    # Streams.

    async def _initialize(self, _: Any, context: Any) -> None:
        if await context.read() is not self._grpc.aio.EOF:
            await context.write(serialized("InitializeConnectionResponse", address=0))

    async def _insert(self, _: Any, context: Any) -> None:
        stream = InsertStream(self._find())
        confirmations = _Confirmations(context)
        try:
            while (payload := await context.read()) is not self._grpc.aio.EOF:
                inserted, waiting = stream.take(payload)
                await confirmations.add(inserted)
                if waiting:
                    await self._waits.until(stream.wait)
                    await confirmations.add(waiting)
            await confirmations.sent()
        except asyncio.CancelledError:
            confirmations.cancel()
            raise
        except Exception as error:
            with contextlib.suppress(Exception):  # the first error is what is told
                await confirmations.sent()
            if isinstance(error, UnreachableServerError):
                raise CallError(Code.CANCELLED, STOPPED) from None
            raise
        finally:
            stream.close()

    async def _sample(self, _: Any, context: Any) -> None:
        stream = SampleStream(self._find, self._waits)
        while (payload := await context.read()) is not self._grpc.aio.EOF:
            async for response in stream.responses(payload):
                await context.write(response)

    # Single calls.

    async def _mutate(self, payload: bytes, _: Any) -> bytes:
        request = parsed("MutatePrioritiesRequest", payload)
        client = self._client(request.table)
        updates = [(update.key, update.priority) for update in request.updates]
        client.MutatePriorities(request.table, updates, list(request.delete_keys))
        return serialized("MutatePrioritiesResponse")

    async def _reset(self, payload: bytes, _: Any) -> bytes:
        request = parsed("ResetRequest", payload)
        self._client(request.table).Reset(request.table)
        return serialized("ResetResponse")

    async def _checkpoint(self, payload: bytes, _: Any) -> bytes:
        parsed("CheckpointRequest", payload)
        server = self._find()
        try:
            path = await self._waits.run(server.checkpoint)
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise
            raise CallError(
                Code.INVALID_ARGUMENT, "no Checkpointer configured for the replay service."
            ) from None
        return serialized("CheckpointResponse", checkpoint_path=path)

    async def _info(self, payload: bytes, _: Any) -> bytes:
        parsed("ServerInfoRequest", payload)
        tables = BoundClient(self._find()).ServerInfo()
        response = parsed("ServerInfoResponse", b"")
        for table in tables:
            response.table_info.add().ParseFromString(table)
        response.tables_state_id.high = self._state_id["high"]
        response.tables_state_id.low = self._state_id["low"]
        answer: bytes = response.SerializeToString()
        return answer

    def _client(self, table: str) -> BoundClient:
        server = self._find()
        if table not in server.tables:
            raise unknown_table(table)
        return BoundClient(server)


class _Confirmations:
    """Keys of inserted items on their way to the client.

    What comes while a message is on its way goes with the next one, and the stream is read
    on meanwhile.

    Args:
        context: of the call.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._keys: list[int] = []
        self._sending: asyncio.Task[None] | None = None

    async def add(self, keys: list[int]) -> None:
        """Sends them by and by; waits where a client does not read what it is sent.

        Raises:
            Exception: whatever became of what was sent before.
        """
        self._keys += keys
        if self._sending is not None and self._sending.done():
            self._sending.result()
            self._sending = None
        if self._keys and self._sending is None:
            self._sending = asyncio.ensure_future(self._send())
        if len(self._keys) > _MOST_KEYS:
            await self.sent()

    async def sent(self) -> None:
        """Waits until all are sent; errors as `add`'s."""
        if self._sending is not None:
            await self._sending

    def cancel(self) -> None:
        """Sends no more."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send(self) -> None:
        while self._keys:
            keys, self._keys = self._keys, []
            await self._context.write(serialized("InsertStreamResponse", keys=keys))
