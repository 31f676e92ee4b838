"""The embedded ledger as a validator's `LedgerPort`."""

from collections.abc import Sequence
from typing import Self

from challenges.lifecycle import Phase
from challenges.receipt import SignedOffer
from challenges.verdict import Vote
from ledger.embedded.client import LedgerClient
from ledger.state.transactions import CommitVerdict, RevealVerdict, SubmitEvidence
from ledger.state.view import ChallengeView, LedgerView
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.errors import Unavailable, VerificationFailed
from scoring.records import Certificate, Checkpoint, SlashingEvidence
from validator.ledger_port import JuryCall, NetworkView
from validator.store import DocumentKind, Store


class EmbeddedLedger:
    """Speaks to `quiver ledger serve` for one validator account. Views are kept in the store, for a restart."""

    def __init__(self, url: str, domain: Domain, account_sk: bytes, store: Store) -> None:
        self._client = LedgerClient(url, domain)
        self._account_sk = account_sk
        self._address = address_of(account_sk)
        self._store = store

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def get_last_epoch(self) -> int:
        """Return the last certified epoch that the ledger knows, -1 for none."""
        return (await self._client.status()).epoch

    async def get_view(self, epoch: int, previous: bytes) -> NetworkView:
        """Return the closed facts of an epoch; raises Unavailable when the ledger stands at another checkpoint."""
        # By the checkpoint that closed them: what was certified meanwhile closes others, for the same epoch.
        stored = self._store.get_document(DocumentKind.LEDGER_VIEW, previous.hex())
        if stored is not None:
            return build_network_view(LedgerView.decode(stored))
        view = await self._client.view(epoch)
        if view.previous != previous:
            raise Unavailable(f"the ledger stands at another checkpoint than we do before epoch {epoch}")
        self._store.put_document(DocumentKind.LEDGER_VIEW, previous.hex(), epoch, view.encode())
        return build_network_view(view)

    async def submit_checkpoint(self, checkpoint: Checkpoint, certificate: Certificate) -> None:
        """Record a certified checkpoint, unless another seat has."""
        await self._client.submit_checkpoint(checkpoint, certificate, self._account_sk)

    async def submit_evidence(self, evidence: SlashingEvidence, certificate: Certificate) -> None:
        """Hand in certified evidence."""
        await self._client.send(SubmitEvidence, self._account_sk, evidence=evidence, certificate=certificate)

    async def is_offence_settled(self, evidence: SlashingEvidence) -> bool:
        """Tell whether the offence has been slashed."""
        return await self._client.is_offence_settled(evidence)

    async def list_jury_calls(self) -> Sequence[JuryCall]:
        """Return the open challenges that wait for this validator."""
        waiting = [
            view
            for view in await self._client.challenges(member=self._address)
            if view.phase in (Phase.COMMITTEE, Phase.COMMITTED)
        ]
        return [await self._build_call(view) for view in waiting]

    async def commit_vote(self, vote: Vote) -> None:
        """Commit to a vote."""
        await self._client.send(
            CommitVerdict, self._account_sk, challenge_id=vote.challenge_id, commitment=vote.commitment
        )

    async def reveal_vote(self, vote: Vote) -> None:
        """Reveal a vote."""
        await self._client.send(
            RevealVerdict,
            self._account_sk,
            challenge_id=vote.challenge_id,
            e_value=vote.e_value,
            abstention=vote.abstention,
            salt=vote.salt,
        )

    async def _build_call(self, view: ChallengeView) -> JuryCall:
        return JuryCall(
            challenge_id=view.challenge_id,
            phase=Phase(view.phase),
            offer=await self._find_offer(view),
            dossier=await self._client.dossier(view.challenge_id),
            has_committed=self._address in view.committed,
            has_revealed=self._address in view.revealed,
        )

    async def _find_offer(self, view: ChallengeView) -> SignedOffer:
        for provider in await self._client.providers():
            for signed in provider.signed_offers:
                if signed.digest == view.offer_digest:
                    return signed
        raise VerificationFailed("the challenged offer is not in the registry")


def build_network_view(view: LedgerView) -> NetworkView:
    """Return what a validator needs of a ledger's view."""
    return NetworkView(
        offers=tuple(signed for provider in view.providers for signed in provider.signed_offers),
        infractions={item.provider: item.infraction_classes for item in view.providers},
        challenged=frozenset(digest for item in view.providers for digest in item.challenged_offers),
    )
