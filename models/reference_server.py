"""A vLLM server that runs the claimed model: log-probabilities of given tokens (`prompt_logprobs`), bytes limited.

One request an answer: prompt and answer go in as token ids, the log-probabilities of the answer's tokens come back with
the TOP likeliest tokens at each place. Several are in flight, so that the server can batch them.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import httpx

from models.partial_statistics import TOP, ToldPosition
from models.remote_json import parse_remote_json
from models.requests import ReferenceRequest
from scoring.errors import InvalidInput, Unavailable

IN_FLIGHT = 8
TRIES, PAUSE_S = 3, 1.0
TIMEOUT_S = 120.0
LARGEST_LIST = 256 * 1024
SPARE_BYTES, TOKEN_BYTES = 64 * 1024, 160 * (TOP + 1)
_NAME_CHARACTERS = 200


class _TryAgain(Exception):
    """The server may answer the next time; the message says what happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A server's own answer at temperature 0, and the log-probability of each of its tokens (nats)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class ReferenceServer:
    """Talks to one server; safe for several threads. `max_length` is how many tokens it takes, None when not told."""

    def __init__(self, client: httpx.Client, base_url: str, model: str, max_length: int | None) -> None:
        self._client = client
        self._base_url = base_url
        self.model = model
        self.max_length = max_length

    @classmethod
    def connect(cls, url: str, *, api_key: str | None = None, model: str | None = None, transport: Any = None) -> Self:
        """Find the served model at `url` (with or without /v1): the one named `model`, or the only one.

        Raises InvalidInput for a URL or a list of models that will not do, Unavailable when there is no answer.
        """
        base_url = url.rstrip("/").removesuffix("/v1")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        timeout = httpx.Timeout(TIMEOUT_S, connect=10.0)
        client = httpx.Client(
            transport=transport, timeout=timeout, headers=headers, follow_redirects=False, trust_env=False
        )
        server = cls(client, base_url, "", None)
        try:
            server.model, server.max_length = _find_model(server._ask("GET", "/v1/models", None, LARGEST_LIST), model)
        except BaseException:
            client.close()
            raise
        return server

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def tell(self, items: Sequence[ReferenceRequest]) -> list[list[ToldPosition]]:
        """Return what the server says of each output position of each answer.

        Raises Unavailable when it does not answer, or not what vLLM answers: never the provider's fault.
        """
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(self._tell_one, items))

    def continue_greedily(self, prompt_ids: Sequence[int], max_tokens: int) -> Continued:
        """Return the server's answer at temperature 0; raises as `tell`."""
        document = self._complete(prompt_ids, {"max_tokens": max_tokens, "logprobs": 1}, max_tokens)
        choice = _get_choice(document)
        ids, told = choice.get("token_ids"), choice.get("logprobs")
        values = told.get("token_logprobs") if isinstance(told, dict) else None
        if not _is_ids(ids) or not isinstance(values, list) or len(values) != len(ids):
            raise Unavailable("the reference server returned no token ids with log-probabilities")
        return Continued(token_ids=tuple(ids), logprobs=tuple(_parse_logprob(value) for value in values))

    def _tell_one(self, item: ReferenceRequest) -> list[ToldPosition]:
        if not item.output_ids:
            return []
        ids = (*item.prompt_ids, *item.output_ids)
        document = self._complete(ids, {"max_tokens": 1, "prompt_logprobs": TOP}, len(ids))
        choice = _get_choice(document)
        # vLLM puts them beside the choice's text; its first entry, which nothing stands before, is null.
        rows = choice.get("prompt_logprobs")
        if not isinstance(rows, list) or len(rows) != len(ids):
            raise Unavailable("the reference server returned no prompt_logprobs: is it vLLM?")
        start = len(item.prompt_ids)
        return [parse_position(row, token) for row, token in zip(rows[start:], item.output_ids, strict=True)]

    def _complete(self, ids: Sequence[int], more: dict[str, Any], tokens: int) -> object:
        body = {"model": self.model, "prompt": list(ids), "temperature": 0, "return_token_ids": True, **more}
        return self._ask("POST", "/v1/completions", body, SPARE_BYTES + TOKEN_BYTES * tokens)

    def _ask(self, method: str, path: str, body: object, limit: int) -> object:
        for again in range(TRIES):
            try:
                return self._ask_once(method, path, body, limit)
            except _TryAgain as error:
                if again == TRIES - 1:
                    raise Unavailable(f"the reference server at {self._base_url} {error}") from None
                time.sleep(PAUSE_S * (again + 1))
        raise AssertionError

    def _ask_once(self, method: str, path: str, body: object, limit: int) -> object:
        try:
            with self._client.stream(method, self._base_url + path, json=body) as response:
                return self._read(response, limit)
        except httpx.TimeoutException:
            raise _TryAgain("did not answer in time") from None
        except httpx.InvalidURL:
            raise InvalidInput("is not a URL", "reference") from None
        except httpx.UnsupportedProtocol:
            raise InvalidInput("expected http:// or https://", "reference") from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise _TryAgain(f"cannot be reached: {type(error).__name__}") from None

    def _read(self, response: httpx.Response, limit: int) -> object:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unavailable("the reference server compresses what it was asked not to")
        data, end_s = bytearray(), time.monotonic() + TIMEOUT_S
        for chunk in response.iter_raw():
            data += chunk
            if time.monotonic() > end_s:
                raise _TryAgain("did not end its answer in time")
            if len(data) > limit:
                raise Unavailable(f"the reference server's answer is longer than {limit:,} bytes")
        if response.status_code in (429, 502, 503, 504):
            raise _TryAgain(f"answered {response.status_code}")
        if response.status_code != 200:
            raise Unavailable(f"the reference server answered {response.status_code}{_explain(data)}")
        return _parse(bytes(data))


