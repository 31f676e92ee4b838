"""Generation: an answer depends on its own request, rows come and go, the stream is the text."""

import numpy as np
import pytest

from models.requests import ChatMessage, GenerationRequest
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

PROMPTS = [tuple(b"a"), tuple(b"some longer prompt than the others"), tuple(b"three"), tuple(range(40, 90))]


def build_requests(**changes):
    return [
        GenerationRequest(**{"prompt_ids": prompt, "seed": number, "max_tokens": 8 + 3 * number, **changes})
        for number, prompt in enumerate(PROMPTS)
    ]


def compute_plainly(tiny, request):
    """The definition, with a full forward pass for every token and the specification's noise for every id."""
    import torch

    from models.sampler import compute_gumbel_noise

    ids = list(request.prompt_ids)
    for position in range(request.max_tokens):
        with torch.inference_mode():
            logits = tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].float().numpy()
        noise = compute_gumbel_noise(request.seed, position, np.arange(len(logits)))
        ids.append(int((logits.astype(np.float64) + request.temperature * noise).argmax()))
        if ids[-1] in tiny.end_ids:
            break
    return tuple(ids[len(request.prompt_ids) :])


@pytest.mark.parametrize("max_rows", [1, 2, 4])
def test_batches_give_what_the_definition_gives(tiny, max_rows):
    from models.generate import generate

    requests = build_requests()
    answers = generate(tiny, requests, max_rows=max_rows)
    assert [answer.token_ids for answer in answers] == [compute_plainly(tiny, request) for request in requests]


def test_rows_that_join_later_change_nothing(tiny):
    from models.generate import GenerationBatch, generate

    requests = build_requests()
    batch, found = GenerationBatch(tiny), {}
    handles = [batch.add(requests[0]), batch.add(requests[1])]
    for step in range(60):
        if step in (3, 5):
            handles.append(batch.add(requests[len(handles)]))
        for event in batch.step():
            if event.generation is not None:
                found[event.handle] = event.generation
    assert batch.is_idle
    assert [found[handle] for handle in handles] == generate(tiny, requests)


def test_rows_that_end_early_in_a_large_batch_leave_the_others_alone(tiny):
    from models.generate import generate

    limits = [2, *range(24, 40)]
    requests = [
        GenerationRequest(prompt_ids=tuple(range(40, 90 if limit == 2 else 60)), seed=limit, max_tokens=limit)
        for limit in limits
    ]
    answers = generate(tiny, requests, max_rows=18)
    assert [answer.token_ids for answer in answers] == [compute_plainly(tiny, request) for request in requests]


def test_a_shared_beginning_of_the_prompts_is_run_once(tiny, monkeypatch):
    from models import generate as module

    start = tuple(range(40, 60))
    requests = [
        GenerationRequest(prompt_ids=start + ending, seed=number, max_tokens=6)
        for number, ending in enumerate([(1,), (1, 2, 3), (4,) * 9, (5, 6)])
    ]
    widths, run = [], module.compute_hidden

    def listen(loaded, ids, **options):
        widths.append(tuple(ids.shape))
        return run(loaded, ids, **options)

    monkeypatch.setattr(module, "compute_hidden", listen)
    answers = module.generate(tiny, requests)
    assert widths[:2] == [(1, 20), (4, 9)]
    assert [answer.token_ids for answer in answers] == [compute_plainly(tiny, request) for request in requests]


def test_prompts_too_wide_for_one_prefill_are_admitted_one_after_another(tiny, monkeypatch):
    from models import generate as module

    expected = module.generate(tiny, build_requests())
    monkeypatch.setattr(module, "PREFILL_TOKENS", 40)
    assert module.generate(tiny, build_requests()) == expected


def test_a_cancelled_row_leaves_and_the_others_stay_the_same(tiny):
    from models.generate import GenerationBatch, generate

    requests = build_requests()
    batch, found = GenerationBatch(tiny, max_rows=3), {}
    handles = [batch.add(request) for request in requests]
    for step in range(60):
        if step == 2:
            batch.cancel(handles[1])
            batch.cancel(handles[3])
        for event in batch.step():
            if event.generation is not None:
                found[event.handle] = event.generation
    assert batch.is_idle
    expected = generate(tiny, requests)
    assert found == {handles[0]: expected[0], handles[2]: expected[2]}


