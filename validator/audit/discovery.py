"""Finds out what an endpoint offers, with a handful of requests that are never evidence.

Whether `seed` repeats an answer, which sampler is declared, log-probabilities, token ids, usage, streaming, and what
becomes of a parameter that must be refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.requests import SAMPLER_NONE, SAMPLERS
from scoring.errors import InvalidInput, Unavailable
from validator.audit.advice import MAY_PASS_STATUSES, explain_failure, is_fatal
from validator.audit.answered import Answered, parse_answered
from validator.audit.asked import PLAIN, Asked
from validator.audit.asker import Asker
from validator.audit.endpoint import Failure
from validator.audit.estimate import DISCOVERY_TOKENS
from validator.audit.facts import EndpointFacts, SamplerSource
from validator.audit.hostile_text import make_printable
from validator.audit.http_exchange import AskLimits, Reply
from validator.audit.outcomes import Origin, build_outcome
from validator.audit.records import Exchange

WANTED_LOGPROBS = 5
# What is left out when the endpoint refuses it, in the order in which servers are known to refuse.
OPTIONAL = (*PLAIN, "return_token_ids", "top_logprobs", "logprobs", "seed", "top_p")
WRONG_TOP_P = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """What was found, and the answers it was found with (for the identification of an undeclared sampler)."""

    facts: EndpointFacts
    exchanges: tuple[Exchange, ...]
    spent_tokens: int


class Discovery:
    """One look at an endpoint. `probes` are at least three drawn requests with seeds of their own."""

    def __init__(self, asker: Asker, *, base_url: str, key_variable: str | None, probes: Sequence[Asked]) -> None:
        self._asker = asker
        self._base_url = base_url
        self._key_variable = key_variable
        self._probes = [replace(probe, max_tokens=DISCOVERY_TOKENS) for probe in probes]
        self._refused: dict[str, str] = {}
        self._exchanges: list[Exchange] = []
        self._spent_tokens = 0
        self._model = ""

    async def run(self, model: str, declared: SamplerSource | None, report: Callable[[str], None]) -> Discovered:
        """Ask and return what was found; raises InvalidInput or Unavailable, with advice, when nothing is answered."""
        self._model = model
        report("asking what the endpoint offers")
        first = await self._ask_first()
        again = await self._ask(self._probes[0]) if "seed" not in self._refused else None
        other = await self._ask(replace(self._probes[0], seed=self._probes[1].seed)) if again is not None else None
        repeats = compare_seeded(first, again, other)
        streamed, has_stream_usage = await self._ask_streamed()
        # A sampler that is declared and not kept is told, and carries no evidence: the weights may still be right.
        is_declared = declared is not None and "seed" not in self._refused and repeats is not False
        return Discovered(
            facts=EndpointFacts(
                served_model=self._model,
                sampler=declared.sampler if declared is not None and is_declared else SAMPLER_NONE,
                sampler_source=declared.source if declared is not None and is_declared else None,
                declared_sampler=None if declared is None else declared.sampler,
                repeats_seed="seed" not in self._refused and repeats,
                has_token_ids=first.token_ids is not None,
                has_logprobs=bool(first.logprobs),
                top_logprobs=max((len(entry.top) for entry in first.logprobs or ()), default=0),
                has_usage=first.prompt_tokens is not None,
                has_receipts=first.receipt is not None,
                has_activation_proofs=first.proofs is not None,
                streams=streamed is not None,
                has_stream_usage=has_stream_usage,
                has_stream_token_ids=streamed is not None and streamed.token_ids is not None,
                stream_agrees=self._compare_streamed(first, streamed, repeats),
                refused=tuple(sorted(self._refused.items())),
                wrong_parameter=await self._ask_wrong(),
            ),
            exchanges=tuple(self._exchanges),
            spent_tokens=self._spent_tokens,
        )

    async def _ask_first(self) -> Answered:
        guessed: list[str] = []
        while True:
            found = await self._send(self._probes[0])
            if isinstance(found, Reply):
                return await self._restore(guessed, self._read(self._probes[0], found))
            left = self._list_refusable(found)
            if not left:
                raise explain_failure(found, self._base_url, self._key_variable)
            named = [name for name in left if name in found.detail]
            name = max(named, key=len) if named else left[0]
            if not named:
                guessed.append(name)
            self._refused[name] = found.detail

    def _list_refusable(self, failure: Failure) -> list[str]:
        """Return the parameters that a refusal may be about, the likeliest first."""
        status = failure.status or 0
        if is_fatal(failure) or not 400 <= status < 500 or status in MAY_PASS_STATUSES:
            return []
        return [name for name in OPTIONAL if name not in self._refused]

    async def _restore(self, guessed: Sequence[str], first: Answered) -> Answered:
        """Send again, in one request, what was left out for refusals that named nothing; return the last answer.

        Not what was left out last: that is what made the difference. Refused once more, all of it stays out.
        """
        last = next(reversed(self._refused), None)
        without = {name: said for name, said in self._refused.items() if name == last or name not in guessed}
        if len(without) == len(self._refused):
            return first
        before, self._refused = self._refused, without
        found = await self._send(self._probes[0])
        if isinstance(found, Reply):
            return self._read(self._probes[0], found)
        self._refused = before
        return first

    async def _ask(self, asked: Asked) -> Answered | None:
        found = await self._send(asked)
        if isinstance(found, Failure):
            if is_fatal(found):
                raise explain_failure(found, self._base_url, self._key_variable)
            return None
        try:
            return self._read(asked, found)
        except (InvalidInput, Unavailable):
            return None

    async def _ask_streamed(self) -> tuple[Answered | None, bool]:
        asked = replace(self._probes[0], is_streamed=True)
        for options in ({"include_usage": True}, None):
            found = await self._send(asked, {} if options is None else {"stream_options": options})
            if isinstance(found, Failure):
                continue
            if not found.is_streamed:
                return None, False
            try:
                answered = self._read(asked, found)
            except (InvalidInput, Unavailable):
                return None, False
            return answered, answered.completion_tokens is not None
        return None, False

    async def _ask_wrong(self) -> str:
        found = await self._send(replace(self._probes[2], max_tokens=1), {"top_p": WRONG_TOP_P})
        if isinstance(found, Reply):
            return f"a top_p of {WRONG_TOP_P:g} is answered as if it were none"
        if found.status is not None and 400 <= found.status < 500:
            return f"a top_p of {WRONG_TOP_P:g} is refused with HTTP status {found.status}"
        return f"a top_p of {WRONG_TOP_P:g} gives: {found.detail}"

    async def _send(self, asked: Asked, more: Mapping[str, object] | None = None) -> Reply | Failure:
        body = build_body(asked, self._model, leaves_out=self._refused, more=more)
        limits = AskLimits(
            max_tokens=asked.max_tokens or 1,
            logprobs=0 if "logprobs" in self._refused else 1 + WANTED_LOGPROBS,
            is_streamed=asked.is_streamed,
        )
        found = await self._asker.ask(body, limits)
        # What was not looked at because of a limit must not pass for what the endpoint lacks.
        if isinstance(found, Failure) and found.is_long_wait:
            raise explain_failure(found, self._base_url, self._key_variable)
        return found

    def _read(self, asked: Asked, reply: Reply) -> Answered:
        try:
            answered = parse_answered(reply.document, asked.max_tokens)
        except InvalidInput as error:
            raise Unavailable(f"{self._base_url} does not answer in OpenAI's format: {error}") from None
        self._spent_tokens += (answered.prompt_tokens or 0) + (answered.count_tokens() or 0)
        outcome = build_outcome(Origin(index=len(self._exchanges)), asked, answered, reply.timing)
        if isinstance(outcome, Exchange):
            self._exchanges.append(outcome)
        return answered

    def _compare_streamed(self, first: Answered, streamed: Answered | None, repeats: bool | None) -> bool | None:
        if streamed is None or not repeats:
            return None
        return compute_agreement(first.content, streamed.content) > 0.5


def build_body(
    asked: Asked, model: str, *, leaves_out: Mapping[str, str], more: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the body of a request with everything that could be of use, but what the endpoint refuses."""
    body: dict[str, object] = {"model": model, **asked.to_json()}
    body.update(logprobs=True, top_logprobs=WANTED_LOGPROBS, return_token_ids=True)
    if "logprobs" in leaves_out:
        body.pop("top_logprobs")
    for name in leaves_out:
        body.pop(name, None)
    if asked.is_streamed:
        body["stream"] = True
    return {**body, **(more or {})}


