"""Alternatives: the numbers that the reference pass gives, other prompts where they apply, reasons elsewhere."""

import dataclasses
import math

import pytest

from models.alternatives import (
    HIDDEN_PROMPTS,
    Alternative,
    AlternativeColumns,
    SkippedAlternative,
    build_alternative_prompt,
    list_alternatives,
)
from models.requests import SAMPLER_GUMBEL, SEEDED_SAMPLERS, ChatMessage, ReferenceRequest
from scoring.errors import InvalidInput
from scoring.probe_texts import SYSTEM_PROMPTS
from validator.provider.cheats import DEFAULT_HIDDEN_PROMPT

MESSAGES = (ChatMessage(role="user", content="Hello, what is the sea?"),)
SAMPLINGS = [
    ("text only", {}),
    ("seeded", {"seed": 5, "sampler": SAMPLER_GUMBEL}),
    ("warm", {"temperature": 1.3}),
    ("seeded, warm and filtered", {"seed": 5, "sampler": SAMPLER_GUMBEL, "temperature": 1.3, "top_p": 0.9}),
    ("top-k", {"temperature": 0.7, "top_k": 4}),
    ("temperature 0", {"temperature": 0.0}),
]


def find(loaded, name):
    return next(item for item in list_alternatives(loaded) if item.id == name)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("QUIVER_CACHE_DIR", str(tmp_path / "cache"))


def test_no_hidden_prompt_is_one_that_the_instruments_or_the_probes_use():
    assert not set(HIDDEN_PROMPTS.values()) & {DEFAULT_HIDDEN_PROMPT, *SYSTEM_PROMPTS}


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidInput):
        Alternative(id="x", kind="other", parameters=(("a", 1),))


@pytest.mark.slow
def test_ids_are_unique(tiny):
    found = list_alternatives(tiny)
    assert len({item.id for item in found}) == len(found)
    assert {"int8", "fp8", "int6", "int4"} <= {item.id for item in found}


@pytest.mark.slow
def test_a_model_without_template_has_no_alternatives_of_prompts(tiny, tiny_folder):
    from models.load import load_model

    plain = load_model(str(tiny_folder), dtype="fp32", device="cpu")
    plain.tokenizer.chat_template = None
    assert {item.kind for item in list_alternatives(plain)} == {"weights", "truncated-context"}


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [row[1] for row in SAMPLINGS], ids=[row[0] for row in SAMPLINGS])
def test_columns_are_those_of_the_reference_pass_with_the_altered_prompt(cache, tiny, sampling):
    from models.alternative_pass import compute_alternative_columns
    from models.load import render_prompt
    from models.reference import score_batch

    prompt = tuple(render_prompt(tiny, MESSAGES))
    requests = [
        ReferenceRequest(prompt_ids=prompt, output_ids=output, **sampling)
        for output in [(5,), (40, 41, 42, 43, 44, 45), ()]
    ]
    chosen = find(tiny, "template-role-lines")
    found = compute_alternative_columns(tiny, chosen, requests, [MESSAGES] * 3)
    altered = build_alternative_prompt(tiny, chosen, requests[0], MESSAGES)
    expected = score_batch(tiny, [dataclasses.replace(request, prompt_ids=altered) for request in requests])
    # At temperature 0 an alternative is held to its own greedy answer loosely: nothing is excluded.
    loose = [dataclasses.replace(request, temperature=request.temperature or 0.03) for request in requests]
    logprobs = score_batch(tiny, [dataclasses.replace(request, prompt_ids=altered) for request in loose])
    for ours, theirs, row in zip(found, expected, logprobs, strict=True):
        assert ours.logprob == pytest.approx(row.logprob, abs=2e-4)
        assert (ours.margin is None) == (theirs.margin is None)
        assert ours.margin is None or ours.margin == pytest.approx(theirs.margin, abs=2e-5)
        assert ours.gap is None or ours.gap == pytest.approx(theirs.gap, abs=2e-5)


@pytest.mark.slow
def test_columns_of_other_weights_are_those_of_the_variant(cache, tiny, tiny_folder):
    from models.alternative_pass import compute_alternative_columns
    from models.load import load_model
    from models.reference import score_batch
    from models.variant_weights import WeightsShelf
    from models.variants import apply_variant

    requests = [
        ReferenceRequest(prompt_ids=(1, 2, 3), output_ids=(7, 8, 9)),
        ReferenceRequest(prompt_ids=(4,), output_ids=(256,)),
    ]
    shelf = WeightsShelf(tiny)
    for name in ("int4", "fp8"):
        cheat = apply_variant(load_model(str(tiny_folder), dtype="fp32", device="cpu"), name)
        expected = score_batch(cheat, requests)
        found = compute_alternative_columns(tiny, find(tiny, name), requests, shelf=shelf)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=2e-5)


@pytest.mark.slow
def test_the_pass_without_a_layer_is_that_of_the_model_without_it(bundled):
    from models.alternative_pass import compute_alternative_columns
    from models.load import load_model
    from models.packing import pack_linears
    from models.reference import score_batch
    from models.variants import apply_variant

    chosen = find(bundled, "skipped-layer")
    assert dict(chosen.parameters) == {"layer": 5}
    cheat = apply_variant(load_model("bundled", dtype="bf16"), "drop-layer", 5)
    pack_linears(cheat)
    requests = [ReferenceRequest(prompt_ids=(1, 2, 3), output_ids=(7, 8, 9), seed=5, sampler=SAMPLER_GUMBEL)]
    (found,) = compute_alternative_columns(bundled, chosen, requests)
    (expected,) = score_batch(cheat, requests)
    assert found.logprob == pytest.approx(expected.logprob, abs=2e-5)
    assert len(bundled.model.get_decoder().layers) == 30


