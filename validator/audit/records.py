"""What an audit asked and got, and what it needs of those who judge it.

Rules kept here: a failure is `Missing`, never a score; every field of a provider was checked for type and size before
it gets here, and is still hostile text; nothing here is signed, so probabilities and times may be floats.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from models.activation_format import ActivationProof
from models.requests import SAMPLER_NONE, SAMPLERS, ChatMessage, check_sampling, check_token_ids
from scoring.errors import InvalidInput
from scoring.evidence.contract_alarm import ContractCount
from scoring.evidence.profile import ToleranceProfile

FINISH_REASONS = ("stop", "length")


class Claim(StrEnum):
    """What is tested: the weights alone (sampling settings are reported, never proven), or weights and sampling."""

    WEIGHTS = "weights"
    WEIGHTS_AND_SAMPLING = "weights+sampling"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedToken:
    """One token as a provider reports it: `data` are its UTF-8 bytes and `token_id` its id, None when not told."""

    text: str
    logprob: float
    data: bytes | None = None
    token_id: int | None = None

    def __post_init__(self) -> None:
        # -inf is not JSON, and some servers write -9999 for it: any finite number that can be a log-probability.
        if not math.isfinite(self.logprob) or self.logprob > 1e-3:
            raise InvalidInput("must be a finite number of at most 0", "logprob")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedLogprob:
    """The log-probability (nats) of one token of the answer, and of the most probable tokens at its place."""

    chosen: ReturnedToken
    top: tuple[ReturnedToken, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall-clock milliseconds from sending the request: to the first token of a stream, and to the end."""

    first_token_ms: float | None = None
    total_ms: float | None = None


NO_TIMING = Timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came back.

    `index` counts the audit's requests from 0 without gaps, `Missing` included. `sampler` is "none" when nothing is
    known of how the seed is used. `is_drawn` says that the prompt and its parameters follow from the audit's own seed
    (`probe_seed`) through the sealed generator: only then do calibrated means bind. `stratum` is the generator's, None
    for other prompts. With `stop` strings the answer may end without the end token. `token_ids` are the answer's, the
    end token included when the provider reports it, None when it reports none. `repeat_of` is the index of an earlier
    exchange with the same request (asked again streamed instead of whole): it serves contracts and carries no other
    evidence, because a seeded answer repeated is no new draw. `receipt` is the canonical JSON of `quiver_receipt`,
    not verified. `proofs` are the activation proofs that came along.
    """

    index: int
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    sampler: str
    is_drawn: bool
    stratum: str | None
    content: str
    token_ids: tuple[int, ...] | None
    logprobs: tuple[ReturnedLogprob, ...] | None
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    stop: tuple[str, ...] = ()
    timing: Timing = NO_TIMING
    is_streamed: bool = False
    repeat_of: int | None = None
    answered_model: str | None = None
    receipt: bytes | None = None
    proofs: tuple[ActivationProof, ...] | None = None
    probe_seed: bytes | None = None

    def __post_init__(self) -> None:
        if type(self.index) is not int or self.index < 0:
            raise InvalidInput("must be an integer from 0", "index")
        if not self.messages:
            raise InvalidInput("a conversation needs at least one message", "messages")
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise InvalidInput("must be an integer above 0", "max_tokens")
        check_sampling(self.temperature, self.top_p, self.top_k, self.seed)
        if self.sampler not in SAMPLERS:
            raise InvalidInput(f"there are {', '.join(SAMPLERS)}", "sampler")
        if self.sampler != SAMPLER_NONE and self.seed is None:
            raise InvalidInput(f"{self.sampler} needs the seed of the request", "seed")
        if self.token_ids is not None:
            check_token_ids(self.token_ids, "token_ids")
        if self.finish_reason not in FINISH_REASONS:
            raise InvalidInput(f"must be one of {', '.join(FINISH_REASONS)}", "finish_reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A request without an answer that can be judged: why, in a word (`reason`) and in a sentence (`detail`).

    `is_provider_fault` is False when our own machine or network failed, or when the line of a transcript says nothing.
    """

    index: int
    reason: str
    detail: str = ""
    is_provider_fault: bool = True
    timing: Timing = NO_TIMING


Outcome = Exchange | Missing


