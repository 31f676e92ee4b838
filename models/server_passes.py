"""The passes of an audit by a vLLM server that runs the claimed model, from the likeliest tokens that it names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from models.activation_format import ActivationProof
from models.alternatives import (
    KIND_HIDDEN_PROMPT,
    KIND_SIBLING,
    KIND_TRUNCATED_CONTEXT,
    KIND_WRONG_TEMPLATE,
    Alternative,
    AlternativeColumns,
    SkippedAlternative,
    build_alternative_prompt,
    list_alternatives,
)
from models.load import decode_tokens, encode_text, load_outline, render_prompt
from models.partial_statistics import ToldPosition, compute_alternative_logprobs, compute_partial_statistics
from models.reference import check_reference_request
from models.reference_server import ReferenceServer
from models.requests import ChatMessage, ReferenceRequest
from models.retokenise import Retokenised
from models.siblings import find_siblings
from models.sure_answer import count_sure
from models.token_bytes import TokenBytes
from models.variant_weights import WeightsShelf
from scoring.errors import InvalidInput
from scoring.evidence.profile import ENGINE_VLLM, SERVER

REMEMBERED = 512
"""Answers, some 150 kB each, that are looked at again without asking the server."""
PLAIN_TEXT = "The water in the glass was cold, and the children drank it before they went back to school."
LEAST_MEAN = -7.0
"""Nats a token that any model of English gives this sentence at least; one that reads other tokens gives some -10."""


class ServerPasses:
    """The claimed model on a vLLM server that the auditor trusts; here are its tokenizer and template alone."""

    engine = ENGINE_VLLM

    def __init__(self, name: str, server: ReferenceServer, url: str, *, siblings: Sequence[str] = ()) -> None:
        self.loaded = load_outline(name)
        kinds = (KIND_HIDDEN_PROMPT, KIND_WRONG_TEMPLATE, KIND_TRUNCATED_CONTEXT)
        listed = [item for item in list_alternatives(self.loaded) if item.kind in kinds]
        self.alternatives = [*listed, *find_siblings(self.loaded, siblings)]
        self._shelf = WeightsShelf(self.loaded)
        self._server = server
        self._url = url
        self._told: dict[tuple[tuple[int, ...], tuple[int, ...]], list[ToldPosition]] = {}
        self._verify()

    def _verify(self) -> None:
        """Raise InvalidInput when the server reads plain English as a model with other tokens would."""
        ids = encode_text(self.loaded, PLAIN_TEXT)
        (told,) = self._server.tell([ReferenceRequest(prompt_ids=tuple(ids[:1]), output_ids=tuple(ids[1:]))])
        mean = sum(item.claimed for item in told) / len(told)
        if mean < LEAST_MEAN:
            raise InvalidInput(
                f"{self._server.model} at {self._url} does not read the tokens of {self.loaded.manifest.name} "
                f"({mean:.1f} nats a token of plain English): it runs another model",
                "reference",
            )

    @property
    def device(self) -> str:
        """A server's own device is not known."""
        return SERVER

    @property
    def cell(self) -> str:
        """Where the claimed model runs, in words."""
        return f"{self._server.model} at {self._url}"

    def check(self, request: ReferenceRequest) -> None:
        """Raise InvalidInput when a request names tokens or a length that model or server do not have."""
        check_reference_request(self.loaded, request)
        length, most = len(request.prompt_ids) + len(request.output_ids), self._server.max_length
        # The server generates one token more, which nobody looks at.
        if most is not None and length >= most:
            raise InvalidInput(f"{length} tokens do not fit the reference server's {most}", "output_ids")

    def score(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the columns of each claimed answer, as far as the likeliest tokens tell."""
        return self.score_again(requests)

    def score_again(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the same: what the server says of an answer is asked for once, whatever the sampling."""
        for request in requests:
            self.check(request)
        keys = [(request.prompt_ids, request.output_ids) for request in requests]
        known = {key: self._told[key] for key in keys if key in self._told}
        missing = [request for request, key in zip(requests, keys, strict=True) if key not in known]
        for request, told in zip(missing, self._server.tell(missing), strict=True):
            known[request.prompt_ids, request.output_ids] = told
        # The newest last; a calibration looks at thousands of answers, once each.
        self._told = dict([*self._told.items(), *known.items()][-REMEMBERED:])
        size = self.loaded.manifest.vocabulary_size
        return [
            compute_partial_statistics(known[key], request, size) for key, request in zip(keys, requests, strict=True)
        ]

    def run_alternative(
        self, alternative: Alternative, requests: Sequence[ReferenceRequest], messages: Sequence[Sequence[ChatMessage]]
    ) -> list[AlternativeColumns | SkippedAlternative]:
        """Return the columns of each answer as one to another prompt, or of another model, which runs here."""
        if alternative.kind == KIND_SIBLING:
            from models.alternative_pass import compute_alternative_columns

            return compute_alternative_columns(self.loaded, alternative, requests, messages, shelf=self._shelf)
        prompts = [
            build_alternative_prompt(self.loaded, alternative, request, conversation)
            for request, conversation in zip(requests, messages, strict=True)
        ]
        changed = {
            place: replace(requests[place], prompt_ids=prompt)
            for place, prompt in enumerate(prompts)
            if not isinstance(prompt, SkippedAlternative) and self._fits(replace(requests[place], prompt_ids=prompt))
        }
        told = dict(zip(changed, self._server.tell(list(changed.values())), strict=True))
        return [
            AlternativeColumns(logprob=self._compute_logprobs(told[place], request), margin=None, gap=None)
            if place in told
            else SkippedAlternative(reason="the prompt stays the same, or does not fit")
            for place, request in enumerate(requests)
        ]

    def _fits(self, request: ReferenceRequest) -> bool:
        try:
            self.check(request)
        except InvalidInput:
            return False
        return True

    def _compute_logprobs(self, told: Sequence[ToldPosition], request: ReferenceRequest) -> tuple[float, ...]:
        return compute_alternative_logprobs(told, request, self.loaded.manifest.vocabulary_size)

    def run_second(self, requests: Sequence[ReferenceRequest]) -> list[AlternativeColumns | None]:
        """Return None for all: a server has one kind of numerics."""
        return [None] * len(requests)

    def measure_proofs(self, request: ReferenceRequest, proofs: Sequence[ActivationProof]) -> float | None:
        """Return None: a server shows no hidden states."""
        return None

    def find_sampled_tokens(
        self, requests: Sequence[ReferenceRequest], found: Sequence[Retokenised], tokens: TokenBytes
    ) -> list[Retokenised]:
        """Return what was found by the text alone, without the search, which takes many passes."""
        return list(found)

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        """Return the beginning of the answer at temperature 0 that is sure; raises InvalidInput, Unavailable."""
        prompt = tuple(render_prompt(self.loaded, messages))
        self.check(ReferenceRequest(prompt_ids=prompt, output_ids=(prompt[-1],) * max_tokens))
        found = self._server.continue_greedily(prompt, max_tokens)
        return decode_tokens(self.loaded, found.token_ids[: count_sure(found.logprobs)])

    def close(self) -> None:
        """Close the connections."""
        self._server.close()
