"""The governed parameters of the trust score, checked once when they are made."""

from dataclasses import dataclass

from scoring.eip712 import Record, Uint64
from scoring.errors import InvalidInput
from scoring.records import PPM

HALF_LIFE_DAYS = 30
MAX_HALF_LIFE_EPOCHS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustParameters(Record):
    """Weights, caps and windows. Every network has one set of them, in its genesis, and changes it by governance.

    `z_milli` is the one-sided normal quantile of the parts' bounds in thousandths, `interval_z_milli` that of the
    published interval; `statistic_index` is the plan's main statistic and `fidelity_zero_ppm` its value at which
    fidelity is nothing; `similarity_weight_ppm` is the share of similarity in accuracy when it was measured;
    `agreement_tolerance_ppm` is the difference between seats at which agreement is nothing.
    """

    accuracy_weight_ppm: Uint64 = 400_000
    uptime_weight_ppm: Uint64 = 200_000
    latency_weight_ppm: Uint64 = 100_000
    throughput_weight_ppm: Uint64 = 100_000
    rating_weight_ppm: Uint64 = 100_000
    agreement_weight_ppm: Uint64 = 100_000
    half_life_epochs: Uint64 = HALF_LIFE_DAYS * 24
    minor_cap: Uint64 = 700
    major_cap: Uint64 = 400
    min_samples: Uint64 = 30
    z_milli: Uint64 = 1_645
    interval_z_milli: Uint64 = 2_576
    statistic_index: Uint64 = 0
    fidelity_zero_ppm: Uint64 = PPM
    similarity_weight_ppm: Uint64 = 200_000
    agreement_tolerance_ppm: Uint64 = 200_000
    max_probes_per_seat: Uint64 = 1_000
    fast_ttft_ms: Uint64 = 100
    speed_bonus_ppm: Uint64 = 200_000
    quality_bonus_ppm: Uint64 = 500_000

    def __post_init__(self) -> None:
        super(TrustParameters, self).__post_init__()
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(f"expected {low}..{high}", name)
        if sum(self.weights_ppm) != PPM:
            raise InvalidInput("the six weights must sum to 1,000,000 ppm", "accuracy_weight_ppm")
        if self.interval_z_milli < self.z_milli:
            raise InvalidInput("the interval must not be narrower than the score's own bound", "interval_z_milli")
        if self.major_cap > self.minor_cap:
            raise InvalidInput("a major infraction must not cap less than a minor one", "major_cap")

    @property
    def weights_ppm(self) -> tuple[int, ...]:
        """The weights in the order of FeedItem.parts_present."""
        return (
            self.accuracy_weight_ppm,
            self.uptime_weight_ppm,
            self.latency_weight_ppm,
            self.throughput_weight_ppm,
            self.rating_weight_ppm,
            self.agreement_weight_ppm,
        )


_RANGES = (
    ("half_life_epochs", 1, MAX_HALF_LIFE_EPOCHS),
    ("minor_cap", 0, 1000),
    ("z_milli", 0, 10_000),
    ("interval_z_milli", 0, 10_000),
    ("fidelity_zero_ppm", 1, PPM),
    ("similarity_weight_ppm", 0, PPM // 2),
    ("agreement_tolerance_ppm", 1, PPM),
    ("max_probes_per_seat", 1, 10_000),
    ("speed_bonus_ppm", 0, PPM),
    ("quality_bonus_ppm", 0, PPM),
)


def build_trust_parameters(epochs_per_day: int) -> TrustParameters:
    """Return the defaults for a network with that many epochs a day: a half-life of 30 days.

    An observation then weighs an eighth after the 90 days of TE §4.2.
    """
    return TrustParameters(half_life_epochs=min(MAX_HALF_LIFE_EPOCHS, max(1, HALF_LIFE_DAYS * epochs_per_day)))