def parse_position(row: object, token: int) -> ToldPosition:
    """Read one entry of `prompt_logprobs`, {token id: {"logprob": ...}}; raises Unavailable.

    Equal log-probabilities are put in the order of their ids: servers leave that open.
    """
    if not isinstance(row, dict) or not TOP <= len(row) <= TOP + 1 or str(token) not in row:
        raise Unavailable(f"the reference server named other than {TOP} tokens and the given one at a place")
    found = {}
    for name, entry in row.items():
        if not (name.isascii() and name.isdigit() and len(name) < 10) or not isinstance(entry, dict):
            raise Unavailable("the reference server's log-probabilities are not by token id")
        found[int(name)] = _parse_logprob(entry.get("logprob"))
    claimed = found[token]
    if len(found) == TOP + 1:
        del found[token]
    order = sorted(found, key=lambda one: (-found[one], one))
    if sum(math.exp(value) for value in found.values()) > 1.01:
        raise Unavailable("the reference server's probabilities sum to more than 1")
    return ToldPosition(
        token_ids=tuple(order),
        logprobs=tuple(found[one] for one in order),
        claimed=claimed,
        place=order.index(token) if token in found else len(order),
    )


def _parse_logprob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
        raise Unavailable("the reference server's log-probabilities are not finite numbers of at most 0")
    return min(float(value), 0.0)


def _find_model(document: object, wanted: str | None) -> tuple[str, int | None]:
    data = document.get("data") if isinstance(document, dict) else None
    rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
    names = {row.get("id"): row.get("max_model_len") for row in rows if isinstance(row.get("id"), str)}
    known = ", ".join(str(name)[:_NAME_CHARACTERS] for name in list(names)[:10]) or "no model"
    if wanted is None and len(names) != 1:
        raise InvalidInput(f"the reference server lists {known}: it must serve the claimed model alone", "reference")
    name = next(iter(names)) if wanted is None else wanted
    if name not in names:
        raise InvalidInput(f"the reference server lists {known}, not {wanted}", "reference")
    length = names[name]
    return name, length if type(length) is int and length > 0 else None


def _get_choice(document: object) -> dict[str, Any]:
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Unavailable("the reference server's answer has not one choice")
    return choices[0]


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _explain(data: bytearray) -> str:
    """Return what an error says of itself, in characters that can be printed."""
    try:
        document = _parse(bytes(data[:SPARE_BYTES]))
    except Unavailable:
        return ""
    error = document.get("error", document) if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if not isinstance(message, str):
        return ""
    return ": " + "".join(character for character in message[:300] if character.isprintable())


def _parse(data: bytes) -> object:
    try:
        return parse_remote_json(data)
    except InvalidInput:
        raise Unavailable("the reference server's answer is not JSON") from None
