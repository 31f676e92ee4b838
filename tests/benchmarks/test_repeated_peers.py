"""Repeated answers on made-up endpoints: who is asked what, what a trial is, and which endpoints each test rejects."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cheat_rows import find_row
from benchmarks.detection import build_plan
from benchmarks.detection_data import build_row_answerer
from benchmarks.detection_pools import Pool
from benchmarks.peer_mmd import build_kernels, build_mmd_judge
from benchmarks.peers import PEERS
from benchmarks.repeated_answers import (
    ALTERNATIVES,
    HONEST_CELLS,
    LOCAL_CELL,
    LOCAL_GROUP,
    Sizes,
    drop_seed,
    gather_cell,
    get_honest_group,
    get_prompt,
    get_repeated_group,
    keep_text,
    list_groups,
    list_tested,
    repeat,
)
from benchmarks.repeated_endpoints import Endpoint, Local, read_endpoint, read_local
from benchmarks.repeated_mmd import build_within_judge
from benchmarks.repeated_peers import (
    ANSWERS,
    ROWS,
    Shares,
    draw_answer_trials,
    format_cheats,
    format_honest,
    measure_endpoint,
    measure_mmd,
    measure_ranks,
)
from models.alternatives import AlternativeColumns
from models.calibrate_audit import ProviderCell
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
from models.requests import GRID, SAMPLER_NONE, ChatMessage, TokenStatistics
from scoring.evidence.audit import Unit
from scoring.evidence.tolerance import build_bound

RATIO = "text-int4-c100-v1"
SMALL = Sizes(prompts=3, local=10, repeated=2, copies=10, honest_everywhere=2, scored=4)
QUESTIONS = [
    Question(
        index=index,
        stratum="prose",
        messages=(ChatMessage(role="user", content=f"Question {index}"),),
        prompt_ids=(1, 2),
        sampler_seed=1000 + index,
        temperature_ppm=1_000_000,
        top_p_ppm=1_000_000,
        max_tokens=4,
    )
    for index in range(40)
]


class Profile:
    """What a plan reads of a profile."""

    def compute_tolerances(self):
        return {RATIO: build_bound(20_000)}


PLAN = build_plan(Profile(), "text")


def decode(token_ids):
    return "".join(chr(97 + token) for token in token_ids)


class Answerer:
    """Answers a question with two tokens that follow from its seed, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, questions):
        self.asked += [question.index for question in questions]
        return [
            Answered(
                question=question,
                output_ids=(question.sampler_seed % 20, question.sampler_seed % 7),
                prompt_tokens=2,
                logprobs=(-1.0, -1.0),
            )
            for question in questions
        ]


def ignore(done, total, what):
    """Hear of progress."""


def gather(collection, group, questions):
    answerer = Answerer()
    answers = gather_answers(collection, group, questions, answerer, 7, ignore)
    return answers, answerer.asked


def score(collection, group, ranks):
    """Write the reference's columns of answers of two tokens, both of one rank."""
    pair = (-0.5, -0.5)
    rows = [
        TokenStatistics(
            logprob=pair, raw_logprob=pair, rank=(rank, rank), entropy=(0.5, 0.5), pit_low=(0.1, 0.2),
            pit_high=(0.4, 0.9), grid_logprob=((-0.5,) * len(GRID),) * 2, margin=None, gap=None,
        )
        for rank in ranks
    ]  # fmt: skip
    for start in range(0, len(rows), SHARD):
        part = rows[start : start + SHARD]
        collection.write_shard(group, "reference", range(start, start + len(part)), pack_token_statistics(part))


def rerun(collection, group, names=ALTERNATIVES):
    """Write columns of some alternatives, under which the first four answers are as likely as they were."""
    columns = AlternativeColumns(logprob=(-0.5, -0.5), margin=None, gap=None)
    for name in names:
        collection.write_shard(group, name, range(4), pack_alternative_columns([columns] * 4))


def test_every_copy_of_a_question_has_an_index_and_a_seed_of_its_own():
    copies = repeat(QUESTIONS, range(5))
    assert len({question.index for question in copies}) == len({question.sampler_seed for question in copies}) == 200
    assert all(get_prompt(question) == int(question.messages[0].content.split()[1]) for question in copies)


def test_a_copy_is_the_same_question_however_many_are_asked_for():
    assert repeat(QUESTIONS, range(5))[: 3 * 40] == repeat(QUESTIONS, range(3))
    assert repeat(QUESTIONS, range(2, 5)) == repeat(QUESTIONS, range(5))[2 * 40 :]


