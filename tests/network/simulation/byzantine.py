"""What a seat can do that follows other rules than ours: it has its keys and the transport, and no sign guard."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from simulation.network import SimulatedSeat

from scoring import bls
from scoring.canonical import Json
from scoring.eip712 import Record, compute_signing_root, compute_struct_hash
from scoring.outcome import compute_outcome
from scoring.records import Checkpoint, Commit, Reveal
from scoring.schedule import compute_vrf_alpha
from scoring.vrf import compute_vrf_output
from validator.epoch import EpochContext
from validator.messages import Proposal, RevealMessage
from validator.observer import Observation
from validator.peer_envelope import PeerKind
from validator.round import build_reveal
from validator.transcript import Transcript


@dataclass
class Traitor:
    """Plays one seat by hand for one epoch."""

    sim: SimulatedSeat
    epoch: int

    def sign(self, record: Record) -> bytes:
        return bls.sign(self.sim.keys.bls_sk, compute_signing_root(record, self.sim.genesis.domain))

    async def open(self) -> EpochContext:
        await self.sim.catch_up(self.epoch)
        return await self.sim.get().open_epoch(self.epoch)

    async def observe(self, context: EpochContext) -> RevealMessage:
        """Probe as an honest seat does and return the honest reveal."""
        seat = self.sim.get()
        alpha = compute_vrf_alpha(context.network, self.epoch, context.inputs.beacon)
        proof = seat.signer.prove_vrf(self.epoch, alpha)
        observations = await seat.observer.observe(self.epoch, context.draw(compute_vrf_output(proof)))
        return self.build_message(build_reveal(seat, self.epoch, proof, observations), observations)

    def build_message(self, reveal: Reveal, observations: Iterable[Observation]) -> RevealMessage:
        return self.seal(reveal, tuple(item.transcript for item in observations if item.transcript is not None))

    def seal(self, reveal: Reveal, transcripts: tuple[Transcript, ...]) -> RevealMessage:
        return RevealMessage(reveal=reveal, signature=self.sign(reveal), transcripts=transcripts)

    async def send(self, kind: PeerKind, body: dict[str, Json], to: Iterable[int] | None = None) -> list[str]:
        """Send to some seats (default: all others); return what they answered when they refused, else nothing."""
        assert self.sim.client is not None
        addresses = [seat.entry.address for seat in self.sim.genesis.validators]
        chosen = set(addresses if to is None else [addresses[number] for number in to])
        results = await self.sim.client.broadcast(
            [peer for peer in self.sim.others if peer.address in chosen], kind, body
        )
        return ["" if result.error is None else str(result.error) for result in results.values()]

    async def send_commit(self, reveal: Reveal, to: Iterable[int] | None = None) -> list[str]:
        commit = Commit(validator=self.sim.address, epoch=self.epoch, reveal_digest=compute_struct_hash(reveal))
        body: dict[str, Json] = {"commit": commit.to_json(), "signature": "0x" + self.sign(commit).hex()}
        return await self.send(PeerKind.COMMIT, body, to)

    async def send_reveal(self, message: RevealMessage, to: Iterable[int] | None = None) -> list[str]:
        return await self.send(PeerKind.REVEAL, message.to_json(), to)

    async def send_proposal(self, proposal: Proposal, to: Iterable[int] | None = None) -> list[str]:
        return await self.send(PeerKind.PROPOSAL, proposal.to_json(), to)

    async def send_vote(self, checkpoint: Checkpoint, to: Iterable[int] | None = None) -> list[str]:
        body: dict[str, Json] = {"checkpoint": checkpoint.to_json(), "signature": "0x" + self.sign(checkpoint).hex()}
        return await self.send(PeerKind.VOTE, body, to)

    async def wait_for_reveals(self, seats: Iterable[int]) -> dict[int, RevealMessage]:
        """Return the reveals of some other seats once they are here."""
        board, wanted = self.sim.get().board.at(self.epoch), set(seats)
        async with asyncio.timeout(20):
            await board.wait_until(lambda it: wanted <= it.reveals.keys(), 20)
        return {number: board.reveals[number] for number in sorted(wanted)}

    def propose(self, context: EpochContext, reveals: dict[int, RevealMessage]) -> Proposal:
        """Return the right proposal for these reveals."""
        records = {number: message.reveal for number, message in reveals.items()}
        outcome = compute_outcome(context.inputs, self.sim.get().state, records)
        numbers = tuple(sorted(reveals))
        return Proposal(
            checkpoint=outcome.checkpoint,
            seats=numbers,
            reveals=tuple(reveals[number].digest for number in numbers),
        )
