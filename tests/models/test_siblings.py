"""Other models as alternatives: one that reads the same tokens, one that reads others, and what is refused."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from models.alternatives import Alternative, SkippedAlternative
from models.requests import ChatMessage, ReferenceRequest
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}>"
MESSAGES = (ChatMessage(role="user", content="Where is the hat?"),)
END = 256
LETTERS = {letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
"""The tokens of the tiny model: all bytes, in the order of the letters that stand for them."""
MERGES = (("t", "h"), ("th", "e"), ("\u0120", "h"), ("a", "t"))


@pytest.fixture(scope="module")
def pruned_folder(tiny_folder, tmp_path_factory):
    """The tiny model without its last layer."""
    from models.load import load_model
    from models.variants import apply_variant

    folder = tmp_path_factory.mktemp("siblings") / "pruned"
    pruned = apply_variant(load_model(str(tiny_folder), dtype="fp32", device="cpu"), "drop-layer")
    pruned.model.config.num_hidden_layers = len(pruned.model.model.layers)
    pruned.model.save_pretrained(folder)
    pruned.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wordy_folder(tiny_folder, tmp_path_factory):
    """The tiny model's weights behind a tokenizer that joins letters."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("siblings") / "wordy")
    document = json.loads((folder / "tokenizer.json").read_text())
    # Tokens that mean nothing in the tiny model stand for what is joined.
    joined = {"".join(pair): 296 + place for place, pair in enumerate(MERGES)}
    document["added_tokens"] = [item for item in document["added_tokens"] if item["id"] not in joined.values()]
    # No gap in the numbers, or those behind it would be given out again.
    names = {item["content"]: item["id"] for item in document["added_tokens"]}
    document["model"]["vocab"].update(names | joined)
    document["model"]["merges"] = [list(pair) for pair in MERGES]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def wordy(wordy_folder):
    from models.load import load_model

    return load_model(str(wordy_folder), dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def plain(wordy_folder):
    """The same without a chat template."""
    from models.load import load_model

    loaded = load_model(str(wordy_folder), dtype="fp32", device="cpu")
    loaded.tokenizer.chat_template = None
    return loaded


def spell(text):
    return tuple(LETTERS[letter] for letter in text.replace(" ", "\u0120"))


ANSWER = spell("the hat is there")


def ask(output_ids):
    return ReferenceRequest(prompt_ids=spell("ignored"), output_ids=tuple(output_ids))


def read(claimed, other, output_ids, messages=MESSAGES):
    from models.foreign_text import compute_text_columns

    (found,) = compute_text_columns(claimed, other, [ask(output_ids)], [messages])
    return found


def score(other, text, end=()):
    """Return the log-probability of a text's own tokens after the rendered prompt."""
    from models.alternative_pass import compute_columns
    from models.load import encode_text, render_prompt

    ids = (*encode_text(other, text), *end)
    prompt = tuple(render_prompt(other, MESSAGES))
    return compute_columns(other, [ReferenceRequest(prompt_ids=prompt, output_ids=ids)])[0].logprob


def test_a_sibling_is_known_by_its_manifest(tiny, pruned_folder):
    from models.load import load_model
    from models.siblings import find_siblings, get_labels

    (found,) = find_siblings(tiny, [str(pruned_folder)])
    digest = load_model(str(pruned_folder), dtype="fp32").manifest.compute_digest()
    assert found.id == f"sibling-{digest.hex()[:16]}"
    assert get_labels([found, Alternative(id="int4", kind="weights", parameters=(("variant", "int4"),))]) == {
        found.id: "pruned"
    }


def copy_without_weights(folder):
    bare = f"{folder}-bare"
    if not Path(bare).exists():
        shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    return bare


REFUSED = {
    "the claimed model": (lambda own, other: [own], "the claimed model itself"),
    "one model twice": (lambda own, other: [other, f"{other}/."], "named twice"),
    "five": (lambda own, other: [other] * 5, "at most 4"),
    "a folder that is not there": (lambda own, other: [f"{other}-gone"], "gone"),
    "a folder without weights": (lambda own, other: [copy_without_weights(other)], "no .safetensors"),
}


@pytest.mark.parametrize(("choose", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_as_siblings(tiny, tiny_folder, pruned_folder, choose, message):
    from models.siblings import find_siblings

    with pytest.raises(InvalidInput, match=message):
        find_siblings(tiny, choose(str(tiny_folder), str(pruned_folder)))


def test_a_sibling_of_the_same_tokens_is_run_on_the_answer_itself(tiny, pruned_folder):
    from models.alternative_pass import compute_alternative_columns, compute_columns
    from models.load import load_model
    from models.siblings import find_siblings

    request = ask((*ANSWER, END))
    (found,) = compute_alternative_columns(tiny, find_siblings(tiny, [str(pruned_folder)])[0], [request])
    assert found == compute_columns(load_model(str(pruned_folder), dtype="fp32", device="cpu"), [request])[0]
    assert not found.is_whole


def test_another_tokenizer_is_found_by_what_it_makes_of_texts(tiny, wordy, wordy_folder):
    from models.alternative_pass import compute_alternative_columns
    from models.siblings import find_siblings

    (sibling,) = find_siblings(tiny, [str(wordy_folder)])
    (found,) = compute_alternative_columns(tiny, sibling, [ask(ANSWER)], [MESSAGES])
    assert found == read(tiny, wordy, ANSWER)
    assert found.is_whole


def test_an_answer_has_the_probability_of_its_text_in_the_other_model_s_own_tokens(tiny, wordy):
    expected = score(wordy, "the hat is there")
    assert len(expected) == 10
    found = read(tiny, wordy, ANSWER)
    assert sum(found.logprob) == pytest.approx(sum(expected), abs=1e-4)
    assert found.margin is found.gap is None


def test_each_of_its_tokens_is_paid_for_where_it_begins(tiny, wordy):
    found, expected = read(tiny, wordy, ANSWER), score(wordy, "the hat is there")
    begins = [place for place, value in enumerate(found.logprob) if value != 0.0]
    #                the _h at _ i s _ the r e
    assert begins == [0, 3, 5, 7, 8, 9, 10, 11, 14, 15]
    assert [found.logprob[place] for place in begins] == pytest.approx(expected, abs=1e-4)


def test_an_ended_answer_ends_with_the_other_model_s_end(tiny, wordy):
    ended = read(tiny, wordy, (*ANSWER, END))
    assert ended.logprob[:-1] == pytest.approx(read(tiny, wordy, ANSWER).logprob, abs=1e-4)
    assert ended.logprob[-1] == pytest.approx(score(wordy, "the hat is there", (END,))[-1], abs=1e-4)


def test_a_model_without_a_template_ends_by_a_fixed_chance_after_each_token(tiny, plain):
    from models.foreign_text import LOG_END, LOG_ON

    assert math.exp(LOG_END) + math.exp(LOG_ON) == pytest.approx(1.0, abs=1e-3)
    ended, going = read(tiny, plain, (*ANSWER, END)), read(tiny, plain, ANSWER)
    assert ended.logprob[-1] == pytest.approx(LOG_END)
    assert ended.logprob[:-1] == pytest.approx(going.logprob, abs=1e-4)


def test_what_all_short_answers_have_together_is_no_more_than_a_probability(tiny, wordy, plain):
    from models.foreign_text import compute_text_columns

    letters = spell("the hat.")
    texts = [(), *((first,) for first in letters), *((first, second) for first in letters for second in letters)]
    requests = [ask((*text, END)) for text in sorted(set(texts))]
    for other in (wordy, plain):
        found = compute_text_columns(tiny, other, requests, [MESSAGES] * len(requests))
        assert 0.0 < math.fsum(math.exp(sum(item.logprob)) for item in found) <= 1.0


SKIPPED = {
    "without a conversation": (ANSWER, None, "conversation"),
    "without an answer": ((), MESSAGES, "an answer"),
    "that the template refuses": (ANSWER, (ChatMessage(role="user", content="refuse"),), "refuses"),
}


@pytest.mark.parametrize(("output_ids", "messages", "reason"), SKIPPED.values(), ids=SKIPPED.keys())
def test_leaves_out_a_request(tiny, wordy, monkeypatch, output_ids, messages, reason):
    refusing = "{% if messages[0]['content'] == 'refuse' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    monkeypatch.setattr(wordy.tokenizer, "chat_template", refusing)
    found = read(tiny, wordy, output_ids, messages)
    assert isinstance(found, SkippedAlternative)
    assert reason in found.reason


IMPOSSIBLE = {
    "with an end in the middle": (*spell("h"), END, *spell("i")),
    "of half a character": spell("\u00e6"),
    "that does not fit": spell("xyz " * 70),
}


@pytest.mark.parametrize("output_ids", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_another_model_gives_no_probability_to_an_answer(tiny, wordy, output_ids):
    assert read(tiny, wordy, output_ids).logprob == (-math.inf, *(0.0,) * (len(output_ids) - 1))


def test_a_model_that_never_ends_gives_no_probability_to_an_ended_answer(tiny, wordy):
    endless = replace(wordy, end_ids=frozenset())
    assert read(tiny, endless, (*ANSWER, END)).logprob[0] == -math.inf
    assert read(tiny, endless, ANSWER).logprob == pytest.approx(read(tiny, wordy, ANSWER).logprob, abs=1e-4)


def test_of_all_ways_to_cut_a_text_the_claimed_tokenizer_s_own_has_a_probability(tiny, wordy):
    assert sum(read(wordy, tiny, spell("the")).logprob) == -math.inf
    assert -math.inf < sum(read(wordy, tiny, (297,)).logprob) < 0.0


def test_only_the_first_window_of_an_answer_has_a_probability_under_other_tokens(tiny, wordy):
    from models.answer_pass import cut_columns
    from models.reference import score_batch
    from scoring.evidence.channels import AnswerColumns

    (tokens,) = score_batch(tiny, [ask(ANSWER)])
    found = {"sibling-0": read(tiny, wordy, ANSWER)}
    columns = AnswerColumns(tokens=tokens, alternatives=found, max_tokens=16)
    assert cut_columns(columns, 0, 8, 8).alternatives["sibling-0"].logprob == found["sibling-0"].logprob[:8]
    assert not cut_columns(columns, 8, 8, 8).alternatives


def test_an_examiner_bets_on_a_named_model_and_calls_it_by_its_name(tiny_folder, pruned_folder):
    from exchanges import PLAIN

    from models.local_passes import LocalPasses
    from scoring.evidence.channel_ids import is_sibling
    from validator.audit.examiner import ModelExaminer
    from validator.audit.records import ExaminerSettings

    settings = ExaminerSettings(model=str(tiny_folder), alternatives=(), siblings=(str(pruned_folder),))
    passes = LocalPasses(settings.model, device="cpu", dtype="fp32", siblings=settings.siblings)
    examiner = ModelExaminer(settings, passes)
    assert examiner.facts.alternatives == ("pruned",)
    evidence = examiner.begin(("text",))
    staked = {statistic.id for statistic in evidence.wealth.plan.statistics if is_sibling(statistic.id)}
    (appraisal,) = examiner.examine([PLAIN])
    assert len(staked) == 2 and staked <= appraisal.units[0].statistics_ppm.keys()
    ratios = {name: ratio for name, ratio in appraisal.log_ratios.items() if name.startswith("sibling-")}
    assert len(ratios) == 1
    found = evidence.add(replace(appraisal, log_ratios=dict.fromkeys(ratios, 9.0)))
    assert found.explanations[0].name == "another model (pruned)"


def test_a_sibling_runs_here_where_a_server_runs_the_claimed_model(tiny, tiny_folder, pruned_folder, monkeypatch):
    from fake_vllm import FakeVllm, serve_vllm

    from models.alternative_pass import compute_columns
    from models.load import load_model
    from models.passes import open_passes

    # Of English the random model knows nothing.
    monkeypatch.setattr("models.server_passes.LEAST_MEAN", -100.0)
    with serve_vllm(FakeVllm(tiny)) as url:
        passes = open_passes(str(tiny_folder), url, siblings=(str(pruned_folder),))
        (found,) = passes.run_alternative(passes.alternatives[-1], [ask(ANSWER)], [MESSAGES])
        passes.close()
    (expected,) = compute_columns(load_model(str(pruned_folder)), [ask(ANSWER)])
    assert found.logprob == pytest.approx(expected.logprob, abs=0.2)
