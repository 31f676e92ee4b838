"""What one epoch is about, fixed before it starts: beacon, offers, draws. And what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from challenges.probing import DrawnProbe, draw_probes
from challenges.receipt import SignedOffer
from scoring.evidence.plan import Plan
from scoring.outcome import EpochInputs, Outcome
from scoring.records import Certificate, Checkpoint
from scoring.schedule import BEACON_LAG_EPOCHS, compute_beacon, compute_vrf_mix
from validator.messages import Certified, RevealMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochContext:
    """The facts of an epoch that every validator shares. `inputs` feed the outcome; `offers` are those in force."""

    inputs: EpochInputs
    offers: tuple[SignedOffer, ...]
    network: bytes

    @property
    def epoch(self) -> int:
        """Return the epoch's number."""
        return self.inputs.epoch

    @property
    def plan(self) -> Plan:
        """Return the sealed plan in force."""
        return self.inputs.plan

    def draw(self, vrf_output: bytes) -> tuple[DrawnProbe, ...]:
        """Return the probes that a seat's VRF output fixes, in canonical order."""
        return draw_probes(self.plan, self.offers, vrf_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedOutcome:
    """A certified epoch with everything it was computed from."""

    context: EpochContext
    outcome: Outcome
    certified: Certified
    reveals: Mapping[int, RevealMessage]

    @property
    def checkpoint(self) -> Checkpoint:
        """Return the certified checkpoint."""
        return self.outcome.checkpoint

    @property
    def offers(self) -> tuple[SignedOffer, ...]:
        """Return the offers that were in force."""
        return self.context.offers

    @property
    def certificate(self) -> Certificate:
        """Return its certificate."""
        return self.certified.certificate


def compute_epoch_beacon(network: bytes, epoch: int, certified: Mapping[int, Checkpoint], genesis_seed: bytes) -> bytes:
    """Return the beacon of an epoch from the latest certified checkpoint at least two epochs before it."""
    usable = [number for number in certified if number <= epoch - BEACON_LAG_EPOCHS]
    mix = compute_vrf_mix(certified[max(usable)].vrf_outputs) if usable else genesis_seed
    return compute_beacon(network, epoch, mix)