def test_all_prompts_are_asked_once_before_any_is_asked_again():
    assert [get_prompt(question) for question in repeat(QUESTIONS[:3], range(2))] == [0, 1, 2, 0, 1, 2]


def test_an_honest_endpoint_in_the_cell_of_the_local_answers_has_noise_of_its_own():
    asked = repeat(QUESTIONS, range(3))
    seeds = [
        {reseed(item, group).sampler_seed for item in asked} for group in (LOCAL_GROUP, get_honest_group(LOCAL_CELL))
    ]
    assert not seeds[0] & seeds[1]


@pytest.mark.parametrize(("everywhere", "total"), [(1, 184), (4, 256)])
def test_an_endpoint_answers_some_prompts_ten_times_and_the_others_less_often(everywhere, total):
    asked = list_tested(QUESTIONS, Sizes(), everywhere)
    counts = np.bincount([get_prompt(question) for question in asked])
    assert len(asked) == len({question.index for question in asked}) == total
    assert counts.tolist() == [10] * 16 + [everywhere] * 24


def test_the_reference_pass_sees_whole_shards_that_hold_every_prompt():
    groups = list_groups(QUESTIONS, [find_row("int8")], Sizes())
    assert {group: scored for group, (_, scored) in groups.items()} == {
        LOCAL_GROUP: 1600,
        **{get_honest_group(cell): 192 for cell in HONEST_CELLS},
        get_repeated_group(find_row("int8")): 64,
    }
    assert all({get_prompt(item) for item in asked[:scored]} == set(range(40)) for asked, scored in groups.values())


def test_a_run_that_was_killed_asks_only_what_is_missing(tmp_path):
    collection, group = Collection(tmp_path), "repeated-int8"
    first, _ = gather(collection, group, list_tested(QUESTIONS, SMALL)[:9])
    answers, asked = gather(collection, group, list_tested(QUESTIONS, SMALL))
    assert asked == [question.index for question in list_tested(QUESTIONS, SMALL)[9:]]
    assert [answer.output_ids for answer in answers[:9]] == [answer.output_ids for answer in first]


def test_more_local_answers_are_added_to_those_that_are_there(tmp_path):
    collection = Collection(tmp_path)
    gather(collection, LOCAL_GROUP, repeat(QUESTIONS, range(2)))
    _, asked = gather(collection, LOCAL_GROUP, repeat(QUESTIONS, range(3)))
    assert asked == [question.index for question in repeat(QUESTIONS, range(2, 3))]


def test_no_model_is_opened_for_answers_that_are_all_there(tmp_path):
    collection = Collection(tmp_path)
    gather(collection, LOCAL_GROUP, QUESTIONS)
    # Opening this one would raise.
    gather_cell(collection, LOCAL_GROUP, QUESTIONS, ProviderCell(dtype="no-such-dtype", batch=1), ignore)
    assert len(collection.read_answers(LOCAL_GROUP, QUESTIONS)) == len(QUESTIONS)


def test_a_test_of_text_is_given_no_seed_and_no_log_probabilities():
    answer = drop_seed(Answerer()(QUESTIONS[:1])[0])
    request = answer.to_reference_request()
    assert (request.seed, request.sampler, answer.logprobs) == (None, SAMPLER_NONE, None)
    assert (request.prompt_ids, request.output_ids) == ((1, 2), answer.output_ids)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_cheated"), [("canned", True), ("honest", False)])
def test_a_row_answers_each_copy_by_its_own_seed_and_keeps_no_more_than_the_tokens(open_tiny, name, is_cheated):
    asked = repeat(QUESTIONS[:2], range(6))
    answers = keep_text(build_row_answerer(find_row(name), open_tiny))(asked)
    assert [answer.question for answer in answers] == asked
    assert len({answer.output_ids for answer in answers[::2]}) > 1
    assert all((item.is_cheated, item.logprobs, item.proofs) == (is_cheated, None, None) for item in answers)


def test_local_answers_are_used_by_whole_copies_and_lie_by_prompt(tmp_path):
    collection = Collection(tmp_path)
    asked = repeat(QUESTIONS[:3], range(12))
    gather(collection, LOCAL_GROUP, asked[:35])
    score(collection, LOCAL_GROUP, [get_prompt(question) for question in asked[:35]])
    local = read_local(collection, asked, SMALL, decode)
    assert local.scores == pytest.approx(np.log1p([[0.0] * 11, [1.0] * 11, [2.0] * 11]))
    assert [len(texts) for texts in local.texts] == [11] * 3


