"""Activation fingerprints in the format of TOPLOC: a few hundred bytes that fit the hidden states of one answer.

Idea and format: Ong et al., "TOPLOC" (arXiv 2501.16007), package `toploc` 0.1.6. A segment of bf16 hidden states is
flattened; its 128 entries of largest magnitude are interpolated, bits over position, by a polynomial over the integers
modulo 65497, and its coefficients are the proof. A verifier evaluates it where its own run has large entries.

A good proof shows that the text *can* be reconstructed from the claimed weights, never that it was sampled from them:
whoever has the weights can answer with anything and make the proof afterwards, in one prefill. It never stands alone.

Written here without the package: its newest wheel wants a torch of early 2025 (with torch 2.13 importing it fails on an
undefined symbol), and its C++ ends the process on a hostile proof (a modulus of 0, no coefficients).
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.activation_format import LEAST_MODULUS, POINTS, PRIME, ActivationProof
from models.requests import ReferenceRequest
from scoring.errors import InvalidInput

if TYPE_CHECKING:
    from models.load import LoadedModel

SEGMENT_TOKENS = 32
CHECKED_POINTS = 96
"""A verifier looks at its own largest entries only: near the border of 128 two honest runs choose different ones."""
FULL_ERROR_STEPS = 16
"""A difference of so many steps of bf16 (0.8 % to 1.6 % each, hence about 9 to 18 %) counts as wholly wrong."""
_MAGNITUDE = np.uint16(0x7FFF)

Bits = NDArray[np.uint16]
Integers = NDArray[np.int64]


def count_proofs(output_tokens: int) -> int:
    """Return how many proofs an answer has: the prompt's, then one for each 32 of the tokens that were fed back.

    The last token of an answer is never fed, so n tokens have n - 1 decoding steps.
    """
    return 1 + -(-max(output_tokens - 1, 0) // SEGMENT_TOKENS)


def build_proof(bits: Bits) -> ActivationProof:
    """Return the proof of one flattened segment of bf16 bits (`read_bits`)."""
    places = _select_largest(bits, POINTS)
    modulus = next(m for m in range(PRIME, LEAST_MODULUS, -1) if len(np.unique(places % m)) == len(places))
    coefficients = _interpolate(places % modulus, bits[places].astype(np.int64))
    return ActivationProof(modulus=modulus, coefficients=tuple(coefficients.tolist()))


class ProofRecorder:
    """Takes the hidden states of one answer as they are computed; nothing but the unfinished segment is kept."""

    def __init__(self) -> None:
        self._proofs: list[str] = []
        self._steps: list[Bits] = []

    def add_prompt(self, hidden: Any) -> None:
        """Take the last hidden states [prompt tokens, size]; once, and first."""
        self._proofs.append(build_proof(read_bits(hidden).reshape(-1)).encode())

    def add_step(self, hidden: Any) -> None:
        """Take the last hidden state [size] of one decoding step."""
        self._steps.append(read_bits(hidden))
        if len(self._steps) == SEGMENT_TOKENS:
            self._close_segment()

    def finish(self) -> tuple[str, ...]:
        """Return all proofs in base64, the prompt's first."""
        self._close_segment()
        return tuple(self._proofs)

    def _close_segment(self) -> None:
        if self._steps:
            self._proofs.append(build_proof(np.concatenate(self._steps)).encode())
            self._steps = []


def read_bits(hidden: Any) -> Bits:
    """Return the bf16 bits of a torch tensor of hidden states, rounded to bf16 when it is wider."""
    import torch

    bits: Bits = hidden.to(torch.bfloat16).contiguous().view(torch.int16).cpu().numpy().view(np.uint16)
    return bits


def score_activation_proofs(
    loaded: "LoadedModel", request: ReferenceRequest, proofs: Sequence[ActivationProof] | None
) -> float:
    """Run the reference prefill of one answer and return `compute_proof_error` of it; 0.0 without proofs.

    Raises InvalidInput when the model cannot hold the answer or the proofs are not those of such an answer.
    """
    if proofs is None or not request.output_ids:
        return 0.0
    import torch

    from models.forward import compute_hidden
    from models.reference import check_reference_request

    check_reference_request(loaded, request)
    ids = torch.tensor([(request.prompt_ids + request.output_ids)[:-1]], device=loaded.device)
    with torch.inference_mode():
        hidden = compute_hidden(loaded, ids)[0]
    return compute_proof_error(hidden, len(request.prompt_ids), len(request.output_ids), proofs)


