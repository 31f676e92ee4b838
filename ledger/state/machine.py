"""The ledger's transition function: `apply(state, transaction) -> (state, events)`. Deterministic, total, pure.

A transaction is applied whole or refused whole. Order of the checks: signature, nonce, then the rules of its kind.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ledger.state.certification import apply_submit_checkpoint, apply_submit_evidence
from ledger.state.disputes import (
    advance_challenges,
    apply_commit_verdict,
    apply_open_challenge,
    apply_reveal_verdict,
)
from ledger.state.errors import require
from ledger.state.holdings import LedgerState, count_transaction, get_account
from ledger.state.staking import (
    Applied,
    apply_add_stake,
    apply_declare_interest,
    apply_post_offer,
    apply_post_performance_bond,
    apply_register_provider,
    apply_register_validator,
    apply_start_unbonding,
    apply_transfer,
    apply_unbond_performance_bond,
    apply_withdraw,
    apply_withdraw_unbonded,
)
from ledger.state.transactions import (
    AddStake,
    CommitVerdict,
    DeclareInterest,
    OpenChallenge,
    PostOffer,
    PostPerformanceBond,
    RegisterProvider,
    RegisterValidator,
    RevealVerdict,
    SignedTransaction,
    StartUnbonding,
    SubmitCheckpoint,
    SubmitEvidence,
    Transaction,
    Transfer,
    UnbondPerformanceBond,
    Withdraw,
    WithdrawUnbonded,
    verify_transaction_signature,
)

_HANDLERS: Mapping[type[Transaction], Callable[[LedgerState, Any], Applied]] = {
    Transfer: apply_transfer,
    Withdraw: apply_withdraw,
    RegisterProvider: apply_register_provider,
    PostOffer: apply_post_offer,
    RegisterValidator: apply_register_validator,
    AddStake: apply_add_stake,
    StartUnbonding: apply_start_unbonding,
    WithdrawUnbonded: apply_withdraw_unbonded,
    PostPerformanceBond: apply_post_performance_bond,
    UnbondPerformanceBond: apply_unbond_performance_bond,
    DeclareInterest: apply_declare_interest,
    SubmitEvidence: apply_submit_evidence,
    CommitVerdict: apply_commit_verdict,
    RevealVerdict: apply_reveal_verdict,
}


def apply(state: LedgerState, signed: SignedTransaction) -> Applied:
    """Return the state after a transaction, and what happened.

    Raises VerificationFailed when a signature, certificate or receipt does not hold, TransactionRefused (with a code)
    when a rule is broken. The old state stays usable either way.
    """
    transaction = signed.transaction
    verify_transaction_signature(signed, state.domain)
    expected = get_account(state, transaction.sender).nonce
    found = f"expected {expected}, got {transaction.nonce}"
    require(transaction.nonce == expected, "wrong-nonce", found, "nonce")
    state, events = _dispatch(state, signed)
    return count_transaction(state, transaction.sender), events


def _dispatch(state: LedgerState, signed: SignedTransaction) -> Applied:
    transaction = signed.transaction
    if isinstance(transaction, SubmitCheckpoint):
        return apply_submit_checkpoint(state, transaction, advance_challenges)
    if isinstance(transaction, OpenChallenge) and signed.attachment is not None:
        return apply_open_challenge(state, transaction, signed.attachment)
    return _HANDLERS[type(transaction)](state, transaction)
