"""One epoch, start to finish. Read this page first; each step is a module of its own.

assign -> probe -> re-run and score -> commit -> reveal -> checkpoint -> certificate -> publish -> cases -> ledger
"""

import structlog

from scoring.records import Reveal
from scoring.schedule import compute_vrf_alpha
from scoring.vrf import compute_vrf_output
from validator.epoch import CertifiedOutcome
from validator.observer import Observation
from validator.seat import Seat

log = structlog.get_logger()


async def run_epoch(seat: Seat, epoch: int) -> CertifiedOutcome:
    """Run one epoch for one seat and return what was certified; raises EpochAbandoned when the seats did not agree."""
    # 1. Assign. Beacon and offers are fixed; our verifiable random function draws the probes, nobody chooses them.
    context = await seat.open_epoch(epoch)
    alpha = compute_vrf_alpha(context.network, epoch, context.inputs.beacon)
    vrf_proof = seat.signer.prove_vrf(epoch, alpha)
    drawn = context.draw(compute_vrf_output(vrf_proof))

    # 2-4. Probe, re-run, score: what goes wrong is an outcome of its own, never a score.
    message = seat.load_own_reveal(epoch)
    if message is None:
        observations = await seat.observer.observe(epoch, drawn)
        message = seat.keep_own_reveal(build_reveal(seat, epoch, vrf_proof, observations), observations)

    # 5. Commit, then reveal once commits of more than 2/3 of stake are in.
    await seat.agreement.commit(context, message.reveal)
    pool = await seat.agreement.reveal(context, message)

    # 6. Checkpoint and certificate: every seat computes the outcome itself and signs at most one.
    certified = await seat.agreement.certify(context, seat.state, pool)

    # 7. Publish, and fold everybody's receipted probes into our own e-processes: no epoch of a case may be missed.
    seat.adopt(certified)
    await seat.casework.process_epoch(certified)

    # 8. The ledger gets the certificate; evidence at the threshold; committee duty.
    await seat.hand_over()
    await seat.prosecution.prosecute(certified.checkpoint)
    await seat.jury.serve()
    return certified


def build_reveal(seat: Seat, epoch: int, vrf_proof: bytes, observations: tuple[Observation, ...]) -> Reveal:
    """Return our reveal; observations are in the order of the draw."""
    return Reveal(
        validator=seat.signer.address,
        epoch=epoch,
        salt=seat.draw_salt(),
        vrf_proof=vrf_proof,
        outcomes=tuple(observation.outcome for observation in observations),
    )
