"""What the passes of an audit take beside generating the same answers: processor seconds over processor seconds.

Every pass is of the same answers, in one process and in turn; what is loaded or built once for all answers (weights of
an alternative) is not counted.
"""

from collections.abc import Collection as Names
from collections.abc import Sequence

from benchmarks.detection_data import open_verifier
from benchmarks.machine import measure_spent
from models.activation_format import parse_proofs
from models.activation_proofs import score_activation_proofs
from models.alternative_pass import compute_alternative_columns
from models.alternatives import SECOND_RUN
from models.calibrate_audit import list_calibrated_alternatives
from models.collection import ACTIVATIONS, REFERENCE, Answered
from models.gather import build_honest_answerer
from models.reference import score_batch
from models.variant_weights import WeightsShelf
from scoring.evidence.audit_plan import AuditPlan
from scoring.evidence.channel_ids import ACTIVATIONS_IDS, OWN_NOISE_ID, list_statistics_of

ANSWERS = 32
BATCH = 32


def list_passes(plan: AuditPlan, alternatives: Sequence[str]) -> tuple[str, ...]:
    """Return the passes that the statistics of a plan come from; `alternatives` are those there are."""
    planned = {statistic.id for statistic in plan.statistics}
    bet = list_bet_on(alternatives, planned)
    more = [SECOND_RUN.id] * (OWN_NOISE_ID in planned) + [ACTIVATIONS] * bool(planned.intersection(ACTIVATIONS_IDS))
    return (REFERENCE, *more, *bet)


def list_bet_on(alternatives: Sequence[str], statistics: Names[str]) -> tuple[str, ...]:
    """Return the alternatives that some of the statistics come from, sampled or at temperature 0."""
    return tuple(
        name
        for name in alternatives
        if any(item in statistics for is_greedy in (False, True) for item in list_statistics_of(name, is_greedy))
    )


def measure_passes(answers: Sequence[Answered], wanted: Names[str]) -> dict[str, float]:
    """Return what each of the wanted passes takes of what generating up to ANSWERS of the answers does.

    A pass that these answers have nothing for (activation proofs, where they came without) is left out.
    """
    verifier = open_verifier()
    chosen = answers[:ANSWERS]
    requests = [answer.to_reference_request() for answer in chosen]
    questions = [answer.question for answer in chosen]
    answer = build_honest_answerer(verifier, BATCH)
    answer(questions[:2])
    generated = measure_spent(verifier.device, lambda: answer(questions))[0].cpu_s
    score_batch(verifier, requests[:2])
    taken = {REFERENCE: measure_spent(verifier.device, lambda: score_batch(verifier, requests))[0].cpu_s}
    proven = [item for item in chosen if item.proofs]
    if ACTIVATIONS in wanted and proven:
        spent, _ = measure_spent(
            verifier.device,
            lambda: [
                score_activation_proofs(verifier, item.to_reference_request(), parse_proofs(item.proofs or ()))
                for item in proven
            ],
        )
        taken[ACTIVATIONS] = spent.cpu_s * len(chosen) / len(proven)
    shelf = WeightsShelf(verifier)
    for alternative in (SECOND_RUN, *list_calibrated_alternatives(verifier)):
        if alternative.id in wanted:
            messages = [item.messages for item in questions]
            compute_alternative_columns(verifier, alternative, requests[:1], messages[:1], shelf=shelf)
            spent, _ = measure_spent(
                verifier.device,
                lambda run=alternative, said=messages: compute_alternative_columns(
                    verifier, run, requests, said, shelf=shelf
                ),
            )
            taken[alternative.id] = spent.cpu_s
    return {name: seconds / generated for name, seconds in taken.items()}