@pytest.mark.slow
def test_a_model_of_few_layers_is_not_looked_at_without_one(tiny):
    assert "skipped-layer" not in {item.id for item in list_alternatives(tiny)}


@pytest.mark.slow
def test_long_batches_come_back_in_order(tiny):
    from models import alternative_pass

    requests = [
        ReferenceRequest(prompt_ids=tuple(range(1, 30 + 7 * number % 50)), output_ids=tuple(range(3, 4 + number)))
        for number in range(60)
    ]
    alone = [alternative_pass.compute_columns(tiny, [request])[0] for request in requests]
    for ours, own in zip(alternative_pass.compute_columns(tiny, requests), alone, strict=True):
        assert ours.logprob == pytest.approx(own.logprob, abs=1e-4)


SKIPPED = [
    ("a hidden prompt without conversation", "hidden-prompt-safe", None, (1, 2), (3,), "conversation"),
    ("a template without conversation", "template-none", None, (1, 2), (3,), "conversation"),
    ("a context that is not cut", "last-32-tokens", MESSAGES, (1,) * 32, (3,), "same"),
    ("an altered prompt that fits no more", "hidden-prompt-safe", MESSAGES, (1, 2), (3,) * 200, "fit"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "which", "messages", "prompt", "output", "reason"), SKIPPED, ids=[r[0] for r in SKIPPED]
)
def test_an_alternative_that_does_not_apply_is_skipped_with_a_reason(
    tiny, name, which, messages, prompt, output, reason
):
    from models.alternative_pass import compute_alternative_columns

    request = ReferenceRequest(prompt_ids=prompt, output_ids=output)
    (found,) = compute_alternative_columns(tiny, find(tiny, which), [request], [messages])
    assert isinstance(found, SkippedAlternative) and reason in found.reason


@pytest.mark.slow
def test_skipped_and_scored_requests_keep_their_places(tiny):
    from models.alternative_pass import compute_alternative_columns

    requests = [ReferenceRequest(prompt_ids=(1,) * length, output_ids=(2,) * 3) for length in (40, 8, 50)]
    found = compute_alternative_columns(tiny, find(tiny, "last-32-tokens"), requests)
    assert [isinstance(item, AlternativeColumns) for item in found] == [True, False, True]
    assert found[0].logprob == pytest.approx(found[2].logprob, abs=1e-5)


@pytest.mark.slow
def test_a_hidden_prompt_goes_in_front_of_the_system_prompt(tiny):
    from models.load import render_prompt

    system = ChatMessage(role="system", content="Be kind.")
    request = ReferenceRequest(prompt_ids=(1,), output_ids=(2,))
    chosen = find(tiny, "hidden-prompt-short")
    text = HIDDEN_PROMPTS["short"]
    joined = ChatMessage(role="system", content=f"{text}\n\nBe kind.")
    for messages, expected in [
        ((system, *MESSAGES), (joined, *MESSAGES)),
        (MESSAGES, (ChatMessage(role="system", content=text), *MESSAGES)),
    ]:
        found = build_alternative_prompt(tiny, chosen, request, messages)
        assert found == tuple(render_prompt(tiny, expected))


@pytest.mark.slow
def test_a_token_that_the_filter_removed_has_no_likelihood_and_no_margin(tiny):
    from models.alternative_pass import compute_columns

    sampling = {"temperature": 1.0, "top_k": 1, "seed": 1, "sampler": SAMPLER_GUMBEL}
    columns = [
        compute_columns(tiny, [ReferenceRequest(prompt_ids=(1, 2), output_ids=(token,), **sampling)])[0]
        for token in range(300)
    ]
    possible = [column for column in columns if column.logprob[0] > -math.inf]
    assert [(column.logprob, column.margin) for column in possible] == [((0.0,), (0.0,))]
    assert all(column.margin == (math.inf,) for column in columns if column not in possible)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SEEDED_SAMPLERS)
def test_one_token_wins_whatever_the_sampler_and_it_is_the_one_drawn(tiny, sampler):
    from models.alternative_pass import compute_columns, iterate_logits
    from models.claimed_noise import open_claimed_noise

    sampling = {"temperature": 0.9, "seed": 1, "sampler": sampler}
    requests = [ReferenceRequest(prompt_ids=(1, 2), output_ids=(token,), **sampling) for token in range(300)]
    won = [token for token, column in enumerate(compute_columns(tiny, requests)) if column.margin == (0.0,)]
    _, logits = next(iterate_logits(tiny, requests[:1]))
    assert won == [open_claimed_noise(requests[0]).draw(logits[0].numpy(), 0)]


@pytest.mark.slow
def test_conversations_must_be_as_many_as_requests(tiny):
    from models.alternative_pass import compute_alternative_columns

    request = ReferenceRequest(prompt_ids=(1,), output_ids=(2,))
    with pytest.raises(InvalidInput, match="conversation"):
        compute_alternative_columns(tiny, find(tiny, "template-none"), [request], [])
