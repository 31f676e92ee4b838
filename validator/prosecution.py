"""From a proven case to a slash: sign our evidence, gather more than 2/3 of stake, hand the certificate to the ledger.

The certificate is the merge of the validators' e-processes: each signs only on its own. Liars can neither force one
nor stop one. Evidence that is certified is brought to the ledger until the ledger has it, also after a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from challenges.evidence import EvidenceFile, parse_evidence_file
from scoring.canonical import Json
from scoring.certificate import build_bitfield, build_certificate, compute_validator_set_digest, is_quorum
from scoring.eip712 import Domain, compute_signing_root
from scoring.errors import InvalidInput, OracleError
from scoring.evidence.wealth import compute_log10_milli
from scoring.records import Certificate, Checkpoint, SlashingEvidence, ValidatorSet
from validator.casework import Casework, Offence
from validator.ledger_port import LedgerPort
from validator.messages import EvidenceVote
from validator.peer_envelope import PeerKind
from validator.peers import Peer, PeerClient, PeerResult
from validator.signer import Signer
from validator.store import DocumentKind, Store

log = structlog.get_logger()

MAX_OPEN_VOTES_PER_SEAT = 256
KEPT_EPOCHS = 8
"""How long a vote waits for ours: the seats' e-processes reach the threshold a few epochs apart."""


@dataclass(slots=True)
class _Ballot:
    """The votes for one evidence by seat, and the epoch we stood at when the first came in."""

    since_epoch: int
    votes: dict[int, bytes] = field(default_factory=dict)


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
        self._epoch = 0
        self._ballots: dict[bytes, _Ballot] = {}
        self._own: dict[bytes, EvidenceFile] = {}
        self._certified: dict[Offence, tuple[SlashingEvidence, Certificate]] = {}
        self._settled: set[Offence] = set()

    async def prosecute(self, checkpoint: Checkpoint) -> None:
        """Sign and send our evidence for every case that has reached its threshold and is not certified yet."""
        self._epoch = checkpoint.epoch
        self._forget_old_votes()
        for offence in tuple(self._certified):
            await self._submit(offence)
        for offer_digest in self._casework.list_proven(checkpoint.epoch):
            offence = self._casework.name_offence(offer_digest)
            if offence in self._settled or offence in self._certified:
                continue
            try:
                await self._sign(self._casework.build_evidence(offer_digest, checkpoint))
            except OracleError as error:
                # One case that cannot be signed now does not hold up the others.
                log.warning("evidence_not_signed", offer=offer_digest.hex(), why=str(error))

    async def process_vote(self, seat: int, vote: EvidenceVote) -> None:
        """Take a peer's verified vote; raises InvalidInput when it has too many open."""
        root = compute_signing_root(vote.evidence, self._domain)
        if sum(seat in ballot.votes for ballot in self._ballots.values()) >= MAX_OPEN_VOTES_PER_SEAT:
            raise InvalidInput("too many open evidence votes from one seat", "evidence")
        self._put_vote(root, seat, vote.signature)
        await self._conclude(root)

    def resume(self, first_epoch: int, last_epoch: int) -> None:
        """Take up the certified evidence of these epochs from the store: the ledger may not have got it."""
        self._epoch = last_epoch
        for document in self._store.list_documents_between(DocumentKind.EVIDENCE, first_epoch, last_epoch):
            file = parse_evidence_file(document.body)
            self._certified[_name_offence(file.evidence)] = (file.evidence, file.certificate)

    async def _sign(self, evidence: SlashingEvidence) -> None:
        signature = self._signer.sign_evidence(evidence)
        root = compute_signing_root(evidence, self._domain)
        case = self._casework.cases[evidence.offer_digest]
        log.info(
            "evidence_signed",
            provider=evidence.provider.hex(),
            epoch=evidence.last_epoch,
            log10_e_milli=compute_log10_milli(case.case_wealth),
        )
        # The file as of now: by the time of a quorum the calendar may have opened the next case.
        alone = Certificate(
            signing_root=root,
            validator_set_digest=compute_validator_set_digest(self._validator_set),
            signers=build_bitfield([self._seat], len(self._validator_set.validators)),
            signature=signature,
        )
        self._own[root] = self._casework.build_file(evidence, alone, self._signer.address)
        self._put_vote(root, self._seat, signature)
        body: Json = EvidenceVote(evidence=evidence, signature=signature).to_json()
        self._client.broadcast_soon(self._peers, PeerKind.EVIDENCE_VOTE, body, _report)
        await self._conclude(root)

    async def _conclude(self, root: bytes) -> None:
        draft = self._own.get(root)
        if draft is None or not is_quorum(self._validator_set, list(self._ballots[root].votes)):
            return
        offence = _name_offence(draft.evidence)
        if offence in self._settled or offence in self._certified:
            return
        certificate = build_certificate(root, self._validator_set, self._ballots[root].votes)
        file = replace(draft, certificate=certificate)
        self._store.put_document(DocumentKind.EVIDENCE, root.hex(), draft.evidence.last_epoch, file.encode())
        # Marked before the first await: several votes may arrive while the ledger answers.
        self._certified[offence] = (draft.evidence, certificate)
        await self._submit(offence)

    async def _submit(self, offence: Offence) -> None:
        pending = self._certified.get(offence)
        if pending is None:
            return
        evidence, certificate = pending
        try:
            await self._ledger.submit_evidence(evidence, certificate)
        except OracleError as error:
            # Another seat may have been first. A ledger that does not answer is asked again at the next checkpoint.
            log.info("evidence_not_taken", provider=evidence.provider.hex(), why=str(error))
            if not await self._is_settled(evidence):
                return
        self._settled.add(offence)
        self._certified.pop(offence, None)

    async def _is_settled(self, evidence: SlashingEvidence) -> bool:
        try:
            return await self._ledger.is_offence_settled(evidence)
        except OracleError:
            return False

    def _put_vote(self, root: bytes, seat: int, signature: bytes) -> None:
        self._ballots.setdefault(root, _Ballot(since_epoch=self._epoch)).votes[seat] = signature

    def _forget_old_votes(self) -> None:
        # Votes that never became a quorum would in the end use up their sender's share.
        self._ballots = {
            root: ballot for root, ballot in self._ballots.items() if ballot.since_epoch >= self._epoch - KEPT_EPOCHS
        }
        self._own = {root: file for root, file in self._own.items() if root in self._ballots}


def _name_offence(evidence: SlashingEvidence) -> Offence:
    return (evidence.offer_digest, evidence.rule, evidence.case_index)


def _report(result: PeerResult) -> None:
    if result.error is not None:
        log.warning("peer_not_reached", kind="evidence-vote", peer=result.peer.address.hex(), why=str(result.error))
