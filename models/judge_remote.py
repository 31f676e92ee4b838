"""A judge behind an OpenAI-compatible server: log probabilities of one token, both orders, hostile bytes expected."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from models.judge import (
    LABELS,
    Comparison,
    JudgeIdentity,
    Unscored,
    both_orders,
    build_judge_messages,
    combine_orders,
    is_too_long,
    neutralise,
    require_independent,
)
from models.remote_json import parse_remote_json
from models.requests import ChatMessage
from scoring.errors import InvalidInput

MAX_BODY_BYTES = 256 * 1024
DEADLINE_S = 60.0
READ_TIMEOUT_S = 10.0


class _NoVerdict(Exception):
    """Becomes Unscored; the message is its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIJudge:
    """Asks `model` at `base_url` (which ends in /v1) for one token with its log probabilities.

    `top_logprobs` is how many the server is asked for (5 on some, 20 on others). `transport` is for tests.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    top_logprobs: int = 5
    deadline_s: float = DEADLINE_S
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    @property
    def identity(self) -> JudgeIdentity:
        """The model's name; what weights are behind a server is not known."""
        return JudgeIdentity(name=self.model)

    def compare(self, comparison: Comparison) -> float | Unscored:
        """Return the probability that `answer_a` is the better answer, over both orders."""
        require_independent(self.identity, comparison)
        if is_too_long(comparison):
            return Unscored(reason="too-long")
        try:
            with self._open() as client:
                labels = [self._ask(client, build_judge_messages(ordered)) for ordered in both_orders(comparison)]
        except _NoVerdict as error:
            return Unscored(reason=str(error))
        return combine_orders(labels)

    def _open(self) -> httpx.Client:
        timeout = httpx.Timeout(min(READ_TIMEOUT_S, self.deadline_s))
        return httpx.Client(transport=self.transport, timeout=timeout, follow_redirects=False, trust_env=False)

    def _ask(self, client: httpx.Client, messages: Sequence[ChatMessage]) -> tuple[float, float]:
        request = {
            "model": self.model,
            "messages": [{"role": row.role, "content": neutralise(row.content, ())} for row in messages],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
        }
        return read_label_shares(_parse(self._post(client, request)))

    def _post(self, client: httpx.Client, request: dict[str, Any]) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        end_s = time.monotonic() + self.deadline_s
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            with client.stream("POST", url, json=request, headers=headers) as response:
                return _read_body(response, end_s)
        except httpx.TimeoutException:
            raise _NoVerdict("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            raise _NoVerdict("connection") from None


def read_label_shares(document: object) -> tuple[float, float]:
    """Return the probabilities of "A" and "B" in a chat completion's first token.

    A label that is not among the most probable tokens has share 0; spaces around it do not matter.
    """
    try:
        first = document["choices"][0]["logprobs"]["content"][0]  # type: ignore[index]
        rows = [(row["token"], row["logprob"]) for row in first["top_logprobs"]]
    except (KeyError, IndexError, TypeError):
        raise _NoVerdict("no-logprobs") from None
    shares = dict.fromkeys(LABELS, 0.0)
    for token, logprob in rows:
        is_number = isinstance(logprob, int | float) and not isinstance(logprob, bool) and math.isfinite(logprob)
        if not isinstance(token, str) or not is_number or logprob > 1e-3:
            raise _NoVerdict("malformed-logprobs")
        if token.strip() in shares:
            shares[token.strip()] += math.exp(min(logprob, 0.0))
    if sum(shares.values()) > 1.01:
        raise _NoVerdict("malformed-logprobs")
    return shares["A"], shares["B"]


def _read_body(response: httpx.Response, end_s: float) -> bytes:
    if response.status_code != 200:
        raise _NoVerdict("http-status")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _NoVerdict("encoding")
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _NoVerdict("too-large")
        if time.monotonic() > end_s:
            raise _NoVerdict("timeout")
    return bytes(body)


def _parse(body: bytes) -> object:
    try:
        return parse_remote_json(body)
    except InvalidInput:
        raise _NoVerdict("malformed") from None
