"""Activation proofs: the bytes of the `toploc` package, errors that tell weights apart, hostile proofs refused."""

import base64
import hashlib
import random

import numpy as np
import pytest

from models.activation_format import POINTS, PRIME, ActivationProof, parse_proofs
from models.activation_proofs import (
    ProofRecorder,
    build_proof,
    compute_proof_error,
    count_proofs,
    score_activation_proofs,
)
from models.requests import ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput

FIELD = "quiver_toploc"


def build_small_segment() -> np.ndarray:
    places = np.arange(400)
    return (0x3C00 + (places * 37) % 400 + np.where(places % 3 == 0, 0x8000, 0)).astype(np.uint16)


def build_wide_segment() -> np.ndarray:
    """Two places that are one modulo 65497, so that the modulus is smaller."""
    bits = np.zeros(70_000, dtype=np.uint16)
    bits[np.append(np.arange(127) * 511, PRIME)] = 0x4000 + np.arange(128) * 3
    return bits


VECTORS = [
    (
        "small",
        build_small_segment,
        PRIME,
        (12251, 7119, 47506),
        "acf87dd59e66a5d3a767f86cb3beb4669b1a8ad623f9b98067f29ec9d1bee508",
    ),
    (
        "wide",
        build_wide_segment,
        65496,
        (16384, 21485, 5032),
        "31fadfb36ab505eea882b36cb1bd1e81f5e2405cad21eb30be04d2fe5c924583",
    ),
]


@pytest.mark.parametrize(
    ("name", "build", "modulus", "first", "digest"), VECTORS, ids=[vector[0] for vector in VECTORS]
)
def test_proofs_have_the_bytes_of_the_package(name, build, modulus, first, digest):
    """Made by toploc 0.1.6 (its sources, compiled against torch 2.13), sha256 of the base64 text."""
    proof = build_proof(build())
    assert (proof.modulus, proof.coefficients[:3]) == (modulus, first)
    assert hashlib.sha256(proof.encode().encode()).hexdigest() == digest
    assert len(base64.b64decode(proof.encode())) == 258


def test_the_inverses_need_a_prime():
    assert all(PRIME % divisor for divisor in range(2, 256))


def build_hidden(tokens: int, size: int, seed: int = 0):
    import torch

    return torch.randn(tokens, size, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def prove(hidden, prompt_tokens: int) -> tuple[ActivationProof, ...]:
    recorder = ProofRecorder()
    recorder.add_prompt(hidden[:prompt_tokens])
    for row in hidden[prompt_tokens:]:
        recorder.add_step(row)
    return parse_proofs(list(recorder.finish()))


@pytest.mark.parametrize(("tokens", "count"), [(0, 1), (1, 1), (2, 2), (33, 2), (34, 3), (80, 4)])
def test_an_answer_has_a_proof_for_the_prompt_and_for_32_steps_each(tokens, count):
    assert count_proofs(tokens) == count
    assert len(prove(build_hidden(5 + max(tokens - 1, 0), 64), 5)) == count


@pytest.mark.parametrize(("prompt_tokens", "size"), [(1, 16), (1, 64), (7, 96), (200, 600)])
def test_the_same_hidden_states_have_no_error(prompt_tokens, size):
    hidden = build_hidden(prompt_tokens + 49, size)
    assert compute_proof_error(hidden, prompt_tokens, 50, prove(hidden, prompt_tokens)) == 0.0


def test_errors_grow_from_a_rounding_to_something_else():
    hidden = build_hidden(80, 256)
    proofs = prove(hidden, 31)
    changed = [hidden * 1.005, hidden * 1.02, hidden * 1.1, build_hidden(80, 256, seed=1)]
    errors = [compute_proof_error(other, 31, 50, proofs) for other in changed]
    assert errors == sorted(errors)
    assert 0.0 < errors[0] < 0.1 and 0.95 < errors[-1] <= 1.0


def test_another_sign_is_wholly_wrong():
    hidden = build_hidden(20, 256)
    assert compute_proof_error(-hidden, 10, 11, prove(hidden, 10)) > 0.9


def test_two_steps_over_a_power_of_two_are_near_each_other():
    hidden = build_hidden(1, 128) * 0 + 2.0
    assert compute_proof_error(hidden * 0.996, 1, 1, prove(hidden, 1)) == pytest.approx(1 / 16)


def test_no_proof_is_no_evidence():
    assert compute_proof_error(build_hidden(8, 64), 4, 5, None) == 0.0


def encode_words(*words: int) -> str:
    return base64.b64encode(np.array(words, dtype=">u2").tobytes()).decode()


GOOD = encode_words(PRIME, *range(POINTS))
REFUSED_FIELDS = [
    ("no list", GOOD),
    ("nothing in it", []),
    ("null in it", [None]),
    ("a number in it", [7]),
    ("bytes in it", [GOOD.encode()]),
    ("too many", [GOOD] * 4097),
    ("an empty text", [""]),
    ("no base64", ["%" * 8]),
    ("letters beyond ASCII", ["é" * 8]),
    ("line breaks in the base64", [GOOD[:40] + "\n" + GOOD[40:]]),
    ("bits in the padding", [encode_words(PRIME, 1)[:5] + "R=="]),
    ("half a word", [base64.b64encode(b"\xff\xd9\x00").decode()]),
    ("no coefficients", [encode_words(PRIME)]),
    ("129 coefficients", [encode_words(PRIME, *range(129))]),
    ("a text of a megabyte", ["A" * 2**20]),
    ("a modulus of 0", [encode_words(0, *range(POINTS))]),
    ("a modulus of 1", [encode_words(1, *range(POINTS))]),
    ("a modulus above the prime", [encode_words(PRIME + 1, *range(POINTS))]),
    ("a coefficient that is not reduced", [encode_words(PRIME, PRIME)]),
]


@pytest.mark.parametrize(("name", "value"), REFUSED_FIELDS, ids=[name for name, _ in REFUSED_FIELDS])
def test_refuses_a_field(name, value):
    assert len(parse_proofs([GOOD])) == 1
    with pytest.raises(InvalidInput) as refusal:
        parse_proofs(value)
    assert refusal.value.field == FIELD


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("one too few", lambda proofs: proofs[:-1]),
        ("one too many", lambda proofs: (*proofs, proofs[0])),
        ("a short one", lambda proofs: (parse_proofs([encode_words(PRIME, 1, 2)])[0], *proofs[1:])),
    ],
)
def test_refuses_proofs_of_another_answer_by_their_number(name, change):
    hidden = build_hidden(40, 256)
    with pytest.raises(InvalidInput) as refusal:
        compute_proof_error(hidden, 10, 31, change(prove(hidden, 10)))
    assert refusal.value.field == FIELD