def compute_proof_error(
    hidden: Any, prompt_tokens: int, output_tokens: int, proofs: Sequence[ActivationProof] | None
) -> float:
    """Return how far proofs are from the verifier's own hidden states: 0 agrees, 1 is unrelated, 0.0 for None.

    `hidden` [prompt + output - 1 or more, size] are the last hidden states (after the final norm) of prompt and answer.
    Of each segment the largest entries are compared: the distance in steps of bf16, in units of FULL_ERROR_STEPS and
    at most 1; the mean over the entries, then over the segments. Raises InvalidInput when the number of proofs or of
    their coefficients is not that of the answer.
    """
    if proofs is None:
        return 0.0
    if len(proofs) != count_proofs(output_tokens):
        wanted = count_proofs(output_tokens)
        raise InvalidInput(f"an answer of {output_tokens} tokens has {wanted} proofs", "quiver_toploc")
    bits = read_bits(hidden[: prompt_tokens + max(output_tokens - 1, 0)])
    starts = [0, *range(prompt_tokens, len(bits), SEGMENT_TOKENS)]
    ends = [prompt_tokens, *(min(start + SEGMENT_TOKENS, len(bits)) for start in starts[1:])]
    errors = [
        _compare(bits[start:end].reshape(-1), proof) for start, end, proof in zip(starts, ends, proofs, strict=True)
    ]
    return float(np.mean(errors))


def _compare(bits: Bits, proof: ActivationProof) -> float:
    if len(proof.coefficients) != min(POINTS, len(bits)):
        raise InvalidInput(f"this segment's proof has {min(POINTS, len(bits))} coefficients", "quiver_toploc")
    places = _select_largest(bits, CHECKED_POINTS)
    claimed = _evaluate(np.array(proof.coefficients, dtype=np.int64), places % proof.modulus)
    distances = np.abs(_order(claimed) - _order(bits[places].astype(np.int64)))
    return float(np.minimum(distances / FULL_ERROR_STEPS, 1.0).mean())


def _order(bits: Integers) -> Integers:
    """Return bf16 bits as integers in the order of their values: neighbours differ by one, also over powers of two."""
    magnitude = bits & 0x7FFF
    return np.where(bits >> 15 == 1, -magnitude, magnitude)


def _select_largest(bits: Bits, count: int) -> Integers:
    """Return the places of the `count` largest magnitudes (fewer in a small segment), ties by place."""
    magnitude = bits & _MAGNITUDE
    if count >= len(bits):
        return np.arange(len(bits))
    border = np.partition(magnitude, len(bits) - count)[len(bits) - count]
    above, ties = np.flatnonzero(magnitude > border), np.flatnonzero(magnitude == border)
    return np.concatenate([above, ties[: count - len(above)]])


def _interpolate(places: Integers, values: Integers) -> Integers:
    """Return the coefficients of the polynomial through the points, by Newton's divided differences modulo PRIME."""
    inverses, count = _build_inverses(), len(places)
    differences = values % PRIME
    for step in range(1, count):
        gaps = (places[step:] - places[:-step]) % PRIME
        differences[step:] = (differences[step:] - differences[step - 1 : -1]) * inverses[gaps] % PRIME
    result = np.zeros(count, dtype=np.int64)
    for place, difference in zip(places[::-1].tolist(), differences[::-1].tolist(), strict=True):
        result = (np.concatenate([[difference], result[:-1]]) - place * result) % PRIME
    return result


def _evaluate(coefficients: Integers, places: Integers) -> Integers:
    """Return the polynomial's values by Horner's rule; every product stays below 2**33."""
    result = np.zeros(len(places), dtype=np.int64)
    for coefficient in coefficients[::-1].tolist():
        result = (result * places + coefficient) % PRIME
    return result


@cache
def _build_inverses() -> Integers:
    """Return x**(PRIME - 2) modulo PRIME for every x: the inverses (0 for 0)."""
    base, result, power = np.arange(PRIME, dtype=np.int64), np.ones(PRIME, dtype=np.int64), PRIME - 2
    while power:
        if power & 1:
            result = result * base % PRIME
        base, power = base * base % PRIME, power >> 1
    return result