def test_fewer_local_answers_than_a_test_needs_end_the_report(tmp_path):
    with pytest.raises(SystemExit, match="too few"):
        read_local(Collection(tmp_path), repeat(QUESTIONS[:3], range(10)), SMALL, decode)


@pytest.fixture
def gathered(tmp_path):
    """A collection whose local answers have rank 3, and the local answers."""
    collection = Collection(tmp_path)
    gather(collection, LOCAL_GROUP, repeat(QUESTIONS[:3], range(10)))
    score(collection, LOCAL_GROUP, [3] * 30)
    return collection, read_local(collection, repeat(QUESTIONS[:3], range(10)), SMALL, decode)


def test_an_endpoint_is_placed_among_local_answers_to_its_own_prompts(gathered):
    collection, local = gathered
    asked = list_tested(QUESTIONS, SMALL)
    answers, _ = gather(collection, "repeated-int8", asked)
    rerun(collection, "repeated-int8")
    score(collection, "repeated-int8", [5] * 4)
    endpoint = read_endpoint(collection, "int8", "repeated-int8", (asked, 4), local, SMALL, decode)
    assert endpoint.prompts.tolist() == [0, 1, 2, 0]
    assert (endpoint.places > 10 / 11).all()
    assert endpoint.texts[1] == [decode(item.output_ids) for item in answers if get_prompt(item.question) == 1]
    assert ([len(texts) for texts in endpoint.texts], len(endpoint.pool.units)) == ([10, 10], 4)


def test_places_follow_the_local_answers_of_the_same_prompt(gathered):
    collection, local = gathered
    asked = list_tested(QUESTIONS, SMALL)
    gather(collection, "repeated-int8", asked)
    rerun(collection, "repeated-int8")
    score(collection, "repeated-int8", [3] * 4)
    scores = local.scores.copy()
    scores[1] += 1.0
    scores[2] -= 1.0
    endpoint = read_endpoint(
        collection, "int8", "repeated-int8", (asked, 4), replace(local, scores=scores), SMALL, decode
    )
    assert endpoint.places[1] < 1 / 11 and endpoint.places[2] > 10 / 11


@pytest.mark.parametrize(
    ("answered", "scored", "alternatives", "is_there"),
    [
        (21, 4, ALTERNATIVES, True),
        (20, 4, ALTERNATIVES, False),
        (21, 3, ALTERNATIVES, False),
        (21, 4, ALTERNATIVES[:-1], False),
    ],
)
def test_an_endpoint_that_is_not_all_there_is_left_out(gathered, answered, scored, alternatives, is_there):
    collection, local = gathered
    asked = list_tested(QUESTIONS, SMALL)
    assert len(asked) == 21
    gather(collection, "repeated-int8", asked[:answered])
    score(collection, "repeated-int8", [3] * scored)
    rerun(collection, "repeated-int8", alternatives)
    found = read_endpoint(collection, "int8", "repeated-int8", (asked, 4), local, SMALL, decode)
    assert (found is not None) is is_there


def make_endpoint(letters, places, g_ppm, seed=1):
    generator = np.random.default_rng(seed)
    return Endpoint(
        name="made up",
        texts=[["".join(generator.choice(list(letters), 20)) for _ in range(10)] for _ in range(16)],
        places=places(generator, 184),
        prompts=np.array([*range(40), *list(range(16)) * 9]),
        pool=Pool(units=[Unit(statistics_ppm={RATIO: g_ppm})] * 9, ratios=[], tokens=60.0),
    )


def make_honest(seed=1):
    return make_endpoint("abcd", lambda generator, count: generator.random(count), 0, seed)


def make_damaged():
    return make_endpoint("abce", lambda generator, count: generator.beta(1, 4, count), 1_000_000)


def make_local():
    generator = np.random.default_rng(9)
    return Local(
        texts=[["".join(generator.choice(list("abcd"), 20)) for _ in range(20)] for _ in range(40)],
        scores=np.zeros((40, 20)),
    )


def test_honest_lives_pass_and_damaged_ones_are_rejected_by_every_test():
    honest = [measure_endpoint(make_honest(seed), make_local(), PLAN, 200, 8) for seed in (1, 2, 3)]
    damaged = measure_endpoint(make_damaged(), make_local(), PLAN, 200, 8)
    # One endpoint's largest trials are nearly the same answers every time: a share there is near 0 or 1.
    assert np.mean([shares[0].mmd for shares in honest]) < 0.2
    assert np.mean([shares[0].mmd_within for shares in honest]) < 0.2
    assert np.mean([shares[0].ranks for shares in honest]) < 0.15
    assert all(item.audit == 0.0 for shares in honest for item in shares)
    assert [(item.answers, item.tokens) for item in damaged] == [(10, 600), (40, 2400), (160, 9600)]
    assert (damaged[1].mmd, damaged[2].mmd, damaged[1].audit) == (1.0, 1.0, 1.0)
    assert (damaged[1].mmd_within, damaged[2].mmd_within) == (1.0, 1.0)
    assert damaged[0].ranks > 0.5 and damaged[1].ranks == 1.0


