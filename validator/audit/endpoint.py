"""An OpenAI-compatible endpoint as the audit sees it: answers or `Failure`, within limits, and a key that stays put.

Nothing is taken from the surroundings (proxies, .netrc), and one byte budget holds for all requests. A failure is never
an error and never a score. The API key goes into one header; an answer or a message that repeats it is not passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from scoring.errors import InvalidInput
from validator.audit.hostile_text import make_printable
from validator.audit.http_exchange import CONNECT_TIMEOUT_S, AskLimits, Failed, HttpExchange, Reply, explain_error
from validator.audit.records import NO_TIMING, Timing
from validator.audit.retry_after import MAX_WAIT_S
from validator.fetch import MAX_DEADLINE_S, FailureReason

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
OFFER_PATH = "/quiver/offer"
MAX_LIST_TOKENS = 32 * 1024
"""Bounds the body of what is not an answer (a list of models), like an answer of so many tokens."""
DEFAULT_BYTE_BUDGET = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No answer: why, in a word and in a sentence. `status` is the HTTP status when there was one."""

    reason: FailureReason
    detail: str
    status: int | None = None
    retry_after_s: float | None = None
    timing: Timing = NO_TIMING

    @property
    def is_provider_fault(self) -> bool:
        """Whether it says something about the provider."""
        return self.reason not in (FailureReason.OWN_NETWORK, FailureReason.OWN_STALL)

    @property
    def is_long_wait(self) -> bool:
        """Whether the endpoint asks us to come back after longer than an audit waits."""
        asks_to_wait = self.status == 429 or (self.status or 0) >= 500
        return asks_to_wait and (self.retry_after_s or 0.0) > MAX_WAIT_S


class Endpoint:
    """One OpenAI-compatible endpoint; used in `async with`. `base_url` is without `/v1`."""

    def __init__(self, base_url: str, *, api_key: str | None = None, byte_budget: int = DEFAULT_BYTE_BUDGET) -> None:
        self.base_url = base_url
        self._api_key = api_key
        self._byte_budget = byte_budget
        self.received_bytes = 0
        headers = {"Accept-Encoding": "identity"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(MAX_DEADLINE_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=64),
        )

    @property
    def is_exhausted(self) -> bool:
        """Whether the byte budget is used up."""
        return self.received_bytes >= self._byte_budget

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, body: Mapping[str, object], limits: AskLimits) -> Reply | Failure:
        """Send one chat completion request; raises nothing that the endpoint can cause, cancelling is passed on."""
        return await self._run("POST", CHAT_PATH, body, limits)

    async def get(self, path: str) -> Reply | Failure:
        """Return the JSON object at a path below the base URL."""
        return await self._run("GET", path, None, AskLimits(max_tokens=MAX_LIST_TOKENS, deadline_s=CONNECT_TIMEOUT_S))

    async def _run(
        self, method: str, path: str, body: Mapping[str, object] | None, limits: AskLimits
    ) -> Reply | Failure:
        exchange = HttpExchange(self._client, limits, self._byte_budget - self.received_bytes)
        try:
            reply = await exchange.run(method, self.base_url + path, body)
            if self._api_key is not None and _holds_text(reply.document, self._api_key):
                raise Failed(FailureReason.MALFORMED, "the answer repeats the API key")
            return reply
        except Failed as failed:
            return self._fail(exchange, failed.reason, str(failed), failed.status, failed.retry_after_s)
        except InvalidInput as error:
            return self._fail(exchange, FailureReason.MALFORMED, str(error))
        except TimeoutError:
            return self._fail(exchange, *exchange.explain_timeout())
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            return self._fail(exchange, *explain_error(error))
        finally:
            self.received_bytes += exchange.received_bytes

    def _fail(
        self,
        exchange: "HttpExchange",
        reason: FailureReason,
        detail: str,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> Failure:
        hidden = detail if self._api_key is None else detail.replace(self._api_key, "(the API key)")
        timing = Timing(total_ms=exchange.elapsed_ms())
        return Failure(
            reason=reason, detail=make_printable(hidden), status=status, retry_after_s=retry_after_s, timing=timing
        )


def _holds_text(value: object, text: str) -> bool:
    if isinstance(value, str):
        return text in value
    if isinstance(value, dict):
        return any(_holds_text(key, text) or _holds_text(item, text) for key, item in value.items())
    return isinstance(value, list) and any(_holds_text(item, text) for item in value)
