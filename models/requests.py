"""What is asked of a model and what comes back: records without torch, so that the daemon can import them.

Rules kept here: every number is checked on construction; temperatures and probabilities are floats because nothing
in this module is ever signed (the validator turns statistics into integers before they become evidence).
"""

import math
from dataclasses import dataclass

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import GRID_POWERS, GRID_TOP_PS_PPM
from scoring.records import PPM

MAX_SEED = 2**53 - 1
MAX_TEMPERATURE = 2.0
MAX_TOKENS = 1 << 20
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_TOP_LOGPROBS = 20

SAMPLER_NONE = "none"
SAMPLER_GUMBEL = "gumbel-philox-v1"
SAMPLER_EXPONENTIAL = "vllm-exponential"
SAMPLER_INVERSE_CDF = "inverse-cdf"
SEEDED_SAMPLERS = (SAMPLER_GUMBEL, SAMPLER_EXPONENTIAL, SAMPLER_INVERSE_CDF)
SAMPLERS = (SAMPLER_NONE, *SEEDED_SAMPLERS)

GRID_TEMPERATURES = tuple(20 / power for power in GRID_POWERS)
"""0.71, 0.83, 0.91, 1, 1.11, 1.25, 1.43: their weights are powers of one exponential, exp(logit / 20)."""
GRID_TOP_PS = tuple(top_p / PPM for top_p in GRID_TOP_PS_PPM)
GRID = tuple((temperature, top_p) for temperature in GRID_TEMPERATURES for top_p in GRID_TOP_PS)
"""The (temperature, top-p) points of `TokenStatistics.grid_logprob`, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation, as it goes into the chat template."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if not self.role or len(self.role) > 32:
            raise InvalidInput("a role has 1 to 32 characters", "role")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One answer to generate. `top_k` 0 and `top_p` 1.0 filter nothing; `seed` None asks for a fresh one.

    `logprobs` is None for no log-probabilities, or how many of the most probable tokens to report beside the chosen
    one (0 to 20). `stop` strings end the answer and are cut from its text. With `proves_activations` the answer comes
    with activation proofs.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    sampler: str = SAMPLER_GUMBEL
    proves_activations: bool = False

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.top_k, self.seed)
        check_token_ids(self.prompt_ids, "prompt_ids")
        if not self.prompt_ids:
            raise InvalidInput("a prompt needs at least one token", "prompt_ids")
        if self.sampler not in SEEDED_SAMPLERS:
            raise InvalidInput(f"answers are drawn by {', '.join(SEEDED_SAMPLERS)}, not {self.sampler!r}", "sampler")
        _check_integer(self.max_tokens, 1, MAX_TOKENS, "max_tokens")
        if self.logprobs is not None:
            _check_integer(self.logprobs, 0, MAX_TOP_LOGPROBS, "logprobs")
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidInput(f"more than {MAX_STOP_STRINGS} stop strings", "stop")
        for text in self.stop:
            if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_CHARACTERS:
                raise InvalidInput(f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters", "stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """The natural log-probability of one generated token and of the most probable tokens beside it.

    Taken from the raw distribution: temperature 1, no filter (like `TokenStatistics.raw_logprob`).
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generated answer. `token_ids` include the end token when `finish_reason` is "stop" because of it.

    `activation_proofs` are base64 (`models.activation_proofs`), None when they were not asked for.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    logprobs: tuple[TokenLogprob, ...] | None = None
    activation_proofs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """A claimed answer to run again through the claimed weights, with the sampling that it claims."""

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    sampler: str = SAMPLER_NONE

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.top_k, self.seed)
        check_token_ids(self.prompt_ids, "prompt_ids")
        check_token_ids(self.output_ids, "output_ids")
        if not self.prompt_ids:
            raise InvalidInput("a prompt needs at least one token", "prompt_ids")
        if self.sampler not in SAMPLERS:
            raise InvalidInput(f"this engine knows {', '.join(SAMPLERS)}, not {self.sampler!r}", "sampler")
        if self.sampler in SEEDED_SAMPLERS and self.seed is None:
            raise InvalidInput(f"{self.sampler} needs the seed of the request", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """What one teacher-forced pass says about a claimed answer: one number for each output position.

    `logprob` is the natural log-probability at the request's temperature and filter (-inf when the filter removed
    the token), `raw_logprob` the same at temperature 1 without filter. `rank` counts tokens with a larger logit.
    `entropy` (nats) and the PIT interval `[pit_low, pit_high]` = [F(y-), F(y)], tokens ordered by decreasing
    probability, belong to the filtered distribution (the interval is [1, 1] when the filter removed the token).
    `grid_logprob[j]` follows `GRID`. `margin` and `gap` (logit units) are None without seed, except that
    temperature 0 has them always: margin is 0 when the claimed token is the winner, inf when the filter removed it.
    """

    logprob: tuple[float, ...]
    raw_logprob: tuple[float, ...]
    rank: tuple[int, ...]
    entropy: tuple[float, ...]
    pit_low: tuple[float, ...]
    pit_high: tuple[float, ...]
    grid_logprob: tuple[tuple[float, ...], ...]
    margin: tuple[float, ...] | None
    gap: tuple[float, ...] | None

    def __post_init__(self) -> None:
        columns = (self.raw_logprob, self.rank, self.entropy, self.pit_low, self.pit_high, self.grid_logprob)
        if any(len(column) != len(self.logprob) for column in (*columns, self.margin, self.gap) if column is not None):
            raise InvalidInput("columns of different lengths", "statistics")
        if any(len(point) != len(GRID) for point in self.grid_logprob):
            raise InvalidInput(f"a grid row has {len(GRID)} numbers", "grid_logprob")


def check_sampling(temperature: float, top_p: float, top_k: int, seed: int | None) -> None:
    """Raise InvalidInput with the field's name unless 0 <= temperature <= 2, 0 < top_p <= 1 and the rest fit."""
    if not _is_number(temperature) or not 0.0 <= temperature <= MAX_TEMPERATURE:
        raise InvalidInput(f"must be between 0 and {MAX_TEMPERATURE}", "temperature")
    if not _is_number(top_p) or not 0.0 < top_p <= 1.0:
        raise InvalidInput("must be above 0 and at most 1", "top_p")
    _check_integer(top_k, 0, MAX_TOKENS, "top_k")
    if seed is not None:
        _check_integer(seed, 0, MAX_SEED, "seed")


def check_token_ids(token_ids: tuple[int, ...], field: str) -> None:
    """Raise InvalidInput unless `token_ids` is a tuple of at most 2**20 integers that are not negative."""
    if not isinstance(token_ids, tuple) or len(token_ids) > MAX_TOKENS:
        raise InvalidInput(f"must be a tuple of at most {MAX_TOKENS} token ids", field)
    if any(type(token) is not int or token < 0 for token in token_ids):
        raise InvalidInput("token ids are integers from 0", field)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_integer(value: object, low: int, high: int, field: str) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InvalidInput(f"must be an integer between {low} and {high}", field)
