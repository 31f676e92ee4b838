"""What the ledger tells others: the view that validators compute epochs from, accounts, challenges.

The view of epoch e holds the facts that were closed when the last checkpoint before e was certified: those accepted
while the last certified epoch was at most e - 2 (when no epoch was skipped). So every validator that knows the same
last checkpoint computes with the same view. `since_epoch` is that checkpoint's epoch plus one (0: genesis alone), and
the view stays the same for every epoch from there on until another checkpoint is certified.
"""

from dataclasses import dataclass

from challenges.lifecycle import Challenge, Phase
from challenges.penalty import compute_tier
from challenges.signed import SignedOffer
from ledger.state.errors import require
from ledger.state.holdings import InfractionEntry, LedgerState, Provider, Registry, get_account
from scoring.eip712 import Address, Bool, Bytes, Bytes32, Record, Text, Uint64, Wei
from scoring.errors import InvalidInput
from scoring.records import Offer, ValidatorSet
from scoring.trust import Infraction


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderView(Record):
    """A provider as validators see it; `tier` is empty below all tiers.

    `offers` (in a `LedgerView` the unexpired ones) go with `signatures`.
    """

    provider: Address
    offers: tuple[Offer, ...]
    signatures: tuple[Bytes, ...]
    stake_wei: Wei
    unbonding_wei: Wei
    bond_wei: Wei
    tier: Text
    slash_cap_bps: Uint64
    infractions: tuple[InfractionEntry, ...]
    is_banned: Bool
    upheld_challenges: Uint64
    rejected_challenges: Uint64
    challenged_offers: tuple[Bytes32, ...]

    def __post_init__(self) -> None:
        super(ProviderView, self).__post_init__()
        if len(self.offers) != len(self.signatures):
            raise InvalidInput("one signature for each offer", "signatures")

    @property
    def signed_offers(self) -> tuple[SignedOffer, ...]:
        """The offers with their signatures."""
        pairs = zip(self.offers, self.signatures, strict=True)
        return tuple(SignedOffer(offer=offer, signature=signature) for offer, signature in pairs)

    @property
    def infraction_classes(self) -> frozenset[Infraction]:
        """The classes that cap the trust score."""
        classes = {Infraction(item.infraction) for item in self.infractions}
        return frozenset(classes | ({Infraction.BANNED} if self.is_banned else set()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeView(Record):
    """A challenge as anybody sees it.

    `filed_since` and `phase_since` are the ledger's epoch plus one at the filing and at the start of the phase;
    `deadline_epoch` is the certified epoch that ends the phase (0 when resolved). `e_values` and `abstentions` are
    those of `revealed`, in its order. `verdict` is empty while undecided.
    """

    challenge_id: Bytes32
    consumer: Address
    provider: Address
    offer_digest: Bytes32
    dossier_digest: Bytes32
    window_count: Uint64
    filing_fee_wei: Wei
    bond_wei: Wei
    cover_wei: Wei
    phase: Text
    filed_since: Uint64
    phase_since: Uint64
    deadline_epoch: Uint64
    committee: tuple[Address, ...]
    committed: tuple[Address, ...]
    revealed: tuple[Address, ...]
    e_values: tuple[Wei, ...]
    abstentions: tuple[Text, ...]
    verdict: Text

    @property
    def is_open(self) -> bool:
        """Whether it is not yet paid."""
        return self.phase != Phase.RESOLVED


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView(Record):
    """An account as it is now. `role` is provider, validator or empty."""

    address: Address
    balance_wei: Wei
    claimable_wei: Wei
    nonce: Uint64
    role: Text
    stake_wei: Wei
    unbonding_wei: Wei
    bond_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView(Record):
    """The closed facts for epochs from `since_epoch` on. `endpoints` are the validators' URLs in seat order.

    `previous` is the signing root of the last certified checkpoint (the genesis hash for none), `time_s` its time.
    """

    network: Bytes32
    since_epoch: Uint64
    previous: Bytes32
    time_s: Uint64
    validator_set: ValidatorSet
    endpoints: tuple[Text, ...]
    providers: tuple[ProviderView, ...]
    challenges: tuple[ChallengeView, ...]

    @property
    def basis_epoch(self) -> int:
        """The last certified epoch that closed these facts, -1 for genesis."""
        return self.since_epoch - 1

    def find_provider(self, address: bytes) -> ProviderView | None:
        """Return one provider, or None."""
        return next((item for item in self.providers if item.provider == address), None)


def compute_view(state: LedgerState, epoch: int) -> LedgerView:
    """Return the view of an epoch after the last certified one; providers in order of address.

    Raises TransactionRefused for an epoch that is already certified: its view has been closed by an older checkpoint
    and is kept by whoever keeps the log.
    """
    require(epoch > state.epoch, "epoch-closed", f"epoch {state.epoch} is certified already", "epoch")
    settled = state.settled
    return LedgerView(
        network=state.network,
        since_epoch=state.epoch + 1,
        previous=state.head_root,
        time_s=state.time_s,
        validator_set=state.validator_set,
        endpoints=tuple(settled.validators[seat.address].endpoint for seat in state.validator_set.validators),
        providers=_build_provider_views(state, settled, since_s=state.time_s),
        challenges=tuple(build_challenge_view(item) for item in settled.challenges.values() if item.is_open),
    )


def compute_providers_now(state: LedgerState) -> tuple[ProviderView, ...]:
    """Return all providers as they are at this moment, in order of address; expired offers are shown too."""
    return _build_provider_views(state, state.registry, since_s=0)


def build_challenge_view(challenge: Challenge) -> ChallengeView:
    """Return what anybody may see of a challenge."""
    revealed = tuple(member for member in challenge.committee if member in challenge.votes)
    return ChallengeView(
        challenge_id=challenge.challenge_id,
        consumer=challenge.consumer,
        provider=challenge.provider,
        offer_digest=challenge.offer_digest,
        dossier_digest=challenge.dossier_digest,
        window_count=challenge.window_count,
        filing_fee_wei=challenge.terms.filing_fee_wei,
        bond_wei=challenge.terms.bond_wei,
        cover_wei=challenge.cover_wei,
        phase=challenge.phase.value,
        filed_since=challenge.filed_epoch + 1,
        phase_since=challenge.phase_epoch + 1,
        deadline_epoch=_compute_deadline(challenge),
        committee=challenge.committee,
        committed=tuple(member for member in challenge.committee if member in challenge.commitments),
        revealed=revealed,
        e_values=tuple(challenge.votes[member].e_value for member in revealed),
        abstentions=tuple(challenge.votes[member].abstention for member in revealed),
        verdict="" if challenge.verdict is None else challenge.verdict.value,
    )


def build_account_view(state: LedgerState, address: bytes) -> AccountView:
    """Return an account as it is now."""
    account = get_account(state, address)
    provider = state.registry.providers.get(address)
    validator = state.registry.validators.get(address)
    holder = provider or validator
    return AccountView(
        address=address,
        balance_wei=account.balance_wei,
        claimable_wei=account.claimable_wei,
        nonce=account.nonce,
        role="provider" if provider else "validator" if validator else "",
        stake_wei=holder.stake_wei if holder else 0,
        unbonding_wei=sum(item.amount_wei for item in holder.unbondings) if holder else 0,
        bond_wei=provider.bond_wei if provider else 0,
    )


def _build_provider_views(state: LedgerState, registry: Registry, since_s: int) -> tuple[ProviderView, ...]:
    challenges = [challenge for challenge in registry.challenges.values() if challenge.is_open]
    challenged = {(challenge.provider, challenge.offer_digest) for challenge in challenges}
    providers = sorted(registry.providers.values(), key=lambda provider: provider.address)
    return tuple(_build_provider_view(state, provider, challenged, since_s) for provider in providers)


def _build_provider_view(
    state: LedgerState, provider: Provider, challenged: set[tuple[bytes, bytes]], since_s: int
) -> ProviderView:
    offers = tuple(offer for offer in provider.offers if offer.offer.expires_s > since_s)
    tier = compute_tier(provider.slashable_wei, state.parameters.tiers)
    return ProviderView(
        provider=provider.address,
        offers=tuple(offer.offer for offer in offers),
        signatures=tuple(offer.signature for offer in offers),
        stake_wei=provider.stake_wei,
        unbonding_wei=provider.slashable_wei - provider.stake_wei,
        bond_wei=provider.bond_wei,
        tier=tier.name if tier else "",
        slash_cap_bps=(tier or state.parameters.tiers[0]).slash_cap_bps,
        infractions=provider.infractions,
        is_banned=provider.is_banned,
        upheld_challenges=provider.upheld_challenges,
        rejected_challenges=provider.rejected_challenges,
        challenged_offers=tuple(o.digest for o in offers if (provider.address, o.digest) in challenged),
    )


def _compute_deadline(challenge: Challenge) -> int:
    terms = challenge.terms
    periods = {
        Phase.FILED: terms.draw_delay_epochs,
        Phase.COMMITTEE: terms.commit_epochs,
        Phase.COMMITTED: terms.reveal_epochs,
    }
    return challenge.phase_epoch + periods[challenge.phase] if challenge.phase in periods else 0
