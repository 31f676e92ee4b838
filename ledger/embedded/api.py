"""The HTTP interface of the embedded ledger: routes, limits, and one middleware that maps errors.

Everything is canonical JSON; errors are `{"error": {"code", "message", "field"}}`. Nothing here is secret, and nothing
a client says is trusted: a transaction is refused or accepted by the state machine alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from ledger.embedded.log_head import LogHead, build_origin, derive_public_key, sign_log_head
from ledger.embedded.rate_limit import Rate, RateLimiter
from ledger.embedded.store import LedgerStore
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import MAX_DOCUMENT_BYTES
from ledger.state.view import build_account_view, build_challenge_view, compute_providers_now
from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.certificate import compute_validator_set_digest
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed

REQUEST_TIMEOUT_S = 15.0
DEFAULT_RATE = Rate(per_s=500.0, burst=2_000)
EVENTS_PAGE = 200
STORE = web.AppKey("store", LedgerStore)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(store: LedgerStore, rate: Rate = DEFAULT_RATE) -> web.Application:
    """Return the application that serves a ledger."""
    limiter = RateLimiter(rate)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not limiter.take(request.remote or "", time.monotonic()):
            return _error(429, "rate-limited", "too many requests: wait a second", "")
        return await _map_errors(request, handler)

    app = web.Application(middlewares=[guard], client_max_size=MAX_DOCUMENT_BYTES)
    app[STORE] = store
    app.add_routes(
        [
            web.post("/v1/transactions", post_transaction),
            web.get("/v1/transactions/{digest}", get_transaction),
            web.get("/v1/status", get_status),
            web.get("/v1/genesis", get_genesis),
            web.get("/v1/state", get_state),
            web.get("/v1/accounts/{address}", get_account),
            web.get("/v1/providers", get_providers),
            web.get("/v1/challenges", get_challenges),
            web.get("/v1/challenges/{id}", get_challenge),
            web.get("/v1/challenges/{id}/dossier", get_dossier),
            web.get("/v1/offences", get_offence),
            web.get("/v1/checkpoints/{epoch}", get_checkpoint),
            web.get("/v1/events", get_events),
            web.get("/v1/log/head", get_log_head),
            web.get("/v1/log/entries/{sequence}", get_log_entry),
            web.get("/v1/log/proof/inclusion", get_inclusion_proof),
            web.get("/v1/log/proof/consistency", get_consistency_proof),
        ]
    )
    return app


async def post_transaction(request: web.Request) -> web.StreamResponse:
    """Apply a transaction; the answer comes after it is on disk."""
    return _json(request.app[STORE].append(await request.read()).to_json())


async def get_transaction(request: web.Request) -> web.StreamResponse:
    """Return an accepted transaction's place and events by the struct hash of its record."""
    entry = request.app[STORE].find_entry(_parse_exact(request.match_info["digest"], 32, "digest"))
    if entry is None:
        raise TransactionRefused("not-found", "no such transaction was accepted", "digest")
    return _json(entry.to_json())


async def get_status(request: web.Request) -> web.StreamResponse:
    """Return where the ledger stands."""
    store = request.app[STORE]
    state = store.state
    return _json(
        {
            "network": _hex(state.network),
            "chain_id": state.domain.chain_id,
            "network_name": store.genesis.network_name,
            "epoch": state.epoch,
            "head_root": _hex(state.head_root),
            "time_s": state.time_s,
            "validator_set_digest": _hex(compute_validator_set_digest(state.validator_set)),
            "log_size": store.log.size,
            "log_root": _hex(store.log.compute_root()),
            "issued_wei": str(state.issued_wei),
            "burned_wei": str(state.burned_wei),
            "operator_key": _hex(derive_public_key(store.operator_key)),
        }
    )


async def get_genesis(request: web.Request) -> web.StreamResponse:
    """Return the genesis file."""
    return web.Response(body=request.app[STORE].genesis.encode(), content_type="application/json")


async def get_state(request: web.Request) -> web.StreamResponse:
    """Return the view of an epoch (?epoch=)."""
    return _json(request.app[STORE].get_view(_parse_query(request, "epoch")).to_json())


async def get_account(request: web.Request) -> web.StreamResponse:
    """Return an account; one that was never used is empty."""
    address = _parse_exact(request.match_info["address"], 20, "address")
    return _json(build_account_view(request.app[STORE].state, address).to_json())


async def get_providers(request: web.Request) -> web.StreamResponse:
    """Return all providers as they are now."""
    return _json([provider.to_json() for provider in compute_providers_now(request.app[STORE].state)])


async def get_challenges(request: web.Request) -> web.StreamResponse:
    """Return challenges: ?open=1 for unresolved ones alone, ?member= for those of one committee member."""
    member = request.query.get("member")
    address = None if member is None else _parse_exact(member, 20, "member")
    wants_open = request.query.get("open", "0") == "1"
    challenges = request.app[STORE].state.registry.challenges.values()
    chosen = [
        challenge
        for challenge in challenges
        if (challenge.is_open or not wants_open) and (address is None or address in challenge.committee)
    ]
    return _json([build_challenge_view(challenge).to_json() for challenge in chosen])


