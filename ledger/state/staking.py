"""Balances, stakes, bonds, offers and seats: the transactions that need nobody's certificate."""

from dataclasses import replace

from challenges.signed import SignedOffer, verify_offer
from ledger.state.errors import TransactionRefused, require
from ledger.state.holdings import (
    Event,
    LedgerState,
    Provider,
    Unbonding,
    Validator,
    compute_validator_set,
    credit,
    debit,
    take_claimable,
    with_provider,
    with_validator,
)
from ledger.state.transactions import (
    AddStake,
    DeclareInterest,
    PostOffer,
    PostPerformanceBond,
    RegisterProvider,
    RegisterValidator,
    StartUnbonding,
    Transfer,
    UnbondPerformanceBond,
    Withdraw,
    WithdrawUnbonded,
)
from scoring import bls
from scoring.records import Offer

Applied = tuple[LedgerState, tuple[Event, ...]]
MAX_UNBONDINGS = 32
MAX_INTERESTS = 64
MAX_ENDPOINT_CHARACTERS = 256


def apply_transfer(state: LedgerState, transaction: Transfer) -> Applied:
    """Move balance between accounts."""
    require(transaction.amount_wei > 0, "zero-amount", "expected more than 0", "amount_wei")
    state = debit(state, transaction.sender, transaction.amount_wei, "amount_wei")
    state = credit(state, transaction.recipient, transaction.amount_wei)
    return state, (_event("transferred", transaction.sender, transaction.amount_wei, to=transaction.recipient),)


def apply_withdraw(state: LedgerState, transaction: Withdraw) -> Applied:
    """Move payouts to the balance."""
    state, amount_wei = take_claimable(state, transaction.sender)
    require(amount_wei > 0, "nothing-to-withdraw", "the account has nothing to claim", "sender")
    return state, (_event("withdrawn", transaction.sender, amount_wei),)


def apply_register_provider(state: LedgerState, transaction: RegisterProvider) -> Applied:
    """Register a provider with stake and first offer."""
    _require_new(state, transaction.sender)
    minimum = state.parameters.minimum_provider_stake_wei
    require(transaction.stake_wei >= minimum, "stake-too-small", f"at least {minimum} wei", "stake_wei")
    offer = _check_offer(state, transaction.sender, transaction.offer, transaction.offer_signature)
    state = debit(state, transaction.sender, transaction.stake_wei, "stake_wei")
    provider = Provider(address=transaction.sender, stake_wei=transaction.stake_wei, offers=(offer,))
    event = _event("provider-registered", transaction.sender, transaction.stake_wei, offer=offer.digest)
    return with_provider(state, provider), (event,)


def apply_post_offer(state: LedgerState, transaction: PostOffer) -> Applied:
    """Add an offer. Expired ones stay, since evidence may still name them, and count towards the limit."""
    provider = get_provider(state, transaction.sender)
    require(not provider.is_banned, "banned", "a banned provider posts no offers", "sender")
    offer = _check_offer(state, transaction.sender, transaction.offer, transaction.offer_signature)
    require(provider.find_offer(offer.digest) is None, "duplicate-offer", "this offer is posted already", "offer")
    limit = state.parameters.maximum_offers
    require(len(provider.offers) < limit, "too-many-offers", f"a provider has at most {limit} offers", "offer")
    state = with_provider(state, replace(provider, offers=(*provider.offers, offer)))
    return state, (_event("offer-posted", transaction.sender, 0, offer=offer.digest),)


def apply_register_validator(state: LedgerState, transaction: RegisterValidator) -> Applied:
    """Register a validator whose proof of possession holds."""
    _require_new(state, transaction.sender)
    minimum = state.parameters.minimum_validator_stake_wei
    require(transaction.stake_wei >= minimum, "stake-too-small", f"at least {minimum} wei", "stake_wei")
    for other in state.registry.validators.values():
        is_fresh = transaction.public_key != other.public_key and transaction.transport_key != other.transport_key
        require(is_fresh, "duplicate-key", "another validator has this key", "public_key")
    state = debit(state, transaction.sender, transaction.stake_wei, "stake_wei")
    validator = Validator(
        address=transaction.sender,
        public_key=transaction.public_key,
        transport_key=transaction.transport_key,
        endpoint=transaction.endpoint,
        stake_wei=transaction.stake_wei,
    )
    verify_validator(validator, transaction.proof_of_possession)
    return with_validator(state, validator), (
        _event("validator-registered", transaction.sender, transaction.stake_wei),
    )


