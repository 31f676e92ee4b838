"""From a proven case to a slash: sign our evidence, gather more than 2/3 of stake, hand the certificate to the ledger.

The certificate is the merge of the validators' e-processes: each signs only on its own. Liars can neither force one
nor stop one.
"""

from collections.abc import Sequence

import structlog

from scoring.canonical import Json
from scoring.certificate import build_certificate, is_quorum
from scoring.eip712 import Domain, compute_signing_root
from scoring.errors import InvalidInput, OracleError, RefusedToSign
from scoring.evidence.wealth import compute_log10_milli
from scoring.records import Certificate, Checkpoint, SlashingEvidence, ValidatorSet
from validator.casework import Casework
from validator.ledger_port import LedgerPort
from validator.messages import EvidenceVote
from validator.peer_envelope import PeerKind
from validator.peers import Peer, PeerClient, PeerResult
from validator.signer import Signer
from validator.store import DocumentKind, Store

log = structlog.get_logger()

MAX_OPEN_VOTES_PER_SEAT = 256


class Prosecution:
    """Gathers evidence votes. Votes may come before our own evidence does; they wait for it."""

    def __init__(
        self,
        *,
        signer: Signer,
        seat: int,
        validator_set: ValidatorSet,
        domain: Domain,
        casework: Casework,
        ledger: LedgerPort,
        store: Store,
        peers: Sequence[Peer],
        client: PeerClient,
    ) -> None:
        self._signer = signer
        self._seat = seat
        self._validator_set = validator_set
        self._domain = domain
        self._casework = casework
        self._ledger = ledger
        self._store = store
        self._peers = [peer for peer in peers if peer.address != signer.address]
        self._client = client
        self._votes: dict[bytes, dict[int, bytes]] = {}
        self._own: dict[bytes, SlashingEvidence] = {}
        self._submitted: set[tuple[bytes, str, int]] = set()

    async def prosecute(self, checkpoint: Checkpoint) -> None:
        """Sign and send our evidence for every case that has reached its threshold and is not settled."""
        for evidence in self._casework.build_due_evidence(checkpoint):
            if self._offence(evidence) not in self._submitted:
                await self._sign(evidence)

    async def process_vote(self, seat: int, vote: EvidenceVote) -> None:
        """Take a peer's verified vote; raises InvalidInput when it has too many open."""
        root = compute_signing_root(vote.evidence, self._domain)
        if sum(seat in votes for votes in self._votes.values()) >= MAX_OPEN_VOTES_PER_SEAT:
            raise InvalidInput("too many open evidence votes from one seat", "evidence")
        self._votes.setdefault(root, {})[seat] = vote.signature
        await self._conclude(root)

    async def _sign(self, evidence: SlashingEvidence) -> None:
        try:
            signature = self._signer.sign_evidence(evidence)
        except RefusedToSign as refusal:
            log.warning("evidence_not_signed", provider=evidence.provider.hex(), why=str(refusal))
            return
        root = compute_signing_root(evidence, self._domain)
        case = self._casework.cases[evidence.offer_digest]
        log.info(
            "evidence_signed",
            provider=evidence.provider.hex(),
            epoch=evidence.last_epoch,
            log10_e_milli=compute_log10_milli(case.case_wealth),
        )
        self._own[root] = evidence
        self._votes.setdefault(root, {})[self._seat] = signature
        body: Json = EvidenceVote(evidence=evidence, signature=signature).to_json()
        self._client.broadcast_soon(self._peers, PeerKind.EVIDENCE_VOTE, body, _report)
        await self._conclude(root)

    async def _conclude(self, root: bytes) -> None:
        evidence, votes = self._own.get(root), self._votes.get(root, {})
        if evidence is None or not is_quorum(self._validator_set, votes):
            return
        if self._offence(evidence) in self._submitted:
            return
        # Marked before the first await: several votes may arrive while the ledger answers.
        self._submitted.add(self._offence(evidence))
        certificate = build_certificate(root, self._validator_set, votes)
        self._keep_file(evidence, certificate)
        try:
            await self._ledger.submit_evidence(evidence, certificate)
        except OracleError as error:
            # Another seat may have been first; a lost ledger is tried again at the next checkpoint.
            log.info("evidence_not_taken", provider=evidence.provider.hex(), why=str(error))
            if not await self._is_settled(evidence):
                self._submitted.discard(self._offence(evidence))

    async def _is_settled(self, evidence: SlashingEvidence) -> bool:
        try:
            return await self._ledger.is_offence_settled(evidence)
        except OracleError:
            return False

    def _keep_file(self, evidence: SlashingEvidence, certificate: Certificate) -> None:
        file = self._casework.build_file(evidence, certificate, self._signer.address)
        key = compute_signing_root(evidence, self._domain).hex()
        self._store.put_document(DocumentKind.EVIDENCE, key, evidence.last_epoch, file.encode())

    def _offence(self, evidence: SlashingEvidence) -> tuple[bytes, str, int]:
        return (evidence.offer_digest, evidence.rule, evidence.case_index)


def _report(result: PeerResult) -> None:
    if result.error is not None:
        log.warning("peer_not_reached", kind="evidence-vote", peer=result.peer.address.hex(), why=str(result.error))
