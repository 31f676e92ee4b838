"""From text back to ids: doubts cost evidence, and the seed finds the tokens that were sampled."""

from dataclasses import replace

import pytest

from models.requests import SAMPLER_GUMBEL, GenerationRequest, ReferenceRequest
from models.retokenise import (
    DOUBT_BROKEN,
    DOUBT_COUNT,
    DOUBT_END,
    DOUBT_FINISH,
    DOUBT_TRIMMED,
    Retokenised,
    TextAnswer,
    limit_logprobs,
    limit_margins,
    read_tokens,
    retokenise,
)

pytestmark = pytest.mark.slow

QUESTIONS = (
    "Explain how rainbows form.",
    "Write a python function that parses a CSV file.",
    "Schreibe ein Gedicht über den Herbst.",
    "Make up three names for a shop and explain them.",
)
PIECES = ["a", "b", "c", "d", "ab", "bc", "cd", "da", "abc"]


@pytest.fixture(scope="module")
def table(bundled):
    from models.token_bytes import TokenBytes

    return TokenBytes.build(bundled)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A random model of nine tokens that overlap, so that many answers are not canonical."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from models.load import load_model

    folder = tmp_path_factory.mktemp("letters")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(PIECES) + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        eos_token_id=len(PIECES),
        bos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    merges = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("ab", "c")]
    vocabulary = {piece: place for place, piece in enumerate(PIECES)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    return load_model(str(folder), dtype="fp32", device="cpu")


ANSWERS = [
    ("ended by its token", TextAnswer(text="Hi there", finish_reason="stop"), "Hi there", 3, 3, True, ()),
    ("ended by length", TextAnswer(text="Hi there", finish_reason="length"), "Hi there", 2, 2, True, ()),
    ("nothing said", TextAnswer(text="", finish_reason="stop"), "", 1, 1, True, ()),
    ("cut before anything", TextAnswer(text="", finish_reason="length"), "", 0, 0, True, ()),
    (
        "ended by a stop string perhaps",
        TextAnswer(text="Hi there", finish_reason="stop", stop=("X",)),
        "Hi there",
        3,
        1,
        True,
        (DOUBT_END,),
    ),
    (
        "stop strings and yet the whole length",
        TextAnswer(text="Hi there", finish_reason="length", stop=("X",)),
        "Hi there",
        2,
        2,
        True,
        (),
    ),
    ("another reason", TextAnswer(text="Hi there", finish_reason=None), "Hi there", 3, 2, True, (DOUBT_FINISH,)),
    (
        "trimmed perhaps",
        TextAnswer(text="Hi there", finish_reason="stop", may_be_trimmed=True),
        "Hi there",
        3,
        1,
        True,
        (DOUBT_TRIMMED,),
    ),
    (
        "half a character at the end",
        TextAnswer(text="Hi there\ufffd", finish_reason="length"),
        "Hi there",
        2,
        1,
        False,
        (DOUBT_BROKEN,),
    ),
    (
        "a broken character inside",
        TextAnswer(text="Hi\ufffd there", finish_reason="stop"),
        "Hi",
        1,
        0,
        False,
        (DOUBT_BROKEN,),
    ),
    (
        "a character that no token spells",
        TextAnswer(text="Hi there\U00040000 ", finish_reason="stop"),
        "Hi there",
        2,
        1,
        False,
        (DOUBT_BROKEN,),
    ),
    (
        "as many tokens as it says",
        TextAnswer(text="Hi there", finish_reason="stop", completion_tokens=3),
        "Hi there",
        3,
        3,
        True,
        (),
    ),
    (
        "the end token not counted",
        TextAnswer(text="Hi there", finish_reason="stop", completion_tokens=2),
        "Hi there",
        3,
        3,
        True,
        (),
    ),
    (
        "more tokens than it should have",
        TextAnswer(text="Hi there", finish_reason="length", completion_tokens=3),
        "Hi there",
        2,
        2,
        False,
        (DOUBT_COUNT,),
    ),
]


@pytest.mark.parametrize(
    ("name", "answer", "text", "count", "certain", "is_settled", "doubts"), ANSWERS, ids=[row[0] for row in ANSWERS]
)
def test_what_is_in_doubt_is_said(bundled, table, name, answer, text, count, certain, is_settled, doubts):
    from models.load import decode_tokens

    found = retokenise(bundled, answer, table)
    assert decode_tokens(bundled, found.token_ids) == text
    assert len(found.token_ids) == count
    assert (found.certain_tokens, found.is_settled, found.doubts) == (certain, is_settled, doubts)


def spell(table, ids):
    return [table.values[token] for token in ids]


def test_tokens_that_were_spelled_one_by_one_are_beyond_doubt_however_they_were_cut(bundled, table):
    ids = [*table.encode("to"), *table.encode("day is")]
    assert ids != table.encode("today is")
    found = read_tokens(bundled, TextAnswer(text="today is", finish_reason="length"), spell(table, ids), table)
    assert found == Retokenised(
        answer=TextAnswer(text="today is", finish_reason="length"),
        token_ids=tuple(ids),
        certain_tokens=len(ids),
        is_canonical=False,
        is_settled=True,
        doubts=(),
    )


@pytest.mark.parametrize("end", [[], [b""], [b"<|im_end|>"]], ids=["left out", "empty", "by name"])
def test_the_end_token_is_added_to_spelled_tokens_in_whatever_way_it_is_told(bundled, table, end):
    ids = table.encode("Blue is a colour.")
    answer = TextAnswer(text="Blue is a colour.", finish_reason="stop")
    found = read_tokens(bundled, answer, [*spell(table, ids), *end], table)
    assert found.token_ids == (*ids, *bundled.end_ids) if len(bundled.end_ids) == 1 else len(found.token_ids) > len(ids)
    assert found.certain_tokens >= len(ids)


UNSETTLED = {
    "another text": ("Red.", "length", ()),
    "a stop string": ("Blue.", "stop", ("!",)),
}


@pytest.mark.parametrize(("text", "finish", "stop"), UNSETTLED.values(), ids=UNSETTLED.keys())
def test_spelled_tokens_settle_nothing_after(bundled, table, text, finish, stop):
    answer = TextAnswer(text=text, finish_reason=finish, stop=stop)
    assert read_tokens(bundled, answer, spell(table, table.encode("Blue.")), table) is None


def test_bytes_that_no_single_token_has_settle_nothing(bundled, table):
    answer = TextAnswer(text="Blue is", finish_reason="length")
    assert read_tokens(bundled, answer, [b"Blue i", b"s"], table) is None


def test_a_stop_string_that_the_last_words_could_have_grown_into_takes_them_out_of_the_evidence(bundled, table):
    plain = retokenise(bundled, TextAnswer(text="One environ", finish_reason="stop"), table)
    found = retokenise(bundled, TextAnswer(text="One environ", finish_reason="stop", stop=("ment",)), table)
    assert found.token_ids == plain.token_ids
    assert len(plain.token_ids) == 4
    assert found.certain_tokens == 1


def test_positions_in_doubt_bound_the_claim_by_certainty_and_have_no_margin():
    answer = TextAnswer(text="x", finish_reason="stop")
    found = Retokenised(
        answer=answer, token_ids=(1, 2, 3), certain_tokens=1, is_canonical=True, is_settled=True, doubts=()
    )
    assert limit_logprobs(found, (-1.0, -2.0, -3.0)) == (-1.0, 0.0, 0.0)
    assert limit_margins(found, (0.5, 0.25, 4.0)) == (0.5, 0.0, 0.0)


def sample(loaded, prompts, count, length):
    """Return seeded requests, their answers as text, and the token ids that were sampled."""
    from models.generate import generate

    asked = [
        GenerationRequest(prompt_ids=prompts[number % len(prompts)], max_tokens=length, seed=1000 + number)
        for number in range(count)
    ]
    given = generate(loaded, asked, max_rows=16)
    answers = [TextAnswer(text=item.text, finish_reason=item.finish_reason) for item in given]
    requests = [
        ReferenceRequest(prompt_ids=item.prompt_ids, output_ids=(), seed=item.seed, sampler=SAMPLER_GUMBEL)
        for item in asked
    ]
    return requests, answers, [item.token_ids for item in given]


def search(loaded, requests, answers):
    """Return what is found for the texts, and the total margin before and after."""
    from models.alternative_pass import compute_columns
    from models.retokenise_seeded import compute_total_margin, find_sampled_tokens
    from models.token_bytes import TokenBytes

    tokens = TokenBytes.build(loaded)
    plain = [retokenise(loaded, answer, tokens) for answer in answers]
    canonical = [replace(item, output_ids=ids.token_ids) for item, ids in zip(requests, plain, strict=True)]
    before = [columns.margin for columns in compute_columns(loaded, canonical)]
    found = find_sampled_tokens(loaded, canonical, plain, tokens=tokens, margins=before)
    chosen = [replace(item, output_ids=ids.token_ids) for item, ids in zip(requests, found, strict=True)]
    after = [columns.margin for columns in compute_columns(loaded, chosen)]
    return found, [compute_total_margin(row) for row in before], [compute_total_margin(row) for row in after]


def test_the_sampled_tokens_are_found_where_half_of_the_answers_are_not_canonical(letters):
    requests, answers, sampled = sample(letters, [(0, 1, 2)], 100, 30)
    found, before, after = search(letters, requests, answers)
    canonical = sum(retokenise(letters, answer).token_ids == ids for answer, ids in zip(answers, sampled, strict=True))
    equal = sum(item.token_ids == ids for item, ids in zip(found, sampled, strict=True))
    assert canonical < 70
    assert equal >= 98
    assert all(new <= old + 1e-4 for old, new in zip(before, after, strict=True))


def test_answers_of_the_bundled_model_are_found_again(bundled):
    from models.load import render_prompt
    from models.requests import ChatMessage

    prompts = [tuple(render_prompt(bundled, [ChatMessage(role="user", content=text)])) for text in QUESTIONS]
    requests, answers, sampled = sample(bundled, prompts, 8, 32)
    found, before, after = search(bundled, requests, answers)
    equal = [item.token_ids == ids[: len(item.token_ids)] for item, ids in zip(found, sampled, strict=True)]
    assert sum(equal) >= 7
    assert all(new <= old + 1e-3 for old, new in zip(before, after, strict=True))
    assert all(item.is_settled or "\ufffd" in answer.text for item, answer in zip(found, answers, strict=True))


def test_a_text_of_other_words_keeps_its_canonical_ids_or_gets_better_ones(letters):
    requests, answers, _ = sample(letters, [(0, 1, 2)], 20, 10)
    other = [replace(request, seed=request.seed + 1) for request in requests]
    found, before, after = search(letters, other, answers)
    assert all(new <= old + 1e-4 for old, new in zip(before, after, strict=True))
    assert sum(after) > 20
    assert [item.is_canonical for item in found].count(True) >= 1


def test_a_known_count_is_understood_once_the_tokens_are_found(letters):
    requests, answers, sampled = sample(letters, [(0, 1, 2)], 40, 30)
    counted = [replace(item, completion_tokens=len(ids)) for item, ids in zip(answers, sampled, strict=True)]
    plain = [retokenise(letters, answer) for answer in counted]
    found, _, _ = search(letters, requests, counted)
    assert sum(item.is_settled for item in plain) < 32
    assert all(item.is_settled for item, ids in zip(found, sampled, strict=True) if item.token_ids == ids)


def test_answers_that_margins_explain_cost_no_pass(letters, monkeypatch):
    from models import retokenise_seeded

    monkeypatch.setattr(retokenise_seeded, "iterate_logits", lambda loaded, requests: [1 / 0 for _ in requests])
    found = [retokenise(letters, TextAnswer(text="abc", finish_reason="stop"))]
    request = ReferenceRequest(prompt_ids=(1,), output_ids=found[0].token_ids, seed=1, sampler=SAMPLER_GUMBEL)
    given = retokenise_seeded.find_sampled_tokens(letters, [request], found, margins=[(0.0, 0.2)])
    assert given == found
