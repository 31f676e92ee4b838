"""The signed records of the protocol, one class for each thing that has a name there.

Digests are 32 bytes, addresses 20, times unix seconds, shares parts per million. `digest` of a record always means
its EIP-712 struct hash; what is signed is `eip712.compute_signing_root(record, domain)`.
"""

from dataclasses import dataclass
from enum import IntFlag

from scoring.eip712 import Address, Bool, Bytes, Bytes32, PublicKey, Record, Signature, Text, Uint64, Wei
from scoring.errors import InvalidInput

PPM = 1_000_000
ZERO_DIGEST = bytes(32)
ZERO_ADDRESS = bytes(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Record):
    """What a provider sells; signed by the provider's account. Prices are wei per token."""

    provider: Address
    model: Text
    manifest_digest: Bytes32
    sampler: Text
    context_length_tokens: Uint64
    input_price_wei: Wei
    output_price_wei: Wei
    advertised_ttft_ms: Uint64
    advertised_tokens_per_s: Uint64
    endpoint: Text
    issued_s: Uint64
    expires_s: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Record):
    """A provider's signed word on one answer. `counter` counts the provider's receipts to this consumer, from 1.

    `network` is the genesis hash; `token_ids_digest` is zero when no token ids were returned; `seed` is 0 unless
    `is_seeded`. `request_digest` and `response_digest` are defined in `challenges.receipt`.
    """

    network: Bytes32
    offer_digest: Bytes32
    provider: Address
    consumer: Address
    nonce: Bytes32
    request_digest: Bytes32
    response_digest: Bytes32
    token_ids_digest: Bytes32
    temperature_ppm: Uint64
    top_p_ppm: Uint64
    max_tokens: Uint64
    is_seeded: Bool
    seed: Uint64
    prompt_tokens: Uint64
    completion_tokens: Uint64
    input_price_wei: Wei
    output_price_wei: Wei
    counter: Uint64
    issued_s: Uint64
    expires_s: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorEntry(Record):
    """One seat: ledger account, BLS key (G1, 48 bytes), Ed25519 transport key, stake."""

    address: Address
    public_key: PublicKey
    transport_key: Bytes32
    stake_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorSet(Record):
    """The seats in registry order: the order of certificate bitfields. Addresses and keys are distinct."""

    network: Bytes32
    validators: tuple[ValidatorEntry, ...]

    def __post_init__(self) -> None:
        super(ValidatorSet, self).__post_init__()
        for field in ("address", "public_key", "transport_key"):
            if len({getattr(entry, field) for entry in self.validators}) != len(self.validators):
                raise InvalidInput(f"two validators share a {field}", "validators")

    @property
    def total_stake_wei(self) -> int:
        return sum(entry.stake_wei for entry in self.validators)

    def index_of(self, address: bytes) -> int | None:
        """Return the seat number of an account, or None."""
        return next((index for index, entry in enumerate(self.validators) if entry.address == address), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome(Record):
    """What one validator saw of one drawn probe. `reason` is empty when scored, else why there is no score.

    `statistics_ppm` follows the plan's order and is empty when unscored; `similarity_ppm` counts only with
    `has_similarity`; `transcript_digest` is zero when nothing was received.
    """

    provider: Address
    offer_digest: Bytes32
    index: Uint64
    reason: Text
    is_provider_fault: Bool
    transcript_digest: Bytes32
    ttft_ms: Uint64
    latency_ms: Uint64
    output_tokens: Uint64
    statistics_ppm: tuple[Uint64, ...]
    has_similarity: Bool
    similarity_ppm: Uint64

    def __post_init__(self) -> None:
        super(ProbeOutcome, self).__post_init__()
        if bool(self.reason) == bool(self.statistics_ppm):
            raise InvalidInput("a probe is either scored with statistics or unscored with a reason", "reason")
        if any(value > PPM for value in (*self.statistics_ppm, self.similarity_ppm)):
            raise InvalidInput("beyond 1,000,000 ppm", "statistics_ppm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Record):
    """A promise of a reveal: `reveal_digest` is the struct hash of the (salted) Reveal. BLS-signed."""

    validator: Address
    epoch: Uint64
    reveal_digest: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal(Record):
    """One validator's observations of one epoch, in canonical order (provider, offer, index). BLS-signed.

    `vrf_proof` is over (network, epoch, beacon): it fixes the probes and feeds the next beacon.
    """

    validator: Address
    epoch: Uint64
    salt: Bytes32
    vrf_proof: Signature
    outcomes: tuple[ProbeOutcome, ...]

    def __post_init__(self) -> None:
        super(Reveal, self).__post_init__()
        keys = [(outcome.provider, outcome.offer_digest, outcome.index) for outcome in self.outcomes]
        if keys != sorted(set(keys)):
            raise InvalidInput("not in order of provider, offer, index, each once", "outcomes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Record):
    """The certified record of an epoch. A validator signs at most one per epoch, ever.

    `previous` is the signing root of the last certified checkpoint (the genesis hash for the first); `vrf_outputs`
    are those of the reveals included, in registry order; `state_digest` commits to the aggregation state that every
    validator computes alike; `time_s` is the calendar start of the epoch.
    """

    epoch: Uint64
    previous: Bytes32
    time_s: Uint64
    beacon: Bytes32
    vrf_outputs: tuple[Bytes32, ...]
    reveals_root: Bytes32
    feed_root: Bytes32
    case_root: Bytes32
    state_digest: Bytes32
    validator_set_digest: Bytes32
    plan_digest: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate(Record):
    """More than 2/3 of stake on one signing root. Bit i of `signers` (LSB first in each byte) is seat i."""

    signing_root: Bytes32
    validator_set_digest: Bytes32
    signers: Bytes
    signature: Signature


class Flag(IntFlag):
    """Bits of FeedItem.flags."""

    PROVISIONAL = 1
    RENORMALISED = 2
    CASE_OPEN = 4
    CHALLENGE_OPEN = 8
    CAPPED_MINOR = 16
    CAPPED_MAJOR = 32
    CAPPED_SEVERE = 64
    BANNED = 128
    ALARM = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedItem(Record):
    """The published trust of one offer at one epoch: 0-1000 with its interval, its parts in ppm and its flags.

    `parts_present` is a bitmask in the order accuracy, uptime, latency, throughput, rating, agreement; an absent
    part is 0 in the item and left out of the weighting.
    """

    provider: Address
    offer_digest: Bytes32
    manifest_digest: Bytes32
    epoch: Uint64
    time_s: Uint64
    trust: Uint64
    trust_low: Uint64
    trust_high: Uint64
    accuracy_ppm: Uint64
    uptime_ppm: Uint64
    latency_ppm: Uint64
    throughput_ppm: Uint64
    rating_ppm: Uint64
    agreement_ppm: Uint64
    parts_present: Uint64
    samples: Uint64
    flags: Uint64
    speed_multiplier_ppm: Uint64
    quality_multiplier_ppm: Uint64
    availability_ppm: Uint64

    def __post_init__(self) -> None:
        super(FeedItem, self).__post_init__()
        if not self.trust_low <= self.trust <= self.trust_high <= 1000:
            raise InvalidInput("expected trust_low <= trust <= trust_high <= 1000", "trust")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseItem(Record):
    """The public state of one calendar case, computed from the certified reveals alone. Wealth is fixed point."""

    provider: Address
    offer_digest: Bytes32
    case_index: Uint64
    first_epoch: Uint64
    epoch: Uint64
    accounted_probes: Uint64
    missing_probes: Uint64
    wealth: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashingEvidence(Record):
    """What more than 2/3 of stake signs, each on its own e-process, before a provider is slashed.

    An offence is (offer_digest, rule, case_index). `checkpoint` is the signing root of the certified checkpoint of
    `last_epoch`; `bundle_digest` commits to every accounted probe of the case; `threshold` is 3 j (j+1) / alpha.
    """

    provider: Address
    offer_digest: Bytes32
    rule: Text
    case_index: Uint64
    first_epoch: Uint64
    last_epoch: Uint64
    checkpoint: Bytes32
    plan_digest: Bytes32
    bundle_digest: Bytes32
    threshold: Uint64
    slash_bps: Uint64