def test_random_proofs_are_refused_or_wholly_wrong():
    source, hidden = random.Random(1), build_hidden(10, 256)
    outcomes = []
    for _ in range(300):
        length = source.choice([0, 1, 2, 3, 130, 257, 258, 259])
        text = base64.b64encode(source.randbytes(length)).decode()
        text = text if source.random() < 0.7 else text[: source.randrange(len(text) + 1)]
        try:
            outcomes.append(compute_proof_error(hidden, 10, 1, parse_proofs([text])))
        except InvalidInput:
            outcomes.append(None)
    errors = [
        compute_proof_error(hidden, 10, 1, parse_proofs([encode_words(PRIME, *source.choices(range(PRIME), k=POINTS))]))
        for _ in range(30)
    ]
    assert all(error is None or error > 0.9 for error in outcomes)
    assert min(errors) > 0.9


def test_a_constant_guess_is_nearly_wholly_wrong():
    hidden = build_hidden(10, 256)
    constant = parse_proofs([encode_words(PRIME, 0x4040, *[0] * (POINTS - 1))])
    assert compute_proof_error(hidden, 10, 1, constant) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [False, True])
def test_an_answer_of_the_tiny_model_proves_itself(tiny, sharing):
    from models.generate import generate

    beginning = tuple(b"the same beginning of all ") if sharing else ()
    prompts = [(*beginning, *text) for text in (b"xy", b"some longer prompt", b"three")]
    requests = [
        GenerationRequest(prompt_ids=prompt, max_tokens=70, seed=number, proves_activations=number != 1)
        for number, prompt in enumerate(prompts)
    ]
    answers = generate(tiny, requests, max_rows=2 + sharing)
    assert answers[1].activation_proofs is None
    for number in (0, 2):
        request = ReferenceRequest(prompt_ids=prompts[number], output_ids=answers[number].token_ids)
        proofs = parse_proofs(answers[number].activation_proofs)
        assert score_activation_proofs(tiny, request, proofs) < 0.05
        changed = ReferenceRequest(prompt_ids=prompts[number][::-1], output_ids=answers[number].token_ids)
        assert score_activation_proofs(tiny, changed, proofs) > 0.3


@pytest.mark.slow
def test_an_answer_of_40_tokens_tells_int8_weights_from_other_honest_numerics(bundled, bundled_fp32):
    from models.generate import generate
    from models.load import load_model, render_prompt
    from models.variants import apply_variant

    prompt = tuple(render_prompt(bundled, [ChatMessage(role="user", content="Tell me a story about a fox.")]))
    request = GenerationRequest(prompt_ids=prompt, max_tokens=40, seed=3, proves_activations=True)
    errors = {}
    for name in ("bf16", "int8"):
        served = bundled if name == "bf16" else apply_variant(load_model("bundled", dtype="bf16"), "int8")
        answer = generate(served, [request])[0]
        claim = ReferenceRequest(prompt_ids=prompt, output_ids=answer.token_ids)
        proofs = parse_proofs(answer.activation_proofs)
        errors[name] = score_activation_proofs(bundled, claim, proofs)
        errors[name, "fp32"] = score_activation_proofs(bundled_fp32, claim, proofs)
    assert max(errors["bf16"], errors["bf16", "fp32"]) < 0.9 * errors["int8"] < 0.3


@pytest.mark.slow
def test_an_empty_answer_is_no_evidence(tiny):
    request = ReferenceRequest(prompt_ids=(1,), output_ids=())
    assert score_activation_proofs(tiny, request, parse_proofs([GOOD])) == 0.0
