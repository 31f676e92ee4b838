"""llama.cpp on our weights: the same prompt, nearly the same distribution, plain sampling, other numerics."""

import math
from collections.abc import Iterator

import pytest

pytest.importorskip("xllamacpp")

from benchmarks.gguf_weights import decode_tensor, prepare_gguf, write_gguf
from benchmarks.third_party import (
    PLAIN_SAMPLING,
    ThirdPartyAnswer,
    ThirdPartyServer,
    answer_all,
    read_prompt_ids,
    start_third_party_server,
)
from models.load import LoadedModel, load_model, render_prompt
from models.reference import score_batch
from models.requests import ChatMessage, ReferenceRequest, TokenStatistics
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

USER = ChatMessage(role="user", content="Name three fruits, and say what each of them tastes like.")
CONVERSATIONS = (
    (USER,),
    (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Schreibe ein Gedicht über 東京."),
    ),
    (USER, ChatMessage(role="assistant", content="Apple, fig,\n lime 🍋."), ChatMessage(role="user", content="And?")),
)
MIN_P_DEFAULT = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[ThirdPartyServer]:
    with start_third_party_server() as running:
        yield running


@pytest.fixture(scope="module")
def reference() -> LoadedModel:
    return load_model("bundled", dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def answers(server: ThirdPartyServer) -> list[ThirdPartyAnswer]:
    return answer_all(server, CONVERSATIONS, [11, 12, 13], max_tokens=48, top_logprobs=1)


def run_again(reference: LoadedModel, answers: list[ThirdPartyAnswer], temperature: float) -> list[TokenStatistics]:
    prompts = [tuple(render_prompt(reference, messages)) for messages in CONVERSATIONS]
    return score_batch(
        reference,
        [
            ReferenceRequest(prompt_ids=prompt_ids, output_ids=answer.token_ids, temperature=temperature)
            for prompt_ids, answer in zip(prompts, answers, strict=True)
        ],
    )


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one question", "system prompt, other scripts", "two turns"])
def test_its_template_and_tokenizer_give_our_prompt(server, reference, messages):
    assert read_prompt_ids(server, messages) == render_prompt(reference, messages)


def test_usage_counts_what_we_count(reference, answers):
    for messages, answer in zip(CONVERSATIONS, answers, strict=True):
        assert answer.prompt_tokens == len(render_prompt(reference, messages))
        assert answer.completion_tokens == len(answer.token_ids) == len(answer.logprobs)


def test_a_seed_gives_the_same_answer_again_and_another_seed_another(server, answers):
    again = answer_all(server, CONVERSATIONS[:2], [11, 14], max_tokens=48)
    assert again[0].token_ids == answers[0].token_ids
    assert again[1].token_ids != answers[1].token_ids


def test_its_log_probabilities_are_ours_up_to_rounding(reference, answers):
    for statistics, answer in zip(run_again(reference, answers, 1.0), answers, strict=True):
        differences = [abs(a - b) for a, b in zip(statistics.raw_logprob, answer.logprobs, strict=True)]
        assert max(differences) < 0.1
        assert sum(differences) / len(differences) < 0.01


def test_its_greedy_tokens_are_nearly_all_ours(server, reference):
    greedy = answer_all(server, CONVERSATIONS, [1, 1, 1], max_tokens=48, temperature=0)
    ranks = [rank for statistics in run_again(reference, greedy, 0.0) for rank in statistics.rank]
    assert sum(rank == 0 for rank in ranks) >= 0.97 * len(ranks)


def count_tokens_that_min_p_removes(answers: list[ThirdPartyAnswer]) -> int:
    pairs = [(value, top[0][1]) for answer in answers for value, top in zip(answer.logprobs, answer.top, strict=True)]
    return sum(value < best + math.log(MIN_P_DEFAULT) for value, best in pairs)


def test_nothing_is_filtered_unless_the_request_says_so(server, answers):
    filtered = answer_all(server, CONVERSATIONS, [11, 12, 13], max_tokens=48, top_logprobs=1, min_p=MIN_P_DEFAULT)
    assert count_tokens_that_min_p_removes(answers) > 3
    assert count_tokens_that_min_p_removes(filtered) == 0
    assert PLAIN_SAMPLING["min_p"] == 0


def test_the_file_holds_the_weights_that_we_run(reference):
    import gguf

    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(prepare_gguf()).tensors}
    ours = reference.model.state_dict()
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "blk.29.attn_norm.weight": "model.layers.29.input_layernorm.weight",
    }
    for theirs, name in pairs.items():
        values = decode_tensor(tensors[theirs])
        assert (values == ours[name].numpy().astype(values.dtype)).all()


def test_a_quantised_file_holds_them_in_that_format_and_its_embedding_in_8_bits(reference, tmp_path):
    import gguf

    write_gguf(tmp_path / "q4.gguf", "Q4_0")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "q4.gguf").tensors}
    ours = reference.model.state_dict()["model.layers.7.mlp.down_proj.weight"].numpy()
    deviation = abs(decode_tensor(tensors["blk.7.ffn_down.weight"]) - ours).mean() / abs(ours).mean()
    assert 0.03 < deviation < 0.15
    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0


def test_an_unknown_format_is_refused():
    with pytest.raises(InvalidInput, match="Q4_0"):
        prepare_gguf("Q3_K")