def verify_validator(validator: Validator, proof_of_possession: bytes) -> None:
    """Raise TransactionRefused unless key, proof of possession and endpoint of a validator are good."""
    is_url = validator.endpoint.startswith(("http://", "https://"))
    is_short = len(validator.endpoint) <= MAX_ENDPOINT_CHARACTERS
    require(is_url and is_short, "bad-endpoint", "expected an http or https URL", "endpoint")
    require(any(validator.transport_key), "bad-transport-key", "the transport key is zero", "transport_key")
    has_proof = bls.pop_verify(validator.public_key, proof_of_possession)
    refusal = "the proof of possession does not hold for this public key"
    require(has_proof, "bad-proof-of-possession", refusal, "proof_of_possession")


def apply_add_stake(state: LedgerState, transaction: AddStake) -> Applied:
    """Move balance into stake."""
    require(transaction.amount_wei > 0, "zero-amount", "expected more than 0", "amount_wei")
    state = debit(state, transaction.sender, transaction.amount_wei, "amount_wei")
    holder = _get_holder(state, transaction.sender)
    holder = replace(holder, stake_wei=holder.stake_wei + transaction.amount_wei)
    return _with_holder(state, holder), (_event("stake-added", transaction.sender, transaction.amount_wei),)


def apply_start_unbonding(state: LedgerState, transaction: StartUnbonding) -> Applied:
    """Take stake out of service. The last seat cannot be given up: nobody could certify anything any more."""
    require(transaction.amount_wei > 0, "zero-amount", "expected more than 0", "amount_wei")
    holder = _get_holder(state, transaction.sender)
    enough = holder.stake_wei >= transaction.amount_wei
    require(enough, "insufficient-stake", f"the stake is {holder.stake_wei} wei", "amount_wei")
    holder = replace(holder, stake_wei=holder.stake_wei - transaction.amount_wei)
    state = _with_holder(state, _with_unbonding(state, holder, transaction.amount_wei))
    seats = compute_validator_set(state.network, state.registry, state.parameters.minimum_validator_stake_wei)
    require(bool(seats.validators), "last-validator", "the last validator cannot leave", "amount_wei")
    return state, (_event("unbonding-started", transaction.sender, transaction.amount_wei),)


def apply_withdraw_unbonded(state: LedgerState, transaction: WithdrawUnbonded) -> Applied:
    """Pay out stake whose period is over, unless accepted evidence still waits for its timelock."""
    holder = _get_holder(state, transaction.sender)
    is_accused = any(item.evidence.provider == transaction.sender for item in state.pending_slashes)
    require(not is_accused, "slash-pending", "accepted evidence against this provider is in its timelock", "sender")
    due = [item for item in holder.unbondings if item.release_epoch <= state.epoch]
    require(bool(due), "nothing-to-withdraw", "no stake has finished unbonding", "sender")
    amount_wei = sum(item.amount_wei for item in due)
    left = tuple(item for item in holder.unbondings if item.release_epoch > state.epoch)
    state = _with_holder(state, replace(holder, unbondings=left))
    return credit(state, transaction.sender, amount_wei), (
        _event("unbonded-withdrawn", transaction.sender, amount_wei),
    )


def apply_post_performance_bond(state: LedgerState, transaction: PostPerformanceBond) -> Applied:
    """Move balance into the performance bond."""
    require(transaction.amount_wei > 0, "zero-amount", "expected more than 0", "amount_wei")
    provider = get_provider(state, transaction.sender)
    state = debit(state, transaction.sender, transaction.amount_wei, "amount_wei")
    state = with_provider(state, replace(provider, bond_wei=provider.bond_wei + transaction.amount_wei))
    return state, (_event("performance-bond-posted", transaction.sender, transaction.amount_wei),)


