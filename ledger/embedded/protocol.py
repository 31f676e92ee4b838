"""The ledger's HTTP interface as values: what is asked for, and how the answer is read. No I/O.

Both clients send these calls, so the wire is written down once. An answer is canonical JSON (log heads are signed
notes); an error is `{"error": {"code", "message", "field"}}` and becomes one of the branches of OracleError here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from challenges.filing import Dossier, parse_dossier
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import SignedTransaction
from ledger.state.view import AccountView, ChallengeView, LedgerView, ProviderView
from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import parse_hex, parse_wei
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
from scoring.records import Certificate, Checkpoint, SlashingEvidence

MAX_ANSWER_BYTES = 16 * 1024 * 1024
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Result]):
    """One request to a ledger. `parse` reads the body of a good answer; raises InvalidInput."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None
    parse: Callable[[bytes], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent:
    """One thing that happened: the log entry that made it (from 0), its name, its JSON fields."""

    sequence: int
    name: str
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An accepted transaction: place in the log (from 0), struct hash, what happened, the log's root after it."""

    sequence: int
    digest: bytes
    events: tuple[LedgerEvent, ...]
    log_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """Where the ledger stands. `epoch` is the last certified one, -1 for none; `operator_key` signs log heads."""

    network: bytes
    chain_id: int
    network_name: str
    epoch: int
    head_root: bytes
    time_s: int
    log_size: int
    log_root: bytes
    issued_wei: int
    burned_wei: int
    operator_key: bytes


def ask_status() -> Call[LedgerStatus]:
    """Ask where the ledger stands."""
    return _get("/v1/status", _parse_status)


def ask_genesis() -> Call[bytes]:
    """Ask for the genesis file's bytes."""
    return _get("/v1/genesis", lambda body: body)


def ask_view(epoch: int) -> Call[LedgerView]:
    """Ask for the view of an epoch."""
    return _get("/v1/state", LedgerView.decode, epoch=str(epoch))


def ask_account(address: bytes) -> Call[AccountView]:
    """Ask for an account as it is now."""
    return _get(f"/v1/accounts/0x{address.hex()}", AccountView.decode)


def ask_providers() -> Call[tuple[ProviderView, ...]]:
    """Ask for all providers as they are now (validators compute with the view of an epoch instead)."""
    return _get("/v1/providers", lambda body: _parse_list(body, ProviderView.from_json))


def ask_challenges(member: bytes | None, is_open: bool) -> Call[tuple[ChallengeView, ...]]:
    """Ask for challenges as they are now: of one committee member, or all; open ones alone, or all."""
    query = {"open": "1" if is_open else "0"} | ({} if member is None else {"member": "0x" + member.hex()})
    return _get("/v1/challenges", lambda body: _parse_list(body, ChallengeView.from_json), **query)


def ask_challenge(challenge_id: bytes) -> Call[ChallengeView]:
    """Ask for one challenge as it is now."""
    return _get(f"/v1/challenges/0x{challenge_id.hex()}", ChallengeView.decode)


def ask_dossier(challenge_id: bytes) -> Call[Dossier]:
    """Ask for the receipts of a challenge."""
    return _get(f"/v1/challenges/0x{challenge_id.hex()}/dossier", lambda body: parse_dossier(_decode(body)))


def ask_offence(evidence: SlashingEvidence) -> Call[bytes | None]:
    """Ask for the digest of the evidence by which an offence was settled (slashed or in its timelock), None if not."""
    return _get(
        "/v1/offences",
        _parse_offence,
        offer="0x" + evidence.offer_digest.hex(),
        rule=evidence.rule,
        case=str(evidence.case_index),
    )


def ask_checkpoint(epoch: int | None) -> Call[tuple[Checkpoint, Certificate]]:
    """Ask for a certified checkpoint; None for the latest."""
    return _get(f"/v1/checkpoints/{'latest' if epoch is None else epoch}", _parse_checkpoint)


def ask_events(since: int) -> Call[tuple[LedgerEvent, ...]]:
    """Ask for events from log entry `since` on (a page of entries; ask again from the last sequence plus one)."""
    return _get("/v1/events", lambda body: _parse_list(body, _parse_event), since=str(since))


def ask_log_head() -> Call[bytes]:
    """Ask for the signed note of the log's present head."""
    return _get("/v1/log/head", lambda body: body)


def ask_transaction(digest: bytes) -> Call[Accepted]:
    """Ask for an accepted transaction by its struct hash."""
    return _get(f"/v1/transactions/0x{digest.hex()}", _parse_accepted)


def post_transaction(signed: SignedTransaction) -> Call[Accepted]:
    """Submit a transaction."""
    return Call(method="POST", path="/v1/transactions", query={}, body=signed.encode(), parse=_parse_accepted)


def read_answer(call: Call[Result], status: int, body: bytes) -> Result:
    """Return the result of a call; raises what the server reported, Unavailable for what is no proper answer."""
    if status == 200:
        try:
            return call.parse(body)
        except (InvalidInput, KeyError, TypeError) as error:
            raise Unavailable(f"the ledger's answer to {call.path} is malformed: {error}") from error
    _raise_error(call.path, status, body)


def _raise_error(path: str, status: int, body: bytes) -> NoReturn:
    try:
        document: Any = canonical.decode(body, MAX_ANSWER_BYTES)
        error = document["error"]
        code, message, field = str(error["code"]), str(error["message"])[:1000], str(error["field"])
    except (OracleError, KeyError, TypeError):
        raise Unavailable(f"the ledger answered {path} with HTTP {status}") from None
    if status >= 500 or status == 429:
        raise Unavailable(f"the ledger cannot answer now: {message}")
    if code == "invalid-input":
        raise InvalidInput(message, field)
    if code == "verification-failed":
        raise VerificationFailed(message)
    raise TransactionRefused(code, message, field)


def _get(path: str, parse: Callable[[bytes], Result], **query: str) -> Call[Result]:
    return Call(method="GET", path=path, query=query, body=None, parse=parse)


def _decode(body: bytes) -> Any:
    return canonical.decode(body, MAX_ANSWER_BYTES)


def _parse_list(body: bytes, parse: Callable[[object], Result]) -> tuple[Result, ...]:
    items = _decode(body)
    if not isinstance(items, list):
        raise InvalidInput("expected a list")
    return tuple(parse(item) for item in items)


def _parse_status(body: bytes) -> LedgerStatus:
    value = _decode(body)
    return LedgerStatus(
        network=parse_hex(value["network"], "network"),
        chain_id=int(value["chain_id"]),
        network_name=str(value["network_name"]),
        epoch=int(value["epoch"]),
        head_root=parse_hex(value["head_root"], "head_root"),
        time_s=int(value["time_s"]),
        log_size=int(value["log_size"]),
        log_root=parse_hex(value["log_root"], "log_root"),
        issued_wei=parse_wei(value["issued_wei"], "issued_wei"),
        burned_wei=parse_wei(value["burned_wei"], "burned_wei"),
        operator_key=parse_hex(value["operator_key"], "operator_key"),
    )


def _parse_accepted(body: bytes) -> Accepted:
    value = _decode(body)
    return Accepted(
        sequence=int(value["sequence"]),
        digest=parse_hex(value["digest"], "digest"),
        events=tuple(_parse_event(item) for item in value["events"]),
        log_root=parse_hex(value["log_root"], "log_root"),
    )


def _parse_event(value: Any) -> LedgerEvent:
    return LedgerEvent(sequence=int(value["sequence"]), name=str(value["name"]), fields=dict(value["fields"]))


def _parse_checkpoint(body: bytes) -> tuple[Checkpoint, Certificate]:
    value = _decode(body)
    return Checkpoint.from_json(value["checkpoint"]), Certificate.from_json(value["certificate"])


def _parse_offence(body: bytes) -> bytes | None:
    digest = _decode(body)["evidence"]
    return None if digest is None else parse_hex(digest, "evidence")
