"""The reference engine inside of this process, at its real socket: what a validator's calls go through."""

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from models.engine_client import EngineClient
from models.engine_desk import Desk
from models.engine_work import Worker
from models.load import LoadedModel
from models.requests import ChatMessage, ReferenceRequest

Conversation = list[ChatMessage]


class LocalEngine:
    """Serves one model between `with` and its end; the model may be used from outside too, but not meanwhile."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quiver-")
        self._path = Path(self._folder.name) / "engine.sock"
        self._worker = Worker(loaded)
        self._desk = Desk(loaded, self._worker, self._path)
        self._thread = threading.Thread(target=self._worker.run, name="engine", daemon=True)

    def __enter__(self) -> "LocalEngine":
        self._desk.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()
        self._thread.join()
        self._desk.close()
        self._folder.cleanup()

    def verify(self, conversations: Sequence[Conversation], items: Sequence[ReferenceRequest]) -> None:
        """Tokenise the conversations and score the answers; the client waits for both."""
        asyncio.run(self._verify(conversations, items))

    async def _verify(self, conversations: Sequence[Conversation], items: Sequence[ReferenceRequest]) -> None:
        client = await EngineClient.connect(self._path)
        try:
            for messages in conversations:
                await client.tokenize_chat(messages)
            await client.score(items)
        finally:
            await client.close()
