"""Re-running evidence as a stranger: load the claimed weights, score every receipted probe again, fold the case."""

from collections.abc import Callable, Sequence

from challenges.evidence import CheckedProbe, EvidenceFile, Statistics, compute_witness_case, iterate_scored_probes
from models.load import LoadedModel, render_prompt
from models.packing import load_packed
from models.reference import score_batch
from models.requests import ChatMessage, ReferenceRequest
from scoring.errors import VerificationFailed
from scoring.evidence.cases import CaseState
from scoring.evidence.statistics import compute_statistics
from scoring.records import PPM

BATCH = 8


def rerun_evidence(
    file: EvidenceFile, model: str, dtype: str, report_progress: Callable[[int, int], None]
) -> CaseState:
    """Return the witness's case from statistics computed anew with the weights that the plan names.

    Raises VerificationFailed when `model` has other weights, InvalidInput when it cannot be loaded.
    """
    loaded = load_packed(model, dtype=dtype)
    if loaded.manifest.compute_digest() != file.plan.manifest_digest:
        raise VerificationFailed(f"the model {model!r} is not the one that the evidence is about")
    # A probe that the witness left out stays left out: we check its arithmetic, we do not add to it.
    probes = list(iterate_scored_probes(file))
    statistics: Statistics = {}
    for start in range(0, len(probes), BATCH):
        batch = probes[start : start + BATCH]
        statistics.update(_score(file, loaded, batch))
        report_progress(min(start + BATCH, len(probes)), len(probes))
    own_seat = file.validator_set.index_of(file.witness)
    if own_seat is None:
        raise VerificationFailed("the witness is not in the validator set")
    epochs = tuple(item.epoch for item in file.bundle)
    return compute_witness_case(
        file.plan, file.evidence, len(file.validator_set.validators), own_seat, epochs, statistics
    )


def _score(file: EvidenceFile, loaded: LoadedModel, probes: Sequence[CheckedProbe]) -> Statistics:
    results = score_batch(loaded, [_build_request(file, loaded, probe) for probe in probes])
    return {
        (probe.epoch, probe.seat, probe.drawn.index): compute_statistics(
            result, probe.drawn.probe.max_tokens, file.plan.statistic_ids
        )
        for probe, result in zip(probes, results, strict=True)
    }


def _build_request(file: EvidenceFile, loaded: LoadedModel, checked: CheckedProbe) -> ReferenceRequest:
    probe, answer = checked.drawn.probe, checked.answer
    if answer.token_ids is None:
        raise VerificationFailed("a scored answer has no token ids")
    messages = [ChatMessage(role=item.role, content=item.content) for item in probe.messages]
    is_seeded = file.plan.sampler != "none"
    return ReferenceRequest(
        prompt_ids=tuple(render_prompt(loaded, messages)),
        output_ids=answer.token_ids,
        temperature=probe.temperature_ppm / PPM,
        top_p=probe.top_p_ppm / PPM,
        seed=probe.sampler_seed if is_seeded else None,
        sampler=file.plan.sampler,
    )
