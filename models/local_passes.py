"""The passes of an audit by the claimed weights in this process."""

from collections.abc import Sequence
from typing import Any

import torch

from models.activation_format import ActivationProof
from models.activation_proofs import score_activation_proofs
from models.alternative_pass import compute_alternative_columns
from models.alternatives import SECOND_RUN, Alternative, AlternativeColumns, SkippedAlternative, list_alternatives
from models.claimed_noise import has_noise
from models.packing import load_packed
from models.reference import check_reference_request, compute_answer_states, group_by_length, score_batch, score_states
from models.requests import ChatMessage, ReferenceRequest
from models.retokenise import Retokenised
from models.retokenise_seeded import find_sampled_tokens
from models.siblings import find_siblings
from models.sure_answer import find_sure_answer
from models.token_bytes import TokenBytes
from models.variant_weights import WeightsShelf
from scoring.errors import InvalidInput, Unavailable
from scoring.evidence.profile import ENGINE_TRANSFORMERS


class LocalPasses:
    """The claimed weights in this process. Not safe for several threads."""

    engine = ENGINE_TRANSFORMERS

    def __init__(self, name: str, *, device: str = "auto", dtype: str = "bf16", siblings: Sequence[str] = ()) -> None:
        self.loaded = load_packed(name, dtype=dtype, device=device)
        self.alternatives = [*list_alternatives(self.loaded), *find_siblings(self.loaded, siblings)]
        self._shelf = WeightsShelf(self.loaded)
        self._states: dict[tuple[tuple[int, ...], tuple[int, ...]], Any] = {}
        """Hidden states of answers that were looked at under other sampling, [tokens, size], by prompt and answer."""

    @property
    def device(self) -> str:
        """The device of the claimed weights."""
        return self.loaded.device

    @property
    def cell(self) -> str:
        """Where the claimed model runs, in words."""
        return f"{self.loaded.dtype} on {self.loaded.device}, {self.loaded.attention}"

    def check(self, request: ReferenceRequest) -> None:
        """Raise InvalidInput when a request names tokens or a length that the model does not have."""
        check_reference_request(self.loaded, request)

    def score(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the columns of each claimed answer."""
        return list(score_batch(self.loaded, requests))

    def score_again(self, requests: Sequence[ReferenceRequest]) -> list[Any]:
        """Return the same from remembered hidden states, a few hundred kB an answer."""
        return list(score_states(self.loaded, requests, self._recall_states(requests)))

    def _recall_states(self, requests: Sequence[ReferenceRequest]) -> Any:
        missing = [item for item in requests if (item.prompt_ids, item.output_ids) not in self._states]
        for group in group_by_length(missing):
            chosen = [missing[index] for index in group]
            parts = compute_answer_states(self.loaded, chosen).split([len(item.output_ids) for item in chosen])
            for item, part in zip(chosen, parts, strict=True):
                self._states[item.prompt_ids, item.output_ids] = part
        return torch.cat([self._states[item.prompt_ids, item.output_ids] for item in requests])

    def run_alternative(
        self, alternative: Alternative, requests: Sequence[ReferenceRequest], messages: Sequence[Sequence[ChatMessage]]
    ) -> list[AlternativeColumns | SkippedAlternative]:
        """Return the columns of each answer under an alternative; one set of other weights is in memory at a time."""
        return compute_alternative_columns(self.loaded, alternative, requests, messages, shelf=self._shelf)

    def run_second(self, requests: Sequence[ReferenceRequest]) -> list[AlternativeColumns | None]:
        """Return the columns of seeded requests in other numerics, None for the others."""
        seeded = [place for place, request in enumerate(requests) if has_noise(request)]
        chosen = [requests[place] for place in seeded]
        found: list[AlternativeColumns | None] = [None] * len(requests)
        rows = compute_alternative_columns(self.loaded, SECOND_RUN, chosen, shelf=self._shelf)
        for place, row in zip(seeded, rows, strict=True):
            found[place] = row if isinstance(row, AlternativeColumns) else None
        return found

    def measure_proofs(self, request: ReferenceRequest, proofs: Sequence[ActivationProof]) -> float | None:
        """Return the error of activation proofs, None when they are of another answer."""
        try:
            return score_activation_proofs(self.loaded, request, proofs)
        except InvalidInput:
            return None

    def find_sampled_tokens(
        self, requests: Sequence[ReferenceRequest], found: Sequence[Retokenised], tokens: TokenBytes
    ) -> list[Retokenised]:
        """Return the ids of seeded answers that came as text, of smallest margin."""
        return find_sampled_tokens(self.loaded, requests, found, tokens=tokens)

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        """Return the beginning of the answer at temperature 0 that is sure; raises Unavailable when that fails."""
        try:
            return find_sure_answer(self.loaded, messages, max_tokens)
        except (RuntimeError, MemoryError) as error:  # out of memory, for one
            raise Unavailable(f"the reference model failed: {error}") from error

    def close(self) -> None:
        """Nothing is held that needs closing."""