def make_prompt_texts(generator, prompt):
    """Return 10 texts to a prompt: half of the prompts are answered in nearly one way, the others in many."""
    letters = "aaaaaaaaab" if prompt % 2 else "abcdefghij"
    return ["".join(generator.choice(list(letters), 30)) for _ in range(10)]


def test_permutations_within_prompts_keep_alpha_where_the_published_ones_reject_too_seldom():
    generator = np.random.default_rng(5)
    found = {build_mmd_judge: 0.0, build_within_judge: 0.0}
    for _ in range(150):
        texts = [[make_prompt_texts(generator, prompt) for prompt in range(4)] for _ in range(2)]
        for build in found:
            found[build] += build(build_kernels(*texts), permutations=100)(np.arange(4)[None])[0] / 150
    assert found[build_mmd_judge] < 0.02 < found[build_within_judge] < 0.11


def test_this_audit_is_given_the_proofs_of_as_many_answers_as_the_peers():
    slow = make_endpoint("abcd", lambda generator, count: generator.random(count), 40_000)
    assert [item.audit for item in measure_endpoint(slow, make_local(), PLAN, 10, 1)] == [0.0, 1.0, 1.0]


def test_a_test_says_nothing_where_it_has_too_few_prompts():
    endpoint = make_damaged()
    assert measure_ranks(endpoint, 41, 5) is None
    assert measure_mmd(build_mmd_judge, endpoint, make_local(), 170, 5) is None
    assert measure_endpoint(endpoint, make_local(), PLAN, 10, 2)[-1].ranks is None


@pytest.mark.parametrize("answers", [10, 40])
def test_a_trial_asks_no_prompt_twice_and_any_answer_to_it_may_be_drawn(answers):
    prompts = make_honest().prompts
    trials = draw_answer_trials(prompts, answers, 400, 3)
    assert trials.shape == (400, answers)
    assert all(len(set(row)) == answers for row in prompts[trials].tolist())
    assert set(trials.ravel().tolist()) == set(range(184))


def make_shares(name, answers, mmd, ranks, audit):
    within = mmd + 0.01
    return Shares(
        name=name, answers=answers, tokens=answers * 59.6, mmd=mmd, mmd_within=within, ranks=ranks, audit=audit
    )


def test_the_table_has_the_power_and_the_false_alarms_of_the_worse_honest_endpoint():
    honest = [
        make_shares("bf16-64", 10, 0.04, 0.07, 0.0),
        make_shares("fp32-64", 10, 0.06, 0.05, 0.0),
        make_shares("bf16-64", 160, 0.5, None, 0.0),
    ]
    cheats = [make_shares("int8", 10, 0.1, 0.2, 0.0), make_shares("int8", 160, 0.3, None, 1.0)]
    tables = format_cheats(cheats, honest), format_honest(honest)
    assert all({line.count("|") for line in table.splitlines()} == {7} for table in tables)
    assert format_cheats(cheats, honest).splitlines()[2:] == [
        "| int8 | 10, 596 | 0.10, 0.06 | 0.11, 0.07 | 0.20, 0.07 | 0.00, 0.00 |",
        "| int8 | 160, 9536 | 0.30, 0.50 | 0.31, 0.51 | - | 1.00, 0.00 |",
    ]
    assert format_honest(honest).splitlines()[2:] == [
        "| bf16-64 | 10, 596 | 0.04 | 0.05 | 0.07 | 0.00 |",
        "| fp32-64 | 10, 596 | 0.06 | 0.07 | 0.05 | 0.00 |",
        "| bf16-64 | 160, 9536 | 0.50 | 0.51 | - | 0.00 |",
    ]


def test_the_rows_are_rows_of_the_detection_benchmark_and_the_peers_say_how_many_answers_were_used():
    assert all(find_row(name).gguf is None for name in ROWS)
    assert max(ANSWERS) == Sizes().repeated * Sizes().copies
    chosen = {peer.name: peer.chosen_here for peer in PEERS}
    assert f"{Sizes().local} local answers" in chosen["rank-uniformity"]