class Appraisal(Protocol):
    """What one outcome says. `log10_by_channel` is the evidence of this request alone, empty when it says nothing;
    `note` says why in a sentence then. `verified_tokens` counts the tokens of the answer that were re-run."""

    @property
    def index(self) -> int: ...
    @property
    def log10_by_channel(self) -> Mapping[str, float]: ...
    @property
    def note(self) -> str: ...
    @property
    def verified_tokens(self) -> int: ...


class Explanation(Protocol):
    """A named alternative ("int4 weights") and its share of the belief in [0, 1]."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...


class Evidence(Protocol):
    """The running verdict over appraisals: a pure fold, so that a resumed audit ends where an uninterrupted one does.

    `verdict` is one of consistent, suspect, proven, uninformative, unstable. `log10_e` and `log10_by_channel` are the
    e-values so far (what is compared with `log10_threshold` = -log10 alpha, for `proven`, and with `log10_alarm`, for
    `suspect`); `log10_slash_e` is what bounds that stake may be taken for give alone, None without such bounds.
    `contracts` are those that could be checked: they raise an alarm and prove nothing. `explanations` come most likely
    first. `can_prove` is False where nothing that is bet on could prove the claim wrong. `is_settled` says that more
    requests will not change the verdict in a way that is worth their price: proven, as suspect as can be where nothing
    proves, or consistent with every named alternative already excluded.
    """

    @property
    def verdict(self) -> str: ...
    @property
    def log10_e(self) -> float: ...
    @property
    def log10_slash_e(self) -> float | None: ...
    @property
    def log10_by_channel(self) -> Mapping[str, float]: ...
    @property
    def log10_threshold(self) -> float: ...
    @property
    def log10_alarm(self) -> float: ...
    @property
    def contracts(self) -> Sequence[ContractCount]: ...
    @property
    def explanations(self) -> Sequence[Explanation]: ...
    @property
    def can_prove(self) -> bool: ...
    @property
    def informative_requests(self) -> int: ...
    @property
    def is_settled(self) -> bool: ...

    def add(self, appraisal: Any) -> Self:
        """Return the evidence with one more appraisal of the same examiner: in the order of their index, each once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFacts:
    """What the answers are compared with: digests as bytes, `cell` in words, alternatives by name.

    `calibration` says in words what the bounds rest on, and when that is too little to take stake for.
    """

    model: str
    manifest_digest: bytes
    profile_digest: bytes | None
    cell: str
    calibration: str
    alternatives: tuple[str, ...]


class Examiner(Protocol):
    """Judges outcomes with the reference model. Called from a worker thread, one call at a time.

    The result depends on the outcomes alone and not on how they were cut into batches (up to numerical noise).
    """

    @property
    def facts(self) -> ReferenceFacts: ...

    def begin(self, channels: Sequence[str]) -> Evidence:
        """Return the evidence before the first appraisal, over the channels that the endpoint leaves open.

        They are named before anything is asked that counts: "seeded", "text", "logprobs", "activations", "usage".
        """
        ...

    def identify_sampler(self, exchanges: Sequence[Exchange]) -> str | None:
        """Return the sampler of ours that these seeded answers come from, None unless it is beyond doubt.

        Called once, with the answers of the discovery, when the seed repeats answers and no sampler was declared.
        They are no evidence afterwards. A wrong guess would make an honest provider look like a cheat: in doubt, None.
        """
        ...

    def examine(self, outcomes: Sequence[Outcome]) -> Sequence[Appraisal]:
        """Return one appraisal for each outcome, in their order; a `Missing` one bets the smallest factor.

        Raises Unavailable when the reference itself fails: that is never the provider's fault.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminerSettings:
    """What an examiner is made for; `validator.audit.examiner.open_examiner(settings)` is a context manager of one.

    `reference` is auto, cpu, cuda or the URL of a vLLM server, `reference_key` that server's API key; `alternatives`
    None takes all that the model has; `siblings` are other models by name; `expected_requests` bounds how many outcomes
    will come (the budget); `generator` is that of the plan's prompts, None when nothing is known of it; `profile` None
    takes the shipped one.
    """

    model: str
    reference: str = "auto"
    reference_key: str | None = field(default=None, repr=False)
    claim: Claim = Claim.WEIGHTS
    alpha: float = 1e-6
    alternatives: tuple[str, ...] | None = None
    siblings: tuple[str, ...] = ()
    expected_requests: int | None = None
    generator: str | None = None
    profile: ToleranceProfile | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise InvalidInput("must be between 0 and 1", "alpha")