def apply_unbond_performance_bond(state: LedgerState, transaction: UnbondPerformanceBond) -> Applied:
    """Move performance bond into unbonding."""
    require(transaction.amount_wei > 0, "zero-amount", "expected more than 0", "amount_wei")
    provider = get_provider(state, transaction.sender)
    enough = provider.bond_wei >= transaction.amount_wei
    require(enough, "insufficient-bond", f"the performance bond is {provider.bond_wei} wei", "amount_wei")
    provider = replace(provider, bond_wei=provider.bond_wei - transaction.amount_wei)
    state = _with_holder(state, _with_unbonding(state, provider, transaction.amount_wei))
    return state, (_event("performance-bond-unbonding", transaction.sender, transaction.amount_wei),)


def apply_declare_interest(state: LedgerState, transaction: DeclareInterest) -> Applied:
    """Record that a validator stays out of committees about a party."""
    validator = state.registry.validators.get(transaction.sender)
    if validator is None:
        raise TransactionRefused("not-a-validator", "the sender is no validator", "sender")
    require(transaction.party not in validator.interests, "duplicate-interest", "declared already", "party")
    limit = len(validator.interests) < MAX_INTERESTS
    require(limit, "too-many-interests", f"a validator declares at most {MAX_INTERESTS}", "party")
    state = with_validator(state, replace(validator, interests=(*validator.interests, transaction.party)))
    return state, (_event("interest-declared", transaction.sender, 0, party=transaction.party),)


def get_provider(state: LedgerState, address: bytes) -> Provider:
    """Return a registered provider; raises TransactionRefused."""
    provider = state.registry.providers.get(address)
    if provider is None:
        raise TransactionRefused("unknown-provider", f"0x{address.hex()} is no registered provider", "provider")
    return provider


def _check_offer(state: LedgerState, sender: bytes, offer: Offer, signature: bytes) -> SignedOffer:
    require(offer.provider == sender, "foreign-offer", "the offer is another provider's", "offer.provider")
    require(offer.expires_s > state.time_s, "expired-offer", "the offer has expired", "offer.expires_s")
    signed = SignedOffer(offer=offer, signature=signature)
    verify_offer(signed, domain=state.domain)
    return signed


def _require_new(state: LedgerState, address: bytes) -> None:
    is_new = address not in state.registry.providers and address not in state.registry.validators
    require(is_new, "already-registered", "an account is one provider or one validator, once", "sender")


def _get_holder(state: LedgerState, address: bytes) -> Provider | Validator:
    holder = state.registry.providers.get(address) or state.registry.validators.get(address)
    if holder is None:
        raise TransactionRefused("not-registered", "the sender is neither provider nor validator", "sender")
    return holder


def _with_holder(state: LedgerState, holder: Provider | Validator) -> LedgerState:
    return with_provider(state, holder) if isinstance(holder, Provider) else with_validator(state, holder)


def _with_unbonding(state: LedgerState, holder: Provider | Validator, amount_wei: int) -> Provider | Validator:
    room = len(holder.unbondings) < MAX_UNBONDINGS
    require(room, "too-many-unbondings", f"at most {MAX_UNBONDINGS} unbondings run at once", "sender")
    release_epoch = max(state.epoch, 0) + state.parameters.unbonding_epochs
    unbonding = Unbonding(amount_wei=amount_wei, release_epoch=release_epoch)
    return replace(holder, unbondings=(*holder.unbondings, unbonding))


def _event(name: str, account: bytes, amount_wei: int, **more: bytes) -> Event:
    named = {key: "0x" + value.hex() for key, value in more.items()}
    return Event(name=name, fields={"account": "0x" + account.hex(), "amount_wei": str(amount_wei), **named})
