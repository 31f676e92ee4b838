"""From an exchange to a claim that can be re-run: the prompt in the claimed template, the tokens, what is said of them.

Everything here is the provider's word, checked before any table is looked into with it. What cannot be re-run says why.
"""

from dataclasses import replace

from models.answer_pass import Claim, ReferenceModel
from models.requests import GRID_TEMPERATURES, SAMPLER_NONE, ReferenceRequest
from models.retokenise import FINISH_LENGTH, FINISH_STOP, TextAnswer
from scoring.errors import InvalidInput
from validator.audit.needles import is_needle
from validator.audit.records import Exchange, ReturnedLogprob

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 1.5
OUTSIDE = "outside of the calibrated envelope"
AGAIN = "asked again: serves contracts only"
NEEDLE = "a needle: serves contracts only"
MIN_TOP_P = 0.9
"""Below it, and with top-k, which tokens are left is a matter of honest numerics more often than text can be bet on."""
NO_EVIDENCE = (OUTSIDE, AGAIN, NEEDLE)
"""Notes of answers that are no evidence, whatever they say."""


class ClaimReader:
    """Reads claims for a reference model. `sampler` is the one whose margins are calibrated, None: any."""

    def __init__(self, model: ReferenceModel, sampler: str | None) -> None:
        self._model = model
        self._sampler = sampler
        self.reads_greedy = False
        """Whether answers at temperature 0 have bounds."""

    def read(self, exchange: Exchange) -> tuple[Claim | None, str]:
        """Return the claim, or None and why there is none."""
        if exchange.repeat_of is not None:
            return None, AGAIN
        if is_needle(exchange):
            return None, NEEDLE
        is_greedy = exchange.temperature == 0.0 and self.reads_greedy
        if not is_greedy and not MIN_TEMPERATURE <= exchange.temperature <= MAX_TEMPERATURE:
            return None, OUTSIDE
        try:
            claim = self._build(exchange)
        except InvalidInput as error:
            return None, f"cannot be re-run: {error}"
        if exchange.token_ids is not None and not self._model.is_text_of(exchange.content, exchange.token_ids):
            if not _is_spelled_out(exchange):
                return None, "the token ids do not spell the text"
            return self.read(replace(exchange, token_ids=None))
        if claim.found is not None and not claim.found.is_settled:
            return None, "; ".join(claim.found.doubts)
        return claim, ""

    def bets_on_text(self, exchange: Exchange, claim: Claim) -> bool:
        """Return whether the text of an answer may be bet on: its filter keeps enough, and how it ended is known.

        An answer that is cut before its end depends on what was said, and its likelihood ratio is no e-value.
        """
        keeps_enough = exchange.top_k == 0 and exchange.top_p >= MIN_TOP_P
        ids = claim.request.output_ids
        is_whole = exchange.finish_reason == FINISH_LENGTH or (bool(ids) and self._model.is_end(ids[-1]))
        # Of a text the end is a doubt, which costs evidence already.
        return keeps_enough and (is_whole or claim.found is not None)

    def _build(self, exchange: Exchange) -> Claim:
        """Return what an exchange claims; raises InvalidInput when the model could not have said it."""
        request = ReferenceRequest(
            prompt_ids=self._model.render(exchange.messages),
            output_ids=self._list_ids(exchange),
            temperature=exchange.temperature,
            top_p=exchange.top_p,
            top_k=exchange.top_k,
            seed=exchange.seed,
            sampler=self._find_sampler(exchange),
        )
        self._model.check(request)
        claim = Claim(messages=exchange.messages, request=request, proofs=exchange.proofs)
        if exchange.token_ids is None:
            claim = self._find_tokens(claim, exchange)
            self._model.check(claim.request)
        if not exchange.logprobs:
            return claim
        returned = tuple(entry.chosen.logprob for entry in exchange.logprobs)
        is_cut_anew = claim.found is not None and claim.found.is_canonical
        # A server may report them at the temperature that was asked for, which has to be within the grid then.
        is_in_grid = GRID_TEMPERATURES[0] <= exchange.temperature <= GRID_TEMPERATURES[-1]
        if is_cut_anew or not is_in_grid or not self._model.can_belong(returned, claim.request.output_ids):
            return claim
        return replace(claim, returned=returned)

    def _list_ids(self, exchange: Exchange) -> tuple[int, ...]:
        """Return the returned ids, with the end token where the server left it out and it can be no other."""
        ids = exchange.token_ids or ()
        is_ended = exchange.token_ids is not None and exchange.finish_reason == FINISH_STOP and not exchange.stop
        if not is_ended or (ids and self._model.is_end(ids[-1])) or (end := self._model.only_end) is None:
            return ids
        return (*ids, end)

    def _find_tokens(self, claim: Claim, exchange: Exchange) -> Claim:
        """Return the claim with the ids of a text: from the provider's own tokens where they settle it, else cut."""
        text = TextAnswer(
            text=exchange.content,
            finish_reason=exchange.finish_reason,
            stop=exchange.stop,
            completion_tokens=exchange.completion_tokens,
        )
        pieces = [_spell(entry) for entry in exchange.logprobs or ()]
        found = self._model.read_tokens(text, pieces) if pieces else None
        if found is None:
            found = self._model.retokenise([claim.request], [text])[0]
        return replace(claim, request=replace(claim.request, output_ids=found.token_ids), found=found)

    def _find_sampler(self, exchange: Exchange) -> str:
        """Return the sampler whose noise is looked at: none where its margins are not calibrated.

        Honest margins of one sampler say nothing of another's (those of inverse-cdf are several times as large). And
        which tokens a filter keeps at its border depends on the numerics, and the winner with it.
        """
        is_calibrated = self._sampler is None or exchange.sampler == self._sampler
        is_filtered = exchange.top_p < 1.0 or exchange.top_k > 0
        is_drawn = exchange.temperature > 0.0 and exchange.seed is not None
        return exchange.sampler if is_drawn and is_calibrated and not is_filtered else SAMPLER_NONE


def _is_spelled_out(exchange: Exchange) -> bool:
    """Return whether the tokens of the log-probabilities spell the text, whatever their ids.

    llama.cpp gives a character that is several tokens one entry, with the id of one of them.
    """
    spelled = b"".join(map(_spell, exchange.logprobs or ()))
    return bool(spelled) and spelled.strip() == exchange.content.encode().strip()


def _spell(entry: ReturnedLogprob) -> bytes:
    return entry.chosen.text.encode() if entry.chosen.data is None else entry.chosen.data
