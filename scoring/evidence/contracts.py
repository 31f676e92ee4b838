"""Deterministic contracts: what an answer must satisfy whatever the weights are, and the bets on breaking it.

A comparison returns a `ContractOutcome`: kept, broken, or None where it cannot be checked. "Deterministic" is a claim
about the contract and not about the world: proxies retry, servers count a stop token or do not, small models miss a
needle. So a broken contract is a bounded statistic g = 1 with a *calibrated* honest failure rate mu, and no proof.
The exception is a contradiction that the provider signed itself (`find_contradictions`): proof without statistics.

Source: section 3 of the verification plan; the bet is the one of `scoring.evidence.betting` (Waudby-Smith and Ramdas,
JRSS-B 2023).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scoring.eip712 import compute_struct_hash
from scoring.errors import InvalidInput
from scoring.evidence.algebra import average_logs
from scoring.evidence.betting import Bettor, build_bettors, fold_bettors
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.records import PPM, Receipt

PROMPT_TOKENS = "prompt-tokens-v1"
COMPLETION_TOKENS = "completion-tokens-v1"
FINISH_REASON = "finish-reason-v1"
STREAMED = "streamed-equals-unstreamed-v1"
LOGPROBS = "logprobs-of-the-text-v1"
MAX_SHOWN = 200
LOGPROB_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractOutcome:
    """One contract of one answer. `is_kept` is None where it cannot be checked; the texts are for readers."""

    id: str
    is_kept: bool | None
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRate:
    """How often honest answers broke a contract, and the bound mu of that rate that bets are made against."""

    id: str
    requests: int
    failures: int
    mu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractWealth:
    """The bettors of every contract, by id."""

    bettors: Mapping[str, tuple[Bettor, ...]]

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the average over contracts and bettors: one e-process, in nats."""
        return average_logs([bettor.log_wealth for lines in self.bettors.values() for bettor in lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Two receipts that an honest provider never signs both. `repeated` is what they share: "nonce" or "counter"."""

    repeated: str
    first: Receipt
    second: Receipt


def compare_prompt_tokens(rendered_tokens: int, claimed_tokens: int | None) -> ContractOutcome:
    """Compare `usage.prompt_tokens` with the length of the rendered template: hidden prompts, cuts, other templates."""
    return _compare_counts(PROMPT_TOKENS, rendered_tokens, claimed_tokens)


def compare_completion_tokens(answer_tokens: int | None, claimed_tokens: int | None) -> ContractOutcome:
    """Compare `usage.completion_tokens` with the number of token ids of the answer (None: no ids were returned)."""
    return _compare_counts(COMPLETION_TOKENS, answer_tokens, claimed_tokens)


def compare_finish_reason(
    finish_reason: str | None, answer_tokens: int, max_tokens: int, ends_with_stop: bool | None
) -> ContractOutcome:
    """Compare the reason for stopping with the answer: "length" at exactly max_tokens, "stop" at a stop token.

    No answer is longer than max_tokens. `ends_with_stop` is None when it cannot be seen; reasons other than these two
    (filters, tools) cannot be checked.
    """
    is_kept: bool | None = None
    if answer_tokens > max_tokens:
        is_kept = False
    elif finish_reason == "length":
        is_kept = answer_tokens == max_tokens
    elif finish_reason == "stop":
        is_kept = ends_with_stop
    expected = "length" if answer_tokens == max_tokens and not ends_with_stop else "stop"
    found = f"{finish_reason} after {answer_tokens} of {max_tokens} tokens"
    return ContractOutcome(id=FINISH_REASON, is_kept=is_kept, expected=expected, found=found)


def build_needle_id(depth_percent: int) -> str:
    """Return the id of the needle contract at a depth of the context; each depth has its own honest failure rate."""
    if not 0 <= depth_percent <= 100:
        raise InvalidInput("must be from 0 to 100", "depth_percent")
    return f"needle-at-{depth_percent}-v1"


def compare_needle(depth_percent: int, needle: str, answer: str | None) -> ContractOutcome:
    """Tell whether the answer repeats the needle that was hidden at a depth of the context: truncated contexts lose it.

    Case and runs of white space do not count. Raises InvalidInput on a needle of white space alone.
    """
    wanted = _normalise(needle)
    if not wanted:
        raise InvalidInput("is empty", "needle")
    is_kept = None if answer is None else wanted in _normalise(answer)
    return ContractOutcome(
        id=build_needle_id(depth_percent),
        is_kept=is_kept,
        expected=needle[:MAX_SHOWN],
        found=(answer or "")[:MAX_SHOWN],
    )


def compare_streamed(streamed: str | None, unstreamed: str | None, is_reproducible: bool) -> ContractOutcome:
    """Compare the text of a stream with that of the same request unstreamed.

    Condition: the request fixes its answer (temperature 0, or a seed that the endpoint honours); else it is None.
    """
    is_checkable = is_reproducible and streamed is not None and unstreamed is not None
    return ContractOutcome(
        id=STREAMED,
        is_kept=streamed == unstreamed if is_checkable else None,
        expected=(unstreamed or "")[:MAX_SHOWN],
        found=(streamed or "")[:MAX_SHOWN],
    )


def compare_logprobs(
    text: str,
    tokens: Sequence[str] | None,
    logprobs: Sequence[float],
    top_logprobs: Sequence[Sequence[tuple[str, float]]] = (),
) -> ContractOutcome:
    """Tell whether returned log-probabilities can belong to the text at all, without asking any weights.

    The tokens spell the text; each is a probability; the alternatives of a position sum to at most 1, hold the token at
    its own log-probability or lie above it. None without logprobs, or where a token is part of a character.
    """
    if tokens is None or any("\ufffd" in token for token in tokens):
        return ContractOutcome(id=LOGPROBS, is_kept=None, expected="log-probabilities of the text", found="none")
    problem = _find_logprob_problem(text, tokens, logprobs, top_logprobs)
    return ContractOutcome(
        id=LOGPROBS, is_kept=not problem, expected="log-probabilities of the text", found=problem or "consistent"
    )


def compare_refusal(parameter: str, is_refused: bool | None) -> ContractOutcome:
    """Tell whether a request that the offer excludes was refused; None when no answer came at all."""
    found = {True: "refused", False: "answered", None: "no answer"}[is_refused]
    return ContractOutcome(id=f"refuses-{parameter}-v1", is_kept=is_refused, expected="refused", found=found)


def calibrate_contract(contract_id: str, requests: int, failures: int, log_one_over_delta: float) -> ContractRate:
    """Return the rate of a contract and its bound mu, which holds with probability 1 - delta.

    Condition: the requests are independent and honest, of the cell and stratum that mu is for. Without any failure mu
    is about `log(1/delta) / requests` (`bounds.compute_upper_bound_ppm`): what never failed still costs that.
    """
    if not 0 <= failures <= requests:
        raise InvalidInput("expected from 0 to the number of requests", "failures")
    values_ppm = [PPM] * failures + [0] * (requests - failures)
    mu_ppm = compute_upper_bound_ppm(values_ppm, log_one_over_delta)
    return ContractRate(id=contract_id, requests=requests, failures=failures, mu=mu_ppm / PPM)


def build_contract_wealth(rates: Sequence[ContractRate]) -> ContractWealth:
    """Return the bettors before the first request. Raises InvalidInput on no rate, one twice, or mu of 1."""
    if not rates or len({rate.id for rate in rates}) != len(rates):
        raise InvalidInput("needs at least one, each id once", "rates")
    return ContractWealth(bettors={rate.id: build_bettors([rate.mu]) for rate in rates})


def fold_contracts(
    wealth: ContractWealth, planned: Collection[str], outcomes: Sequence[ContractOutcome], request_cap: float
) -> ContractWealth:
    """Return the wealth after one more request: the contracts that it was planned to check are bet on, no others.

    Condition: `P(broken | everything before) <= mu` for each, and `planned` was fixed before the request (the needle of
    this depth was drawn). A planned contract without an outcome, or with None, bets the smallest factor: an answer that
    cannot be checked never gains. Raises InvalidInput on outcomes that were not planned or come twice.
    """
    found = {outcome.id: outcome for outcome in outcomes}
    if len(found) != len(outcomes) or not found.keys() <= set(planned):
        raise InvalidInput("expected planned contracts, each once", "outcomes")
    if not set(planned) <= wealth.bettors.keys():
        raise InvalidInput("has no calibrated rate", "planned")
    bettors = dict(wealth.bettors)
    for contract_id in set(planned):
        outcome = found.get(contract_id)
        is_broken = outcome is not None and outcome.is_kept is False
        bettors[contract_id] = fold_bettors(bettors[contract_id], (float(is_broken),), request_cap)
    return ContractWealth(bettors=bettors)


def find_contradictions(receipts: Sequence[Receipt]) -> tuple[Contradiction, ...]:
    """Return the pairs of different receipts of one provider to one consumer that share a nonce or a counter.

    Condition: the caller has verified every signature (`challenges.signed`). Counters never repeat; a nonce may, once
    the receipt that used it has expired. Proof by itself, with no error probability and no bet; each
    receipt is compared with the first of its kind.
    """
    first: dict[tuple[str, bytes, bytes, bytes, bytes | int], Receipt] = {}
    pairs = []
    for receipt in sorted(receipts, key=lambda item: (item.issued_s, compute_struct_hash(item))):
        parties = (receipt.network, receipt.provider, receipt.consumer)
        for repeated, value in (("nonce", receipt.nonce), ("counter", receipt.counter)):
            earlier = first.get((repeated, *parties, value))
            is_over = repeated == "nonce" and earlier is not None and receipt.issued_s > earlier.expires_s
            if earlier is None or is_over:
                first[repeated, *parties, value] = receipt
            elif earlier != receipt:
                pairs.append(Contradiction(repeated=repeated, first=earlier, second=receipt))
    return tuple(pairs)


def _compare_counts(contract_id: str, expected: int | None, claimed: int | None) -> ContractOutcome:
    is_kept = None if expected is None or claimed is None else expected == claimed
    return ContractOutcome(id=contract_id, is_kept=is_kept, expected=_show(expected), found=_show(claimed))


def _show(count: int | None) -> str:
    return "none" if count is None else str(count)


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split())


def _find_logprob_problem(
    text: str, tokens: Sequence[str], logprobs: Sequence[float], top_logprobs: Sequence[Sequence[tuple[str, float]]]
) -> str:
    if len(tokens) != len(logprobs) or (top_logprobs and len(top_logprobs) != len(tokens)):
        return (
            f"{len(logprobs)} log-probabilities and {len(top_logprobs)} lists of alternatives for {len(tokens)} tokens"
        )
    if "".join(tokens) != text:
        return "the tokens spell another text"
    for place, logprob in enumerate(logprobs):
        top = top_logprobs[place] if top_logprobs else ()
        if not logprob <= LOGPROB_TOLERANCE or not all(other <= LOGPROB_TOLERANCE for _, other in top):
            return f"token {place} has a log-probability that is none"
        if math.fsum(math.exp(other) for _, other in top) > 1 + LOGPROB_TOLERANCE * (1 + len(top)):
            return f"the alternatives of token {place} sum to more than 1"
        own = [other for token, other in top if token == tokens[place]]
        # Another id may print the same while the token itself is beyond the best: rare, and inside the honest rate.
        is_listed = any(abs(other - logprob) <= LOGPROB_TOLERANCE for other in own)
        is_below = all(logprob <= other + LOGPROB_TOLERANCE for _, other in top)
        if top and not is_listed and (own or not is_below):
            return f"token {place} contradicts its alternatives"
    return ""
