"""The engine's front desk: a Unix socket, one reading thread for each client, quick answers given on the spot.

A client that sends what is not a frame, or does not read its answers, loses its connection and nothing else happens.
"""

import contextlib
import os
import platform
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import torch
import transformers

from models.engine_wire import (
    EngineInfo,
    decode_requests,
    encode_error,
    encode_frame,
    encode_info,
    receive_frame,
)
from models.engine_work import MAX_TEXTS, Job, Worker
from models.load import LoadedModel, decode_tokens, encode_text, render_prompt
from models.requests import ChatMessage, GenerationRequest, ReferenceRequest, check_token_ids
from scoring.errors import InvalidInput, OracleError, Unavailable

SEND_TIMEOUT_S = 10
MAX_SOCKET_PATH_BYTES = 100


class Desk:
    """Accepts clients and hands their work to the worker."""

    def __init__(self, loaded: LoadedModel, worker: Worker, socket_path: Path) -> None:
        self._loaded = loaded
        self._worker = worker
        self._path = socket_path
        self._tokenizing = threading.Lock()
        self._listener = _listen(socket_path)

    def start(self) -> None:
        """Accept clients in threads that end with the process."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            client = _Client(connection, self)
            threading.Thread(target=client.serve, name="client", daemon=True).start()

    def handle(self, client: "_Client", message: dict[str, Any]) -> None:
        """Answer a message now, or queue its job."""
        number, operation, body = message.get("id"), message.get("operation"), message.get("body")
        try:
            if type(number) is not int or not isinstance(body, dict):
                raise InvalidInput("a message has id, operation and body", "engine")
            if operation in ("score", "generate", "embed"):
                self._worker.submit(self._build_job(client, number, str(operation), body))
            else:
                client.send({"id": number, "body": self._answer(operation, body)})
        except OracleError as error:
            client.send({"id": number, "error": encode_error(error)})

    def _build_job(self, client: "_Client", number: int, operation: str, body: dict[str, Any]) -> Job:
        requests: list[Any]
        if operation == "score":
            requests = list(decode_requests(ReferenceRequest, body.get("requests")))
            self._worker.check(requests)
        elif operation == "generate":
            requests = list(decode_requests(GenerationRequest, body.get("requests")))
        else:
            requests = _check_texts(body.get("texts"))
        return Job(
            operation=operation,
            requests=requests,
            reply=lambda value: client.send({"id": number, "body": value}),
            fail=lambda error: client.send({"id": number, "error": encode_error(error)}),
            is_wanted=lambda: not client.is_gone,
        )

    def _answer(self, operation: object, body: dict[str, Any]) -> Any:
        # One lock: the tokenizer's library refuses two threads at once.
        with self._tokenizing:
            if operation == "hello":
                return encode_info(describe_engine(self._loaded))
            if operation == "tokenize_chat":
                return render_prompt(self._loaded, _check_messages(body.get("messages")))
            if operation == "encode":
                return encode_text(self._loaded, _check_texts([body.get("text")])[0])
            if operation == "decode":
                token_ids = tuple(body["token_ids"]) if isinstance(body.get("token_ids"), list) else ()
                check_token_ids(token_ids, "token_ids")
                return decode_tokens(self._loaded, token_ids)
        raise InvalidInput(f"there is no operation {operation!r}", "operation")


class _Client:
    """One connection: read in its own thread, written to by whoever has an answer."""

    def __init__(self, connection: socket.socket, desk: Desk) -> None:
        self._connection = connection
        self._desk = desk
        self._sending = threading.Lock()
        self.is_gone = False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))

    def serve(self) -> None:
        """Read until the client leaves."""
        try:
            while not self.is_gone:
                message = receive_frame(self._connection)
                if message is None:
                    break
                self._desk.handle(self, message)
        except (OSError, InvalidInput):
            pass
        finally:
            self._leave()

    def send(self, value: dict[str, Any]) -> None:
        """Write a frame; a client that does not take it in time is dropped."""
        try:
            frame = encode_frame(value)
        except InvalidInput as error:
            frame = encode_frame({"id": value["id"], "error": encode_error(error)})
        with self._sending:
            if self.is_gone:
                return
            try:
                self._connection.sendall(frame)
            except OSError:
                self._leave()

    def _leave(self) -> None:
        self.is_gone = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def describe_engine(loaded: LoadedModel) -> EngineInfo:
    """Return the manifest and the runtime fingerprint of this process."""
    return EngineInfo(
        manifest=loaded.manifest,
        dtype=loaded.dtype,
        device=torch.cuda.get_device_name() if loaded.device == "cuda" else torch.backends.cpu.get_cpu_capability(),
        attention=loaded.attention,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        transformers_version=transformers.__version__,
        machine=platform.machine(),
    )


def _listen(path: Path) -> socket.socket:
    """Return a listening socket that only this user can reach; raises InvalidInput or Unavailable."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise InvalidInput(f"a socket path has at most {MAX_SOCKET_PATH_BYTES} bytes: {path}", "socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name first: clients never see a socket that does not listen yet, and a dead
    # engine's socket is replaced by one rename.
    fresh = path.with_name(path.name + f".{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        listener.listen(64)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen at {path}: {error}") from None
    return listener


def _check_messages(rows: object) -> list[ChatMessage]:
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != 2 for row in rows):
        raise InvalidInput("expected a list of [role, content]", "messages")
    if any(not isinstance(part, str) for row in rows for part in row):
        raise InvalidInput("roles and contents are strings", "messages")
    return [ChatMessage(role=role, content=content) for role, content in rows]


def _check_texts(texts: object) -> list[str]:
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"expected a list of 1 to {MAX_TEXTS} texts", "texts")
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput("a text is a string", "texts")
    return texts
