"""The validator's side of the reference engine: asyncio, no torch. An engine that is gone is `Unavailable`.

Every operation is safe to repeat, so a call that was in flight when the connection broke is sent once more after
reconnecting: a restarted engine costs its users a delay, not an error.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from models.engine_wire import (
    EngineInfo,
    build_error,
    decode_generation,
    decode_info,
    decode_statistics,
    encode_frame,
    encode_request,
    read_frame,
)
from models.requests import ChatMessage, Generation, GenerationRequest, ReferenceRequest, TokenStatistics
from scoring.errors import InvalidInput, Unavailable

CONNECT_TIMEOUT_S = 180.0
CALL_TIMEOUT_S = 180.0
_RETRY_S = 0.2
_ATTEMPTS = 2


class _ConnectionLost(Exception):
    """The socket closed under a call that may be sent again."""


class EngineClient:
    """A connection to an engine, shared by all tasks of one event loop."""

    def __init__(self, socket_path: Path, connect_timeout_s: float, call_timeout_s: float) -> None:
        self._path = socket_path
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._connecting = asyncio.Lock()
        self._is_closed = False

    @classmethod
    async def connect(
        cls,
        socket_path: Path | str,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> Self:
        """Return a client once the engine listens; raises Unavailable when it does not within the timeout.

        The same timeout holds for each later reconnection.
        """
        client = cls(Path(socket_path), connect_timeout_s, call_timeout_s)
        await client._open()
        return client

    async def close(self) -> None:
        """Close the connection; calls in flight fail with Unavailable."""
        self._is_closed = True
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def hello(self) -> EngineInfo:
        """Return the model's manifest and the runtime fingerprint."""
        return decode_info(await self._call("hello", {}))

    async def tokenize_chat(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the token ids of a conversation in the claimed chat template; raises InvalidInput."""
        rows = [[message.role, message.content] for message in messages]
        return tuple(await self._call("tokenize_chat", {"messages": rows}))

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, without special tokens added."""
        return tuple(await self._call("encode", {"text": text}))

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special tokens left out; raises InvalidInput for ids out of the vocabulary."""
        text: str = await self._call("decode", {"token_ids": list(token_ids)})
        return text

    async def score(self, requests: Sequence[ReferenceRequest]) -> list[TokenStatistics]:
        """Return the reference statistics of claimed answers; raises InvalidInput for what the model cannot hold."""
        if not requests:
            return []
        body = {"requests": [encode_request(request) for request in requests]}
        return [decode_statistics(value) for value in await self._call("score", body)]

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Return answers of the claimed model, in the order of the requests."""
        if not requests:
            return []
        body = {"requests": [encode_request(request) for request in requests]}
        return [decode_generation(value) for value in await self._call("generate", body)]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text; raises MissingExtra when no embedder is installed."""
        vectors: list[list[float]] = await self._call("embed", {"texts": list(texts)})
        return vectors

    async def _call(self, operation: str, body: dict[str, Any]) -> Any:
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(self._call_timeout_s):
                    return await self._call_once(operation, body)
            except _ConnectionLost:
                continue
            except TimeoutError:
                raise Unavailable(f"the reference engine took over {self._call_timeout_s:.0f} s") from None
        raise Unavailable(f"the reference engine at {self._path} broke the connection twice")

    async def _call_once(self, operation: str, body: dict[str, Any]) -> Any:
        writer = await self._open()
        number = next(self._numbers)
        frame = encode_frame({"id": number, "operation": operation, "body": body})
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            writer.write(frame)
            await writer.drain()
            return await answer
        except OSError:
            raise _ConnectionLost from None
        finally:
            self._waiting.pop(number, None)

    async def _open(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._is_closed:
                raise Unavailable("this engine client is closed")
            if self._writer is not None and not self._writer.is_closing():
                return self._writer
            reader, self._writer = await self._dial()
            self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = time.monotonic() + self._connect_timeout_s
        while True:
            try:
                return await asyncio.open_unix_connection(str(self._path))
            except OSError as error:
                if time.monotonic() >= end:
                    raise Unavailable(f"no reference engine listens at {self._path}: {error}") from None
            await asyncio.sleep(_RETRY_S)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                message = await read_frame(reader)
                answer = self._waiting.get(message["id"])
                if answer is None or answer.done():
                    continue
                if "error" in message:
                    answer.set_exception(build_error(message["error"]))
                else:
                    answer.set_result(message["body"])
        except (asyncio.IncompleteReadError, OSError, InvalidInput, KeyError):
            pass
        finally:
            writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Unavailable("closed") if self._is_closed else _ConnectionLost())
