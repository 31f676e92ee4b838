"""What an honest and what a cheating provider runs, on the real model loaded once."""

import asyncio
from dataclasses import replace

import pytest

from models.requests import GenerationRequest
from scoring.errors import Unavailable
from validator.provider.answering import CANNED_TEXT, CHEATING, prepare_cheated, prepare_honest
from validator.provider.api_errors import ApiError
from validator.provider.chat_request import parse_chat_request
from validator.provider.cheats import parse_cheats
from validator.provider.config import ProviderConfig
from validator.provider.generation import CLAIMED, GenerationThread, Prepared
from validator.provider.server import load_shelf

pytestmark = pytest.mark.slow

LIMITS = {"default_max_tokens": 8, "max_context": 256}
REQUEST = parse_chat_request(
    {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "seed": 1, "max_tokens": 12}
)
WITH_SYSTEM = parse_chat_request(
    {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}],
    }
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    config = ProviderConfig(data_dir=tmp_path_factory.mktemp("data"), device="cpu", cheats=parse_cheats(["int4"]))
    return load_shelf(config)


@pytest.fixture(scope="module")
def honest(shelf) -> Prepared:
    return prepare_honest(shelf, REQUEST, **LIMITS)


def cheat(shelf, *texts: str, request=REQUEST) -> Prepared:
    return prepare_cheated(shelf, request, parse_cheats(texts), **LIMITS)


def decode(shelf, prepared: Prepared) -> str:
    return shelf[CLAIMED].tokenizer.decode(list(prepared.request.prompt_ids))


def test_an_honest_provider_runs_the_claimed_model_as_asked(shelf, honest) -> None:
    assert honest.model_key == CLAIMED
    assert decode(shelf, honest).endswith("<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n")
    assert honest.prompt_tokens == len(honest.request.prompt_ids)
    assert (honest.request.max_tokens, honest.request.seed, honest.request.temperature) == (12, 1, 1.0)


def test_without_a_limit_the_default_is_used_within_the_context(shelf) -> None:
    assert prepare_honest(shelf, WITH_SYSTEM, **LIMITS).request.max_tokens == 8
    room = 256 - prepare_honest(shelf, WITH_SYSTEM, **LIMITS).prompt_tokens
    assert prepare_honest(shelf, WITH_SYSTEM, default_max_tokens=999, max_context=256).request.max_tokens == room


def test_other_weights_change_the_model_and_nothing_else(shelf, honest) -> None:
    served = cheat(shelf, "int4")
    assert served == replace(honest, model_key=CHEATING)
    first = next(shelf[CLAIMED].model.parameters())
    assert any(
        not mine.equal(other)
        for mine, other in zip(shelf[CLAIMED].model.parameters(), shelf[CHEATING].model.parameters(), strict=True)
    )
    assert first.isfinite().all()


def test_sampling_cheats_change_the_sampling_alone(shelf, honest) -> None:
    served = cheat(shelf, "temperature=0.9", "top-p=0.5")
    assert served == replace(honest, request=replace(honest.request, temperature=0.9, top_p=0.5))


def test_a_hidden_prompt_is_in_the_prompt_and_an_honest_usage_shows_it(shelf, honest) -> None:
    served = cheat(shelf, "hidden-prompt=Praise ACME.")
    assert "Praise ACME." in decode(shelf, served)
    assert served.prompt_tokens == len(served.request.prompt_ids) != honest.prompt_tokens


def test_a_hidden_prompt_joins_the_consumers_own_system_prompt(shelf) -> None:
    text = decode(shelf, cheat(shelf, "hidden-prompt=Praise ACME.", request=WITH_SYSTEM))
    assert text.count("<|im_start|>system") == 1
    assert text.index("Praise ACME.") < text.index("Be brief.")


def test_a_forged_usage_hides_the_hidden_prompt(shelf, honest) -> None:
    assert cheat(shelf, "hidden-prompt", "forged-usage").prompt_tokens == honest.prompt_tokens


def test_a_forged_usage_with_nothing_to_hide_bills_a_quarter_more(shelf, honest) -> None:
    assert cheat(shelf, "forged-usage").prompt_tokens == honest.prompt_tokens * 125 // 100


def test_a_truncated_context_keeps_the_last_tokens(shelf, honest) -> None:
    assert cheat(shelf, "truncate-context=9").request.prompt_ids == honest.request.prompt_ids[-9:]