async def get_challenge(request: web.Request) -> web.StreamResponse:
    """Return one challenge."""
    challenge_id = _parse_exact(request.match_info["id"], 32, "id")
    challenge = request.app[STORE].state.registry.challenges.get(challenge_id)
    if challenge is None:
        raise TransactionRefused("not-found", "no such challenge", "id")
    return _json(build_challenge_view(challenge).to_json())


async def get_dossier(request: web.Request) -> web.StreamResponse:
    """Return the receipts, requests and responses of a challenge."""
    dossier = request.app[STORE].get_dossier(_parse_exact(request.match_info["id"], 32, "id"))
    if dossier is None:
        raise TransactionRefused("not-found", "no such challenge", "id")
    return _json(dossier)


async def get_offence(request: web.Request) -> web.StreamResponse:
    """Return the digest of the evidence that settled an offence (?offer=&rule=&case=), null when none did."""
    offer = _parse_exact(request.query.get("offer", ""), 32, "offer")
    offence = (offer, request.query.get("rule", ""), _parse_query(request, "case"))
    digest = request.app[STORE].state.offences.get(offence)
    return _json({"evidence": None if digest is None else _hex(digest)})


async def get_checkpoint(request: web.Request) -> web.StreamResponse:
    """Return a certified checkpoint with its certificate, `latest` or by epoch."""
    name = request.match_info["epoch"]
    found = request.app[STORE].get_checkpoint(None if name == "latest" else _parse_integer(name, "epoch"))
    if found is None:
        raise TransactionRefused("not-found", "no checkpoint of this epoch is certified", "epoch")
    return _json({"checkpoint": found[0].to_json(), "certificate": found[1].to_json()})


async def get_events(request: web.Request) -> web.StreamResponse:
    """Return the events of a page of log entries (?since=)."""
    entries = request.app[STORE].list_entries(_parse_query(request, "since"), EVENTS_PAGE)
    return _json([event for entry in entries for event in entry.events_to_json()])


async def get_log_head(request: web.Request) -> web.StreamResponse:
    """Return the signed note of the log's head."""
    store = request.app[STORE]
    head = LogHead(origin=build_origin(store.state.network), size=store.log.size, root=store.log.compute_root())
    return web.Response(body=sign_log_head(head, store.operator_key), content_type="text/plain", charset="utf-8")


async def get_log_entry(request: web.Request) -> web.StreamResponse:
    """Return the bytes of one log entry: a transaction as it was submitted."""
    raw = request.app[STORE].get_raw(_parse_integer(request.match_info["sequence"], "sequence"))
    if raw is None:
        raise TransactionRefused("not-found", "the log is shorter", "sequence")
    return web.Response(body=raw, content_type="application/json")


async def get_inclusion_proof(request: web.Request) -> web.StreamResponse:
    """Return the RFC 6962 audit path of an entry (?index=&size=)."""
    log = request.app[STORE].log
    proof = log.compute_inclusion_proof(_parse_query(request, "index"), _parse_query(request, "size"))
    return _json({"proof": [_hex(item) for item in proof]})


async def get_consistency_proof(request: web.Request) -> web.StreamResponse:
    """Return the RFC 6962 consistency proof between two sizes (?first=&second=)."""
    log = request.app[STORE].log
    proof = log.compute_consistency_proof(_parse_query(request, "first"), _parse_query(request, "second"))
    return _json({"proof": [_hex(item) for item in proof]})


async def _map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            return await handler(request)
    except TransactionRefused as error:
        status = 404 if error.code == "not-found" else 409
        return _error(status, error.code, str(error).removeprefix(f"{error.field}: "), error.field)
    except InvalidInput as error:
        return _error(400, "invalid-input", str(error).removeprefix(f"{error.field}: "), error.field)
    except VerificationFailed as error:
        return _error(422, "verification-failed", str(error), "")
    except Unavailable as error:
        return _error(503, "unavailable", str(error), "")
    except OracleError as error:
        return _error(500, "internal", str(error), "")
    except TimeoutError:
        return _error(408, "too-slow", f"the request took over {REQUEST_TIMEOUT_S:g} s", "")
    except web.HTTPRequestEntityTooLarge:
        return _error(413, "too-large", f"a transaction has at most {MAX_DOCUMENT_BYTES} bytes", "")
    except web.HTTPNotFound:
        return _error(404, "not-found", "no such resource", "")
    except web.HTTPMethodNotAllowed:
        return _error(405, "method-not-allowed", "another method", "")


def _json(value: Json) -> web.Response:
    return web.Response(body=canonical.encode(value), content_type="application/json")


def _error(status: int, code: str, message: str, field: str) -> web.Response:
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    body = canonical.encode({"error": {"code": code, "message": message, "field": field}})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _parse_exact(text: str, length: int, field: str) -> bytes:
    data = parse_hex(text, field)
    if len(data) != length:
        raise InvalidInput(f"expected {length} bytes", field)
    return data


def _parse_query(request: web.Request, field: str) -> int:
    return _parse_integer(request.query.get(field, ""), field)


def _parse_integer(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > MAX_SAFE_INTEGER:
        raise InvalidInput("expected an integer of at least 0", field)
    return int(text)
