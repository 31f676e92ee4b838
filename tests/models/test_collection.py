"""Collections on disk: what a killed run leaves is whole, and a longer run goes on from it."""

import math

import pytest

from models.alternatives import AlternativeColumns, SkippedAlternative
from models.collection import (
    SHARD,
    Answered,
    Collection,
    Question,
    pack_alternative_columns,
    pack_token_statistics,
    reseed,
)
from models.gather import gather_answers
from models.requests import GRID, ChatMessage, TokenStatistics
from scoring.errors import InvalidInput


def build_questions(count):
    return [
        Question(
            index=index,
            stratum="prose",
            messages=(ChatMessage(role="user", content="hi"),),
            prompt_ids=(1, 2),
            sampler_seed=index,
            temperature_ppm=1_000_000,
            top_p_ppm=1_000_000,
            max_tokens=4,
        )
        for index in range(count)
    ]


def answer(questions):
    return [Answered(question=question, output_ids=(question.index, 7), prompt_tokens=2) for question in questions]


def build_columns(length, seeded=True):
    return TokenStatistics(
        logprob=(-1.5,) * length,
        raw_logprob=(-1.5,) * length,
        rank=(0,) * length,
        entropy=(1.0,) * length,
        pit_low=(0.0,) * length,
        pit_high=(0.5,) * length,
        grid_logprob=((-2.0,) * (len(GRID) - 1) + (-math.inf,),) * length,
        margin=(0.0,) * length if seeded else None,
        gap=(1.0,) * length if seeded else None,
    )


def ignore(done, total, what):
    pass


def test_answers_that_are_there_are_not_asked_for_again(tmp_path):
    asked = []

    def count(questions):
        asked.extend(question.index for question in questions)
        return answer(questions)

    questions = build_questions(5)
    gather_answers(Collection(tmp_path), "a", questions[:3], count, 2, ignore)
    found = gather_answers(Collection(tmp_path), "a", questions, count, 2, ignore)
    assert asked == [0, 1, 2, 3, 4]
    assert [item.output_ids for item in found] == [(index, 7) for index in range(5)]


def test_a_half_written_answer_is_asked_for_again(tmp_path):
    questions = build_questions(3)
    gather_answers(Collection(tmp_path), "a", questions, answer, 3, ignore)
    path = tmp_path / "answers-a.jsonl"
    path.write_bytes(path.read_bytes()[:-4])
    assert len(Collection(tmp_path).read_answers("a", questions)) == 2


def test_groups_share_prompts_and_never_noise():
    question = build_questions(1)[0]
    seeds = {reseed(question, group).sampler_seed for group in ("a", "b", "c")}
    assert len(seeds) == 3
    assert max(seeds) < 2**53


def test_columns_come_back_as_they_were(tmp_path):
    collection = Collection(tmp_path)
    rows = [build_columns(length) for length in (2, 0, 3)]
    collection.write_shard("a", "reference", range(3), pack_token_statistics(rows))
    found = list(collection.read_columns("a", "reference", 3))
    assert [len(columns["logprob"]) for columns in found] == [2, 0, 3]
    assert found[0]["grid_logprob"][0][-1] == -math.inf
    assert found[2]["margin"] == [0.0, 0.0, 0.0]


def test_a_skipped_alternative_is_none_and_moves_nobody(tmp_path):
    collection = Collection(tmp_path)
    told = AlternativeColumns(logprob=(-1.0, -2.0), margin=None, gap=None)
    rows = [told, SkippedAlternative(reason="nothing to cut"), told]
    collection.write_shard("a", "last-32", range(3), pack_alternative_columns(rows))
    found = list(collection.read_columns("a", "last-32", 3))
    assert found[1] is None
    assert [columns["logprob"] for columns in (found[0], found[2])] == [[-1.0, -2.0]] * 2


def test_only_missing_shards_are_computed(tmp_path):
    collection = Collection(tmp_path)
    assert collection.find_missing_shards("a", "reference", SHARD + 2) == [range(SHARD), range(SHARD, SHARD + 2)]
    collection.write_shard("a", "reference", range(SHARD), pack_token_statistics([build_columns(1)] * SHARD))
    assert collection.find_missing_shards("a", "reference", SHARD + 2) == [range(SHARD, SHARD + 2)]


def test_a_short_last_shard_is_computed_anew_when_more_answers_came(tmp_path):
    collection = Collection(tmp_path)
    collection.write_shard("a", "reference", range(3), pack_token_statistics([build_columns(1)] * 3))
    assert collection.find_missing_shards("a", "reference", 4) == [range(4)]


def test_answers_with_and_without_seed_do_not_share_a_shard():
    with pytest.raises(InvalidInput, match="seed"):
        pack_token_statistics([build_columns(1), build_columns(1, seeded=False)])