def compare_seeded(first: Answered, again: Answered | None, other: Answered | None) -> bool | None:
    """Say whether a seed repeats its answer: None when another seed gives the same answer too, or nothing came back.

    Honest answers part late: what else is in the batch moves the last digits of a logit.
    """
    if again is None or other is None or not first.content:
        return None
    same, different = (compute_agreement(first.content, item.content) for item in (again, other))
    if same > 0.5:
        return True if different < same / 2 else None
    return False


def compute_agreement(first: str, second: str) -> float:
    """Return the share of the longer text that is a common beginning."""
    length = max(len(first), len(second))
    pairs = zip(first, second, strict=False)
    common = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
    return common / length if length else 1.0


def find_declared(entry: Mapping[str, Any] | None, offer: Mapping[str, Any] | None) -> SamplerSource | None:
    """Return the sampler that the model list or the signed offer names, None when they name none of ours."""
    for source, document, names in (
        ("the signed offer", offer, ("sampler",)),
        ("the model list", entry, ("quiver_sampler", "sampler")),
    ):
        for name in names:
            sampler = (document or {}).get(name)
            if isinstance(sampler, str) and sampler in SAMPLERS and sampler != SAMPLER_NONE:
                return SamplerSource(sampler=sampler, source=source)
    return None


def choose_served_model(model: str, aliases: Sequence[str], listed: Sequence[str], wanted: str | None) -> str:
    """Return the name to ask for: the one wanted, the claimed one if it is listed, or the only one there is.

    Raises InvalidInput with the names to choose from.
    """
    if wanted is not None or not listed:
        return wanted or next(iter(aliases), model)
    found = next((name for name in (model, *aliases) if name in listed), None)
    if found is not None:
        return found
    if len(listed) == 1:
        return listed[0]
    names = ", ".join(make_printable(name, 60) for name in listed[:10])
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    raise InvalidInput(f"{model} is not listed; say what it is called there: {names}{more}", "--served-model")