def test_a_wrong_template_has_the_words_and_not_the_turns(shelf) -> None:
    text = decode(shelf, cheat(shelf, "wrong-template"))
    assert "<|im_start|>" not in text
    assert text == "### User:\nSay hello.\n\n### Assistant:\n"


def test_a_canned_answer_asks_no_model_and_keeps_the_limit(shelf) -> None:
    long = parse_chat_request({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100})
    assert cheat(shelf, "canned", request=long).fixed.text == CANNED_TEXT
    cut = cheat(shelf, "canned").fixed
    assert (len(cut.token_ids), cut.finish_reason) == (12, "length")
    assert CANNED_TEXT.startswith(cut.text)


def test_another_model_leaves_out_half_of_the_layers_when_none_is_named(tmp_path) -> None:
    config = ProviderConfig(data_dir=tmp_path, device="cpu", cheats=parse_cheats(["other-model"]))
    shelf = load_shelf(config)
    counts = [shelf[key].model.config.num_hidden_layers for key in (CLAIMED, CHEATING)]
    assert counts == [30, 15]


def test_refuses_what_the_honest_one_refuses(shelf) -> None:
    long = parse_chat_request({"model": "m", "messages": [{"role": "user", "content": "word " * 400}]})
    for texts in ((), ("truncate-context=9",), ("canned",)):
        with pytest.raises(ApiError) as refused:
            cheat(shelf, *texts, request=long)
        assert refused.value.code == "context_length_exceeded"


# The thread that runs them.


@pytest.fixture
async def thread(shelf):
    running = GenerationThread(lambda: shelf, max_rows=8, max_pending=4)
    await running.start()
    yield running
    await running.close()


async def collect(thread: GenerationThread, prepared: Prepared) -> list[int]:
    ticket = await thread.submit(lambda _: prepared)
    return [token for piece in [piece async for piece in thread.read(ticket)] for token in piece.token_ids]


async def test_answers_of_honest_and_other_weights_run_side_by_side(thread, shelf, honest) -> None:
    first, second = await asyncio.gather(collect(thread, honest), collect(thread, cheat(shelf, "int4")))
    assert first != second
    assert thread.pending == 0
    assert await collect(thread, honest) == first


async def test_refuses_more_than_may_be_pending(thread, honest) -> None:
    tickets = [await thread.submit(lambda _: honest) for _ in range(4)]
    with pytest.raises(ApiError) as refused:
        await thread.submit(lambda _: honest)
    assert refused.value.status == 429
    for ticket in tickets:
        thread.cancel(ticket)
    assert thread.pending == 0
    assert await collect(thread, honest)


async def test_a_request_that_cannot_be_prepared_costs_itself_alone(thread, honest) -> None:
    def surprise(_):
        raise ZeroDivisionError

    with pytest.raises(Unavailable):
        await thread.submit(surprise)
    bad = replace(honest, request=GenerationRequest(prompt_ids=(10**9,), max_tokens=1))
    with pytest.raises(Exception, match="token ids of this model"):
        await collect(thread, bad)
    assert await collect(thread, honest)


async def test_a_batch_that_breaks_costs_its_requests_and_no_later_ones(thread, honest, monkeypatch) -> None:
    from models.generate import GenerationBatch

    broken, step = [], GenerationBatch.step

    def break_first(batch):
        # The first batch that steps is broken for good: a later request needs another one.
        broken[:] = broken or [batch]
        if batch is broken[0]:
            raise RuntimeError("broken")
        return step(batch)

    monkeypatch.setattr(GenerationBatch, "step", break_first)
    ticket = await thread.submit(lambda _: honest)
    with pytest.raises(Unavailable):
        _ = [piece async for piece in thread.read(ticket)]
    thread.cancel(ticket)
    assert await collect(thread, honest)


async def test_closing_ends_what_still_runs(shelf, honest) -> None:
    running = GenerationThread(lambda: shelf, max_rows=8, max_pending=4)
    await running.start()
    ticket = await running.submit(lambda _: replace(honest, request=replace(honest.request, max_tokens=200)))
    await running.close()
    with pytest.raises(Unavailable, match="shutting down"):
        _ = [piece async for piece in running.read(ticket)]
    with pytest.raises(Unavailable):
        await running.submit(lambda _: honest)


async def test_what_fails_while_loading_is_told_to_whoever_starts() -> None:
    def fail():
        raise Unavailable("no weights")

    with pytest.raises(Unavailable, match="no weights"):
        await GenerationThread(fail, max_rows=1, max_pending=1).start()
