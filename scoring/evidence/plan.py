"""The sealed plan: every number that evidence depends on, fixed and hashed before the case that uses it.

A plan names statistics, honest bounds, stakes, caps, alpha, calendar and the envelope of the probes. Whoever has plan,
weights and transcripts recomputes every wealth bit for bit.
"""

from dataclasses import dataclass
from functools import lru_cache

from scoring.eip712 import Bool, Bytes32, Record, Text, Uint64
from scoring.errors import InvalidInput
from scoring.evidence.profile import ToleranceProfile
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.evidence.wealth import Bet
from scoring.hashing import keccak256
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import PPM

PROTOCOL_VERSION = "quiver-1"
RULE_ID = "mean-betting-v1"
LAMBDA_SHARES_PPM = (60_000, 200_000, 450_000, 700_000, 920_000)
"""Stakes as shares of 1/mu. A share f is the best stake against a cheat whose g averages about f: weak to gross."""
MAX_REQUEST_CAP = 1_000
MAX_CASE_LENGTH_EPOCHS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStatistic(Record):
    """One statistic of the plan: id, honest bound of its mean, and the stakes bet on it, in ppm."""

    statistic: Text
    mu_ppm: Uint64
    lambdas_ppm: tuple[Uint64, ...]

    def __post_init__(self) -> None:
        super(PlanStatistic, self).__post_init__()
        if self.statistic not in STATISTIC_IDS:
            raise InvalidInput(f"unknown statistic {self.statistic!r}", "statistic")
        if not self.lambdas_ppm or len(set(self.lambdas_ppm)) != len(self.lambdas_ppm):
            raise InvalidInput("needs at least one stake, each once", "lambdas_ppm")
        for lambda_ppm in self.lambdas_ppm:
            Bet(statistic=0, mu_ppm=self.mu_ppm, lambda_ppm=lambda_ppm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Record):
    """The plan of a network for one model. `to_json`, `from_json`, `encode` and `decode` are strict and canonical.

    `strata` are those that the profile calibrated: probes are drawn from these alone. `development` marks a plan whose
    profile is too small to slash in production. Delays count from the start of the epoch.
    """

    protocol_version: Text
    rule: Text
    development: Bool
    activation_epoch: Uint64
    manifest_digest: Bytes32
    profile_digest: Bytes32
    sampler: Text
    generator: Text
    strata: tuple[Text, ...]
    statistics: tuple[PlanStatistic, ...]
    request_cap: Uint64
    epoch_cap: Uint64
    one_over_alpha: Uint64
    case_length_epochs: Uint64
    probes_per_epoch: Uint64
    max_tokens: Uint64
    temperature_min_ppm: Uint64
    temperature_max_ppm: Uint64
    top_p_min_ppm: Uint64
    top_p_max_ppm: Uint64
    max_delay_ms: Uint64

    def __post_init__(self) -> None:
        super(Plan, self).__post_init__()
        if self.rule != RULE_ID:
            raise InvalidInput(f"expected {RULE_ID}", "rule")
        if self.generator != GENERATOR_ID:
            raise InvalidInput(f"expected {GENERATOR_ID}", "generator")
        if not self.strata or not set(self.strata) <= set(STRATA) or len(set(self.strata)) != len(self.strata):
            raise InvalidInput(f"expected some of {', '.join(STRATA)}, each once", "strata")
        ids = [statistic.statistic for statistic in self.statistics]
        if not ids or len(set(ids)) != len(ids):
            raise InvalidInput("needs at least one, each once", "statistics")
        self._check_numbers()

    def _check_numbers(self) -> None:
        limits = {
            "request_cap": (2, MAX_REQUEST_CAP),
            "epoch_cap": (2, MAX_REQUEST_CAP),
            "one_over_alpha": (100, 10**9),
            "case_length_epochs": (1, MAX_CASE_LENGTH_EPOCHS),
            "probes_per_epoch": (1, 64),
            "max_tokens": (1, 4096),
            "temperature_min_ppm": (0, self.temperature_max_ppm),
            "temperature_max_ppm": (0, 2 * PPM),
            "top_p_min_ppm": (1, self.top_p_max_ppm),
            "top_p_max_ppm": (1, PPM),
            "max_delay_ms": (0, 86_400_000),
        }
        for field, (low, high) in limits.items():
            if not low <= getattr(self, field) <= high:
                raise InvalidInput(f"{getattr(self, field)} is outside {low}..{high}", field)
        if self.activation_epoch % self.case_length_epochs:
            raise InvalidInput("a plan comes into force at the start of a case", "activation_epoch")

    @property
    def statistic_ids(self) -> tuple[str, ...]:
        """Return the ids in the order of `ProbeOutcome.statistics_ppm`."""
        return tuple(statistic.statistic for statistic in self.statistics)

    @property
    def bets(self) -> tuple[Bet, ...]:
        """Return the bets of every portfolio of this plan: statistics in order, stakes in order within."""
        return _build_bets(self.statistics)

    def compute_digest(self) -> bytes:
        """Return keccak256 of the canonical JSON, 32 bytes."""
        return keccak256(self.encode())


def build_plan(
    profile: ToleranceProfile,
    *,
    activation_epoch: int = 0,
    case_length_epochs: int = 30,
    probes_per_epoch: int = 2,
    one_over_alpha: int = 1_000_000,
    max_delay_ms: int = 0,
) -> Plan:
    """Return the plan that a tolerance profile supports: mu of a statistic is its maximum over strata and cells."""
    return Plan(
        protocol_version=PROTOCOL_VERSION,
        rule=RULE_ID,
        development=profile.development,
        activation_epoch=activation_epoch,
        manifest_digest=profile.manifest_digest,
        profile_digest=profile.compute_digest(),
        sampler=profile.sampler,
        generator=profile.generator,
        strata=profile.strata,
        statistics=tuple(
            PlanStatistic(statistic=statistic, mu_ppm=mu_ppm, lambdas_ppm=compute_lambdas_ppm(mu_ppm))
            for statistic, mu_ppm in profile.compute_mu_ppm().items()
            if statistic in STATISTIC_IDS
        ),
        request_cap=100,
        epoch_cap=100,
        one_over_alpha=one_over_alpha,
        case_length_epochs=case_length_epochs,
        probes_per_epoch=probes_per_epoch,
        max_tokens=profile.max_tokens,
        temperature_min_ppm=profile.temperature_ppm,
        temperature_max_ppm=profile.temperature_ppm,
        top_p_min_ppm=profile.top_p_ppm,
        top_p_max_ppm=profile.top_p_ppm,
        max_delay_ms=max_delay_ms,
    )


def compute_lambdas_ppm(mu_ppm: int) -> tuple[int, ...]:
    """Return the stakes for an honest bound mu: fixed shares of 1/mu, rounded down."""
    return tuple(share * PPM // mu_ppm for share in LAMBDA_SHARES_PPM)


@lru_cache(maxsize=64)
def _build_bets(statistics: tuple[PlanStatistic, ...]) -> tuple[Bet, ...]:
    return tuple(
        Bet(statistic=index, mu_ppm=statistic.mu_ppm, lambda_ppm=lambda_ppm)
        for index, statistic in enumerate(statistics)
        for lambda_ppm in statistic.lambdas_ppm
    )
