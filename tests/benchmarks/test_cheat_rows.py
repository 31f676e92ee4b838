"""Rows of the benchmark: each changes what it says and nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.cheat_rows import HONEST, ROWS, CheatRow, draw_trial, find_row, is_cheated
from models.requests import ChatMessage
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

TOKENS = 12
# So fine a rounding as int8's changes none of a dozen tokens of a tiny model.
VISIBLE = [row.name for row in ROWS if row.weights != "int8" and row.gguf is None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    messages: tuple[ChatMessage, ...]
    sampler_seed: int
    temperature_ppm: int = 1_000_000
    top_p_ppm: int = 1_000_000


QUESTIONS = tuple(
    Question(
        messages=(ChatMessage(role="user", content=f"What is number {seed} about, in a word?"),), sampler_seed=seed
    )
    for seed in range(4)
)


def ask(open_tiny, row, first_index=0):
    from benchmarks.cheat_answers import answer_rows

    return answer_rows(row, open_tiny, QUESTIONS, max_tokens=TOKENS, first_index=first_index)


@pytest.fixture(scope="module")
def honest(open_tiny):
    return ask(open_tiny, HONEST)


@pytest.mark.parametrize("name", VISIBLE)
def test_a_row_answers_otherwise_than_an_honest_provider(open_tiny, honest, name):
    row = find_row(name)
    answers = ask(open_tiny, row, first_index=row.honest_requests)
    assert all(0 < len(answer.token_ids) <= TOKENS for answer in answers)
    cheated = [answer.is_cheated for answer in answers]
    same = [a.token_ids == b.token_ids for a, b in zip(answers, honest, strict=True)]
    assert all(same[place] for place in range(4) if not cheated[place])
    assert not any(cheated) or not all(same)


def test_a_row_of_another_engine_is_refused(open_tiny):
    with pytest.raises(InvalidInput, match="Q4_0"):
        ask(open_tiny, find_row("llama.cpp-Q4_0"))


def test_a_hidden_prompt_shows_in_honest_usage_and_not_in_forged(open_tiny, honest):
    told = ask(open_tiny, find_row("hidden-prompt"))
    forged = ask(open_tiny, find_row("hidden-prompt-forged-usage"))
    assert [answer.token_ids for answer in told] == [answer.token_ids for answer in forged]
    assert [answer.prompt_tokens for answer in forged] == [answer.prompt_tokens for answer in honest]
    assert all(a.prompt_tokens > b.prompt_tokens for a, b in zip(told, honest, strict=True))


def test_a_sleeper_is_honest_until_it_wakes(open_tiny, honest):
    answers = ask(open_tiny, find_row("int4-sleeper-500"), first_index=498)
    assert [answer.is_cheated for answer in answers] == [False, False, True, True]
    # Log-probabilities move in their last digits with what else is in the batch.
    assert [answer.token_ids for answer in answers[:2]] == [answer.token_ids for answer in honest[:2]]


@pytest.mark.parametrize(("name", "share"), [("int4-diluted-5", 0.05), ("int4-diluted-20", 0.2), ("int4", 1.0)])
def test_a_share_of_requests_is_cheated(name, share):
    found = np.mean([is_cheated(find_row(name), seed, 0) for seed in range(4000)])
    assert found == pytest.approx(share, abs=0.02)


def test_a_resampled_life_mixes_the_pools_as_the_row_does():
    row = CheatRow(name="late", cheated_ppm=250_000, honest_requests=100)
    cheats, places = draw_trial(row, 7, 3, 20_100, np.random.default_rng(1))
    assert not cheats[:100].any()
    assert cheats[100:].mean() == pytest.approx(0.25, abs=0.02)
    assert set(places[cheats]) == {0, 1, 2}
    assert set(places[~cheats]) == set(range(7))


def test_asking_again_changes_the_seed_alone():
    from benchmarks.cheat_answers import ask_again

    again = ask_again(QUESTIONS[:2], 3, "local")
    assert [each.messages for each in again] == [QUESTIONS[0].messages] * 3 + [QUESTIONS[1].messages] * 3
    seeds = {each.sampler_seed for each in [*again, *ask_again(QUESTIONS[:2], 3, "endpoint"), *QUESTIONS]}
    assert len(seeds) == 6 + 6 + 4
    assert ask_again(QUESTIONS[:2], 3, "local") == again


@pytest.mark.parametrize(("gap_below", "winner"), [(0.0, "int4"), (float("inf"), "claimed")])
@pytest.mark.parametrize("gate", ["claimed", "cheap"])
def test_a_hybrid_with_its_gate_shut_or_open_is_one_of_its_models(open_tiny, gap_below, winner, gate):
    from benchmarks.gated_hybrid import answer_hybrid
    from models.generate import generate
    from models.requests import GenerationRequest

    requests = [
        GenerationRequest(prompt_ids=tuple(range(40, 50 + 5 * seed)), max_tokens=TOKENS, seed=seed, temperature=0.9)
        for seed in range(3)
    ]
    hybrids = answer_hybrid(open_tiny("claimed"), open_tiny("int4"), requests, gap_below=gap_below, gate=gate)
    alone = generate(open_tiny(winner), requests)
    assert [hybrid.token_ids for hybrid in hybrids] == [answer.token_ids for answer in alone]
    assert all(hybrid.claimed_tokens == (winner == "claimed") * len(hybrid.token_ids) for hybrid in hybrids)


@pytest.mark.parametrize(
    ("name", "seed", "gate"),
    [("a request without seed", None, "claimed"), ("an unknown gate", 1, "int4")],
)
def test_a_hybrid_refuses(open_tiny, name, seed, gate):
    from benchmarks.gated_hybrid import answer_hybrid
    from models.requests import GenerationRequest

    request = GenerationRequest(prompt_ids=(1, 2), max_tokens=2, seed=seed)
    with pytest.raises(InvalidInput):
        answer_hybrid(open_tiny("claimed"), open_tiny("int4"), [request], gap_below=0.5, gate=gate)


def test_another_models_text_is_told_in_the_claimed_models_tokens(open_tiny):
    from benchmarks.other_model import translate

    claimed = open_tiny("claimed")
    ended = translate(claimed, " two\n", "stop", 8)
    assert (ended.text, ended.finish_reason, ended.token_ids[-1]) == ("two", "stop", min(claimed.end_ids))
    cut = translate(claimed, "a text too long for its limit", "stop", 8)
    assert (len(cut.token_ids), cut.finish_reason, cut.text) == (8, "length", "a text t")
    assert translate(claimed, "", "length", 8).token_ids == (min(claimed.end_ids),)


def test_a_dialogue_ends_where_the_assistant_is_to_speak():
    from benchmarks.other_model import render_dialogue

    messages = [ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="Hello?")]
    assert render_dialogue(messages) == "System: Be kind.\nUser: Hello?\nAssistant:"