def test_the_stream_adds_up_to_the_answer(tiny):
    from models.generate import stream

    requests = build_requests()
    texts, tokens, answers = ["" for _ in requests], [[] for _ in requests], {}
    for event in stream(tiny, requests):
        texts[event.handle] += event.text
        tokens[event.handle].append(event.token_id)
        if event.generation is not None:
            answers[event.handle] = event.generation
    assert [answers[number].text for number in range(len(requests))] == texts
    assert [list(answers[number].token_ids) for number in range(len(requests))] == tokens


def test_every_token_is_reported_to_the_callback(tiny):
    from models.generate import generate

    heard = []
    answers = generate(tiny, build_requests(), on_token=lambda index, token: heard.append((index, token)))
    for index, answer in enumerate(answers):
        assert [token for place, token in heard if place == index] == list(answer.token_ids)


def test_an_answer_ends_at_its_limit_or_at_the_end_token(tiny):
    from models.generate import generate

    endings = set()
    for seed in range(40):
        request = GenerationRequest(prompt_ids=PROMPTS[0], seed=seed, max_tokens=12, temperature=2.0)
        answer = generate(tiny, [request])[0]
        endings.add(answer.finish_reason)
        assert (answer.finish_reason == "stop") == (answer.token_ids[-1] == 256)
        assert len(answer.token_ids) == 12 or answer.finish_reason == "stop"
    assert endings == {"stop", "length"}


def test_a_stop_string_ends_the_answer(bundled):
    from models.generate import generate
    from models.load import render_prompt

    prompt = tuple(render_prompt(bundled, [ChatMessage(role="user", content="List five animals.")]))
    plain = GenerationRequest(prompt_ids=prompt, seed=4, max_tokens=24, temperature=0.0)
    whole = generate(bundled, [plain])[0].text
    stop = whole[10:14]
    cut = generate(
        bundled, [GenerationRequest(prompt_ids=prompt, seed=4, max_tokens=24, temperature=0.0, stop=(stop,))]
    )[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.find(stop)]


def test_log_probabilities_are_those_of_the_raw_model(tiny):
    import torch

    from models.generate import generate

    request = GenerationRequest(prompt_ids=PROMPTS[1], seed=1, max_tokens=5, temperature=0.7, logprobs=3)
    answer = generate(tiny, [request])[0]
    ids = torch.tensor([list(PROMPTS[1] + answer.token_ids)])
    with torch.inference_mode():
        expected = torch.log_softmax(tiny.model(input_ids=ids).logits[0].float(), dim=-1)
    for position, row in enumerate(answer.logprobs):
        values = expected[len(PROMPTS[1]) - 1 + position]
        assert row.token_id == answer.token_ids[position]
        assert row.logprob == pytest.approx(float(values[row.token_id]), abs=1e-4)
        assert [token for token, _ in row.top] == torch.topk(values, 3).indices.tolist()


def test_an_answer_without_seed_is_new_every_time(tiny):
    from models.generate import generate

    request = GenerationRequest(prompt_ids=PROMPTS[0], max_tokens=20)
    assert generate(tiny, [request])[0].token_ids != generate(tiny, [request])[0].token_ids


def test_a_prompt_that_fills_the_context_is_refused_and_a_long_one_is_limited(tiny):
    from models.generate import generate

    with pytest.raises(InvalidInput, match="no room"):
        generate(tiny, [GenerationRequest(prompt_ids=(1,) * 256, max_tokens=1)])
    answer = generate(tiny, [GenerationRequest(prompt_ids=(1,) * 250, max_tokens=100, seed=3, temperature=0.0)])[0]
    assert len(answer.token_ids) <= 6


def test_unknown_tokens_are_refused(tiny):
    from models.generate import generate

    with pytest.raises(InvalidInput):
        generate(tiny, [GenerationRequest(prompt_ids=(300,), max_tokens=1)])
